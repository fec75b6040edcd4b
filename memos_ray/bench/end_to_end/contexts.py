"""The systems that are compared: what each puts before the question.

Every context has the same form, the passages of `search(..., render="prompt")` (see `retrieval.passages`), so that only
the choice of messages differs.
"""

from __future__ import annotations

from memos_ray.bench.locomo_data import Conversation, DatedSession

MEMORY, FULL, NONE = "memos_ray", "full-context", "none"
SYSTEMS = {
    MEMORY: "what a search returns",
    FULL: "the whole conversation",
    NONE: "nothing: what the model guesses",
}


def full_context(conversation: Conversation) -> str:
    """Every message of the conversation."""
    sessions = sorted(conversation.sessions, key=lambda session: session.when)
    return "\n\n".join("\n".join([f"{s.when:%Y-%m-%d}", *_lines(s)]) for s in sessions)


def messages(conversation: Conversation) -> list[str]:
    """Every message as it stands in a context, without the day."""
    return [line for session in conversation.sessions for line in _lines(session)]


def _lines(session: DatedSession) -> list[str]:
    return ["\n  ".join(f"{turn.speaker}: {turn.text}".splitlines()) for turn in session.turns]
