"""Messages of a conversation -> drafts, one for each message. Merges and stores nothing, calls no model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from memos_ray.errors import Invalid
from memos_ray.ingest.checks import check_keys, check_metadata, check_text, one_of, optional_text
from memos_ray.ingest.dates import read_times
from memos_ray.ingest.drafts import MemoryDraft
from memos_ray.ingest.entities import find_entities, unique
from memos_ray.ingest.timestamps import parse_timestamp, parse_utc
from memos_ray.types import Kind, Source

Timestamp = datetime | date | str | int | float

_WHEN = ("timestamp", "time", "created_at")
_TURN = ("id", "turn", "dia_id")
_SPEAKER = ("name", "speaker")
_CONTENT = ("content", "text")
_REST = (
    "role",
    "session",
    "conversation",
    "metadata",
    "expires_at",
    "valid_to",
    "tool_calls",
    "tool_call_id",
)
KNOWN_KEYS = frozenset((*_CONTENT, *_SPEAKER, *_WHEN, *_TURN, *_REST))
_NOT_PEOPLE = ("assistant", "system", "developer", "tool", "function")
_MANY_NAMES = 50  # speakers of one call that are looked for in every text


@dataclass(frozen=True, slots=True)
class _Defaults:
    """What the call says for messages that do not say it themselves."""

    timestamp: datetime
    conversation: str | None
    session: str | None
    speaker: str | None
    metadata: dict[str, Any]
    expires_at: datetime | None


def parse_messages(
    messages: str | Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    timestamp: Timestamp | None,
    now: datetime,
    conversation: str | None = None,
    session: str | None = None,
    speaker: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    expires_at: Timestamp | None = None,
) -> list[MemoryDraft]:
    """Drafts in the order of `messages`: a text, one message, or a list of messages and texts.

    A message is a mapping with `content` (text, or OpenAI's list of parts: the text of text parts, the type
    of others in brackets) and, as far as known: `role`; `name` or `speaker`; `timestamp`, `time` or
    `created_at`; `id`, `turn` or `dia_id`; `session`; `conversation`; `metadata`; `expires_at`; `valid_to`;
    `tool_calls` and `tool_call_id`. Role tool gives kind `tool`, every other role kind `message`.

    A message's own time wins over `timestamp`, which wins over `now`: see `timestamps.parse_timestamp` for
    the forms (without a zone: UTC), `dates.read_times` for `valid_from`. `speaker` is for messages that name
    none and whose role is not the assistant's, the system's or a tool's. Raises `Invalid`, which names the
    position (from 0) of what is wrong.
    """
    items = _as_list(messages)
    defaults = _Defaults(
        timestamp=parse_timestamp(now if timestamp is None else timestamp, "timestamp"),
        conversation=optional_text(conversation, "conversation", "conversation"),
        session=optional_text(session, "session", "session"),
        speaker=optional_text(speaker, "speaker", "speaker"),
        metadata=check_metadata(metadata, "metadata", "metadata"),
        expires_at=None if expires_at is None else parse_utc(expires_at, "expires_at", "expires_at"),
    )
    checked = [_checked(item, position) for position, item in enumerate(items)]
    speakers = [_speaker(item, defaults, position) for position, item in enumerate(checked)]
    known = unique([name for name in dict.fromkeys(speakers) if name][:_MANY_NAMES])
    return [
        _draft(item, position, name, known, defaults)
        for position, (item, name) in enumerate(zip(checked, speakers, strict=True))
    ]


def _as_list(messages: Any) -> Sequence[Any]:
    if isinstance(messages, (str, Mapping)):
        return [messages]
    if isinstance(messages, Sequence) and not isinstance(messages, (bytes, bytearray)):
        if not messages:
            raise Invalid("messages is empty; give at least one", argument="messages")
        return messages
    message = f"messages must be a text, a mapping or a list of mappings, not {type(messages).__name__}"
    raise Invalid(message, argument="messages")


def _checked(item: Any, position: int) -> Mapping[str, Any]:
    if isinstance(item, str):
        return {"content": item}
    if not isinstance(item, Mapping):
        message = f"messages[{position}] must be a text or a mapping, not {type(item).__name__}"
        raise Invalid(message, argument="messages")
    check_keys(item, KNOWN_KEYS, f"messages[{position}]", "messages")
    return item


def _role(item: Mapping[str, Any], where: str) -> str | None:
    role = optional_text(item.get("role"), f"{where}.role", "messages")
    return role.strip().lower() if role is not None else None


def _speaker(item: Mapping[str, Any], defaults: _Defaults, position: int) -> str | None:
    where = f"messages[{position}]"
    given = optional_text(one_of(item, _SPEAKER, where, "messages"), f"{where}.name", "messages")
    if given is not None:
        return given.strip()
    return None if _role(item, where) in _NOT_PEOPLE else defaults.speaker


def _draft(
    item: Mapping[str, Any], position: int, speaker: str | None, known: tuple[str, ...], defaults: _Defaults
) -> MemoryDraft:
    where = f"messages[{position}]"
    text = _text(item, where)
    when = one_of(item, _WHEN, where, "messages")
    said_at = defaults.timestamp if when is None else parse_timestamp(when, f"{where}.timestamp", "messages")
    times, valid_from = read_times(text, said_at)
    valid_to = _optional_utc(item, "valid_to", where)
    if valid_to is not None and valid_to <= valid_from:
        message = f"{where}.valid_to must be later than the message's valid_from, {valid_from.isoformat()}"
        raise Invalid(message, argument="messages")
    role = _role(item, where)
    metadata = defaults.metadata | check_metadata(item.get("metadata"), f"{where}.metadata", "messages")
    call = optional_text(item.get("tool_call_id"), f"{where}.tool_call_id", "messages")
    if call is not None:
        metadata["tool_call_id"] = call
    names = find_entities(text, known)
    return MemoryDraft(
        text=text,
        kind=Kind.TOOL if role in ("tool", "function") else Kind.MESSAGE,
        valid_from=valid_from,
        valid_to=valid_to,
        entities=unique((speaker, *names)) if speaker else names,
        times=times,
        source=Source(
            conversation=_own_or(item, "conversation", where, defaults.conversation),
            session=_own_or(item, "session", where, defaults.session),
            turn=optional_text(one_of(item, _TURN, where, "messages"), f"{where}.id", "messages"),
            speaker=speaker,
            role=role,
            said_at=said_at.astimezone(UTC),
        ),
        metadata=metadata,
        expires_at=_optional_utc(item, "expires_at", where) or defaults.expires_at,
        said_at=said_at,
    )


def _own_or(item: Mapping[str, Any], key: str, where: str, default: str | None) -> str | None:
    own = optional_text(item.get(key), f"{where}.{key}", "messages")
    return default if own is None else own


def _optional_utc(item: Mapping[str, Any], key: str, where: str) -> datetime | None:
    value = item.get(key)
    return None if value is None else parse_utc(value, f"{where}.{key}", "messages")


def _text(item: Mapping[str, Any], where: str) -> str:
    """The message as a reader sees it: its text, notes of what is not text, and the tools it calls."""
    content = one_of(item, _CONTENT, where, "messages")
    calls = item.get("tool_calls")
    pieces = [] if content is None and calls else _pieces(content, where)
    if calls:
        pieces += _calls(calls, where)
    return check_text("\n".join(pieces), f"{where}.content", "messages")


def _pieces(content: Any, where: str) -> list[str]:
    if isinstance(content, str):
        return [content]
    if not isinstance(content, Sequence) or isinstance(content, (bytes, bytearray)):
        kind = type(content).__name__
        raise Invalid(f"{where}.content must be text or a list of parts, not {kind}", argument="messages")
    pieces = []
    for index, part in enumerate(content):
        if isinstance(part, str):
            pieces.append(part)
            continue
        if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
            message = (
                f"{where}.content[{index}] must be a part with a type, like {{'type': 'text', 'text': …}}"
            )
            raise Invalid(message, argument="messages")
        text = part.get("text")
        pieces.append(text if isinstance(text, str) else f"[{part['type']}]")
    return pieces


def _calls(calls: Any, where: str) -> list[str]:
    """OpenAI's `tool_calls` as notes: `[calls search({"q": "tea"})]`."""
    notes = []
    for call in calls if isinstance(calls, Sequence) and not isinstance(calls, str) else [calls]:
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise Invalid(
                f"{where}.tool_calls must be a list of function calls with a name", argument="messages"
            )
        arguments = function.get("arguments", "")
        shown = (
            arguments
            if isinstance(arguments, str)
            else json.dumps(arguments, ensure_ascii=False, default=str)
        )
        notes.append(f"[calls {function['name']}({shown})]")
    return notes
