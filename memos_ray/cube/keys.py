"""By what memories are recognised: equal texts, repeated deliveries, sessions, functional triples.

Two memories of different *scope* (user_id, agent_id, run_id in the metadata) are never taken for one another,
since a reader who filters by one scope would lose what went to the other.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from memos_ray.cube.columns import to_us
from memos_ray.types import Kind, Source

SCOPE_FIELDS = ("user_id", "agent_id", "run_id")
KEY_FIELD = "key"  # of a row's payload: (subject, relation) of a functional triple

Key = tuple[Any, ...]


def normal(text: str) -> str:
    """NFC, runs of white space as one space."""
    return " ".join((text if text.isascii() else unicodedata.normalize("NFC", text)).split())


def scope_of(metadata: Mapping[str, Any]) -> Key:
    """The ids that say whom a memory concerns; all None for most."""
    if not metadata or _SCOPE.isdisjoint(metadata):
        return _NO_SCOPE
    return tuple(_hashable(metadata.get(f)) for f in SCOPE_FIELDS)


def _hashable(value: Any) -> Any:
    return value if value is None or isinstance(value, (str, int, float)) else repr(value)


_SCOPE = frozenset(SCOPE_FIELDS)
_NO_SCOPE: Key = (None,) * len(SCOPE_FIELDS)


def same_text_key(kind: Kind, text: str, valid_from: datetime, metadata: Mapping[str, Any]) -> Key | None:
    """Where to look for an exactly equal memory. None for messages, which are never merged.

    A hash stands for the text; whoever looks up compares the texts (and `valid_to`) themselves.
    """
    if kind is Kind.MESSAGE:
        return None
    return (hash((kind.value, normal(text), to_us(valid_from))), scope_of(metadata))


def delivery_key(source: Source, metadata: Mapping[str, Any]) -> Key | None:
    """What names a delivered message: its turn, within conversation and session, and who said it."""
    if not source.turn:
        return None
    return (
        source.conversation,
        source.session,
        source.turn,
        source.speaker or source.role,
        scope_of(metadata),
    )


def session_key(source: Source, metadata: Mapping[str, Any]) -> Key | None:
    """The session that a message belongs to; None if the source names none."""
    if source.conversation is None and source.session is None:
        return None
    return (source.conversation, source.session, scope_of(metadata))


def holder_key(key: object, metadata: Mapping[str, Any]) -> Key | None:
    """(subject, relation) of a functional triple, as stored in a row's payload."""
    if not isinstance(key, (list, tuple)):
        return None
    subject, relation = key
    return (normal(str(subject)).casefold(), normal(str(relation)).casefold(), scope_of(metadata))


def triple_object(text: str, metadata: Mapping[str, Any]) -> str:
    """What a functional triple says of its key: `metadata["object"]`, or the whole text."""
    return normal(str(metadata.get("object") or text)).casefold()
