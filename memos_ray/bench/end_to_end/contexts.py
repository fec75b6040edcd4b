"""The systems that are compared: what each puts before the question.

Every context has the same form, one message a line in order of time as `render` writes it, so that only the choice of
messages differs.
"""

from __future__ import annotations

from collections.abc import Sequence

from memos_ray.bench.locomo_data import Conversation
from memos_ray.retrieval.render import render
from memos_ray.types import MemoryItem, SearchHit

MEMORY, FULL, NONE = "memos_ray", "full-context", "none"
SYSTEMS = {
    MEMORY: "what a search returns",
    FULL: "the whole conversation",
    NONE: "nothing: what the model guesses",
}


def full_context(conversation: Conversation) -> str:
    """Every message of the conversation."""
    return "\n".join(messages(conversation))


def messages(conversation: Conversation) -> list[str]:
    """Every message as it stands in a context; the form of `render`."""
    return [
        f"{session.when:%Y-%m-%d} {turn.speaker}: {turn.text}"
        for session in sorted(conversation.sessions, key=lambda session: session.when)
        for turn in session.turns
    ]


def search_context(hits: Sequence[SearchHit]) -> str:
    """What a search found, in order of time; within a session as it was said."""
    return "\n".join(render(item) for item in sorted((hit.item for hit in hits), key=_when))


def _when(item: MemoryItem) -> tuple[float, tuple[int, ...]]:
    said = item.source.said_at or item.valid_from
    numbers = (item.source.turn or "").strip("D").split(":")
    return said.timestamp(), tuple(int(n) for n in numbers if n.isdigit())
