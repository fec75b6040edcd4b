"""Adding memories: what is new, what was there already, what closes what.

- Messages are never merged with one another. A message that names its turn and came before (same conversation,
  session, turn, speaker, scope) is a repeated delivery (NONE); with another text it is an edit, and becomes a new
  version of that memory. What counts is the text as last delivered: a caller's own update in between is neither
  undone by a repetition nor taken for one. A deleted message that is delivered again is added anew.
- Anything else that is exactly equal to an active or superseded memory (kind, text up to white space and NFC,
  both valid times, scope, key) is that memory: NONE, or MERGE (a new version) if it brings another source or
  anything else that the memory does not hold yet.
- A functional triple closes the earlier ones of its key that say otherwise; one that comes late is closed itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from memos_ray.cube.keys import (
    KEY_FIELD,
    Key,
    delivery_key,
    holder_key,
    normal,
    same_text_key,
    scope_of,
    session_key,
    triple_object,
)
from memos_ray.cube.requests import AddMemories
from memos_ray.cube.results import ALONG
from memos_ray.cube.rows import JournalRow, Op
from memos_ray.cube.scribe import DELIVERED, Scribe
from memos_ray.cube.validate import (
    Limits,
    check_entities,
    check_kind,
    check_links,
    check_metadata,
    check_name,
    check_source,
    check_span,
    check_text,
    check_time,
    check_times,
)
from memos_ray.errors import Invalid
from memos_ray.ingest.drafts import MemoryDraft
from memos_ray.types import Kind, Link, LinkType, Source, Status

_NOWHERE = Source()


def checked(request: AddMemories, limits: Limits) -> list[MemoryDraft]:
    """The drafts in normal form. `Invalid` names the first draft that cannot be stored, and why."""
    if len(request.drafts) > limits.max_batch:
        raise Invalid(
            f"{len(request.drafts)} memories in one call; at most {limits.max_batch} are allowed: split it",
            argument="drafts",
        )
    out = []
    for position, draft in enumerate(request.drafts):
        try:
            out.append(_checked(draft, position, len(request.origins), limits))
        except Invalid as error:
            if len(request.drafts) == 1:
                raise
            raise Invalid(
                f"memory {position} of the call: {error}", **error.fields, position=position
            ) from None
    return out


def _checked(draft: MemoryDraft, position: int, n_origins: int, limits: Limits) -> MemoryDraft:
    end = n_origins or position
    for p in draft.derived_from:
        if not 0 <= p < end:
            where = "origins" if n_origins else "earlier drafts of the call"
            raise Invalid(
                f"derived_from names position {p}; there are {end} {where}", argument="derived_from"
            )
    key = draft.supersedes_key
    if key is not None and len(key) != 2:
        raise Invalid("supersedes_key must be (subject, relation)", argument="supersedes_key")
    valid_from = check_time(draft.valid_from, "valid_from")
    valid_to = None if draft.valid_to is None else check_time(draft.valid_to, "valid_to")
    check_span(valid_from, valid_to)
    return replace(
        draft,
        text=check_text(draft.text, "text", limits.max_text_bytes),
        kind=check_kind(draft.kind),
        valid_from=valid_from,
        valid_to=valid_to,
        entities=check_entities(draft.entities, limits),
        links=check_links(draft.links, limits),
        times=check_times(draft.times, limits),
        source=check_source(draft.source),
        metadata=check_metadata(draft.metadata, limits),
        expires_at=None if draft.expires_at is None else check_time(draft.expires_at, "expires_at"),
        supersedes_key=None
        if key is None
        else (check_name(key[0], "subject"), check_name(key[1], "relation")),
    )


def add(request: AddMemories, drafts: Sequence[MemoryDraft], scribe: Scribe) -> None:
    """Plans the drafts in order. `NotFound` for an unknown origin."""
    origins = [scribe.current(o).memory_id for o in request.origins]
    ids: list[str | None] = []
    for position, draft in enumerate(drafts):
        base = origins if origins else ids
        parents = dict.fromkeys(base[p] for p in draft.derived_from)
        links = draft.links + tuple(Link(LinkType.DERIVED_FROM, p) for p in parents if p is not None)
        draft = replace(draft, links=tuple(dict.fromkeys(links))) if links else draft
        plan = _add_message if draft.kind is Kind.MESSAGE else _add_other
        ids.append(plan(draft, position, scribe))


def _add_message(draft: MemoryDraft, position: int, scribe: Scribe) -> str | None:
    current = next(scribe.draft.deliveries(delivery_key(draft.source, draft.metadata)), None)
    if current is not None:
        if _digest(draft.text) == (current.payload.get(DELIVERED) or _digest(current.text)):
            scribe.unchanged(current)
        else:
            edit = {
                "text": draft.text,
                "times": draft.times,
                "entities": draft.entities,
                "metadata": {**current.metadata, **draft.metadata},
            }
            scribe.version(current, Op.UPDATE, edit, payload={DELIVERED: None})
        return current.memory_id
    before = next(scribe.draft.session(session_key(draft.source, draft.metadata)), None)
    links = draft.links
    if before is not None and before.memory_id is not None:
        links = (*links, Link(LinkType.FOLLOWS, before.memory_id))
    return _new(draft, position, scribe, links).memory_id


def delivered_payload(current: JournalRow) -> dict[str, str]:
    """What an update of a message's text leaves behind, so that the delivered text is still recognised."""
    if current.kind is not Kind.MESSAGE or current.payload.get(DELIVERED):
        return {}
    return {DELIVERED: _digest(current.text)}


