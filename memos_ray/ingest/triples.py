"""Triples (subject, relation, object) -> drafts with a readable text and a typed link. Infers nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from memos_ray.errors import Invalid
from memos_ray.ingest.checks import check_keys, check_metadata, check_text, one_of
from memos_ray.ingest.drafts import MemoryDraft
from memos_ray.ingest.entities import MAX_NAME, unique
from memos_ray.ingest.messages import Timestamp
from memos_ray.ingest.timestamps import parse_utc
from memos_ray.text.script import has_cjk
from memos_ray.types import Kind, Link, LinkType, Source

_SUBJECT = ("subject", "s")
_RELATION = ("relation", "predicate", "r", "p")
_OBJECT = ("object", "o")
KNOWN_KEYS = frozenset(
    (*_SUBJECT, *_RELATION, *_OBJECT, "valid_from", "valid_to", "functional", "metadata", "text")
)
_RESERVED = frozenset(LinkType)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_FORM = "(subject, relation, object), with valid_from and valid_to after them if known, or a mapping"


def parse_triples(
    triples: Sequence[Sequence[Any] | Mapping[str, Any]],
    *,
    now: datetime,
    functional: bool = False,
    valid_from: Timestamp | None = None,
    document: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    expires_at: Timestamp | None = None,
) -> list[MemoryDraft]:
    """One draft of kind `triple` for each triple, in order.

    A triple is (subject, relation, object), optionally with `valid_from` and `valid_to`, or a mapping with
    `subject`, `relation` (or `predicate`), `object`, and optionally `valid_from`, `valid_to`, `functional`,
    `metadata` and `text`. The draft's text is `text` or made of the three ("Maya lives in Porto"); its link
    is of type relation, to `entity:<object>`; its entities are subject and object; its metadata name all
    three.

    `functional` says that a subject has one object at a time, so that a later triple closes the earlier
    one's validity. Times without a zone are UTC; the default is `valid_from`, else `now`. Raises `Invalid`,
    which names the position (from 0).
    """
    if isinstance(triples, (str, bytes, Mapping)) or not isinstance(triples, Sequence):
        raise Invalid(f"triples must be a list; each is {_FORM}", argument="triples")
    if not triples:
        raise Invalid("triples is empty; give at least one", argument="triples")
    default = parse_utc(now if valid_from is None else valid_from, "valid_from", "valid_from")
    expiry = None if expires_at is None else parse_utc(expires_at, "expires_at", "expires_at")
    common = check_metadata(metadata, "metadata", "metadata")
    source = Source(document=None if document is None else check_text(document, "document", "document"))
    return [
        _draft(
            _as_mapping(triple, f"triples[{i}]"), f"triples[{i}]", default, functional, expiry, common, source
        )
        for i, triple in enumerate(triples)
    ]


def readable(subject: str, relation: str, obj: str) -> str:
    """A sentence without its full stop: ("Maya", "lives_in", "Porto") -> "Maya lives in Porto"."""
    words = " ".join(_CAMEL.sub(" ", relation).replace("_", " ").replace("-", " ").split())
    if has_cjk(words) or (has_cjk(subject) and has_cjk(obj)):
        return f"{subject}{words}{obj}" if has_cjk(words) else f"{subject} {words} {obj}"
    return f"{subject} {words.lower() if relation.isupper() or _CAMEL.search(relation) else words} {obj}"


def _as_mapping(triple: Any, where: str) -> Mapping[str, Any]:
    if isinstance(triple, Mapping):
        check_keys(triple, KNOWN_KEYS, where, "triples")
        return triple
    if isinstance(triple, (str, bytes)) or not isinstance(triple, Sequence) or not 3 <= len(triple) <= 5:
        raise Invalid(f"{where} must be {_FORM}, not {triple!r:.100}", argument="triples")
    return dict(zip(("subject", "relation", "object", "valid_from", "valid_to"), triple, strict=False))


def _draft(
    triple: Mapping[str, Any],
    where: str,
    default: datetime,
    functional: bool,
    expiry: datetime | None,
    common: dict[str, Any],
    source: Source,
) -> MemoryDraft:
    subject, relation, obj = (
        _name(one_of(triple, names, where, "triples"), f"{where}.{names[0]}")
        for names in (_SUBJECT, _RELATION, _OBJECT)
    )
    if relation in _RESERVED:
        reserved = ", ".join(sorted(_RESERVED))
        raise Invalid(f"{where}.relation {relation!r} is reserved, as are {reserved}", argument="triples")
    given = triple.get("valid_from")
    start = default if given is None else parse_utc(given, f"{where}.valid_from", "triples")
    ends = triple.get("valid_to")
    end = None if ends is None else parse_utc(ends, f"{where}.valid_to", "triples")
    if end is not None and end <= start:
        raise Invalid(
            f"{where}.valid_to must be later than its valid_from, {start.isoformat()}", argument="triples"
        )
    own = triple.get("functional", functional)
    if not isinstance(own, bool):
        raise Invalid(f"{where}.functional must be true or false, not {own!r:.100}", argument="triples")
    text = triple.get("text")
    return MemoryDraft(
        text=readable(subject, relation, obj)
        if text is None
        else check_text(text, f"{where}.text", "triples"),
        kind=Kind.TRIPLE,
        valid_from=start,
        valid_to=end,
        entities=unique((subject, obj)),
        links=(Link(type=relation, target=f"entity:{obj}"),),
        source=source,
        metadata={
            **common,
            **check_metadata(triple.get("metadata"), f"{where}.metadata", "triples"),
            **{"subject": subject, "relation": relation, "object": obj},
        },
        expires_at=expiry,
        supersedes_key=(subject, relation) if own else None,
    )


def _name(value: Any, where: str) -> str:
    name = " ".join(check_text(value, where, "triples").split())
    if len(name) > MAX_NAME:
        raise Invalid(
            f"{where} has {len(name)} characters; at most {MAX_NAME} are allowed", argument="triples"
        )
    return name