def _digest(text: str) -> str:
    return hashlib.sha256(normal(text).encode()).hexdigest()[:32]


def _add_other(draft: MemoryDraft, position: int, scribe: Scribe) -> str | None:
    key = holder_key(draft.supersedes_key, draft.metadata)
    others = _holders_of_another(draft, key, scribe)
    valid_to, status = _closed_by_later(draft, others)
    equal = _equal(draft, valid_to, key, scribe)
    if equal is not None:
        _join(draft, equal, scribe)
        return equal.memory_id
    earlier = [r for r in others if r.valid_from <= draft.valid_from and _holds_at(r, draft.valid_from)]
    links = draft.links + tuple(
        Link(LinkType.SUPERSEDES, r.memory_id) for r in earlier if r.memory_id is not None
    )
    made = _new(draft, position, scribe, links, valid_to, status)
    for r in earlier:
        closed = Status.SUPERSEDED if r.status is Status.ACTIVE else r.status
        scribe.version(r, Op.UPDATE, {"valid_to": draft.valid_from, "status": closed}, event=ALONG)
    return made.memory_id


def _holders_of_another(draft: MemoryDraft, key: Key | None, scribe: Scribe) -> list[JournalRow]:
    """Memories of the same key that name another object; archived ones are out of it."""
    said = triple_object(draft.text, draft.metadata)
    return [
        r
        for r in scribe.draft.holders(key)
        if r.status is not Status.ARCHIVED
        and holder_key(r.payload.get(KEY_FIELD), r.metadata) == key
        and triple_object(r.text, r.metadata) != said
    ]


def _closed_by_later(draft: MemoryDraft, others: list[JournalRow]) -> tuple[datetime | None, Status]:
    """An older fact that arrives late ends where the next one of its key begins."""
    later = min((r.valid_from for r in others if r.valid_from > draft.valid_from), default=None)
    if later is None:
        return draft.valid_to, Status.ACTIVE
    return later if draft.valid_to is None else min(later, draft.valid_to), Status.SUPERSEDED


def _holds_at(row: JournalRow, when: datetime) -> bool:
    return row.valid_to is None or row.valid_to > when


def _equal(
    draft: MemoryDraft, valid_to: datetime | None, key: Key | None, scribe: Scribe
) -> JournalRow | None:
    text, scope = normal(draft.text), scope_of(draft.metadata)
    for row in scribe.draft.same_text(
        same_text_key(draft.kind, draft.text, draft.valid_from, draft.metadata)
    ):
        if (
            row.status in (Status.ACTIVE, Status.SUPERSEDED)
            and row.kind is draft.kind
            and row.valid_from == draft.valid_from
            and (row.valid_to == valid_to or (key is not None and _was_closed(row, draft)))
            and normal(row.text) == text
            and scope_of(row.metadata) == scope
            and holder_key(row.payload.get(KEY_FIELD), row.metadata) == key
        ):
            return row
    return None


def _was_closed(row: JournalRow, draft: MemoryDraft) -> bool:
    """A holder of the key that was delivered like `draft` and closed since: a repetition does not open it again."""
    if row.status is not Status.SUPERSEDED or row.valid_to is None:
        return False
    return draft.valid_to is None or draft.valid_to >= row.valid_to


def _join(draft: MemoryDraft, row: JournalRow, scribe: Scribe) -> None:
    """The draft is the memory `row`: adds to it what it does not hold yet."""
    room = scribe.limits.max_names
    joined: dict[str, Any] = {
        "sources": tuple(dict.fromkeys((*row.sources, *_sources(draft))))[:room],
        "entities": tuple(dict.fromkeys((*row.entities, *draft.entities)))[:room],
        "links": tuple(dict.fromkeys((*row.links, *draft.links)))[:room],
        "times": tuple(dict.fromkeys((*row.times, *draft.times)))[:room],
        "metadata": {**draft.metadata, **row.metadata},
        "expires_at": last_expiry((row.expires_at, draft.expires_at)),
    }
    if all(getattr(row, name) == value for name, value in joined.items()):
        scribe.unchanged(row)
    else:
        scribe.version(row, Op.UPDATE, joined, event="MERGE")


def last_expiry(ends: Iterable[datetime | None]) -> datetime | None:
    """What is kept twice is kept for as long as the longer of the two."""
    times = list(ends)
    return None if None in times else max(t for t in times if t is not None)


def _sources(draft: MemoryDraft) -> tuple[Source, ...]:
    return () if draft.source == _NOWHERE else (draft.source,)


def _new(
    draft: MemoryDraft, position: int, scribe: Scribe, links: tuple[Link, ...],
    valid_to: datetime | None = None, status: Status = Status.ACTIVE,
) -> JournalRow:  # fmt: skip
    return scribe.row(
        Op.ADD,
        memory_id=scribe.new_id(position),
        version=1,
        text=draft.text,
        kind=draft.kind,
        valid_from=draft.valid_from,
        valid_to=valid_to or draft.valid_to,
        expires_at=draft.expires_at,
        status=status,
        entities=draft.entities,
        links=links,
        times=draft.times,
        sources=_sources(draft),
        metadata=draft.metadata,
        payload={} if draft.supersedes_key is None else {KEY_FIELD: list(draft.supersedes_key)},
    )
