"""Hits -> passages: what stands together under one heading, as a reader (a person or a model) is given it.

    2023-05-08                        the day on which a session's messages were said, once
    Ada: I moved to Lisbon.           a message
    …                                 what was said between the two is left out
    Ben: Send me a postcard!
      From the castle.                a further line of the same message

    # Handbook > Leave                the heading of a document, or its name
      Ask a week ahead.               its text

    2023-06-01 to 2023-07-01          facts: from when on, and until when, they are true
    - Ada works at the harbour.       a memory that nobody is named for

A memory's text is data. It never begins a line: what it says is behind `Name: ` or `- `, or set in by two spaces, so
that line breaks in it cannot pass for another speaker's line or another date. Names are flattened to one line
without colons for the same reason.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from memos_ray.text.script import CJK_CLASS
from memos_ray.types import Kind, LinkType, MemoryItem, SearchHit

GAP = "…"
"""Stands for messages of a session, or parts of a document, that are left out."""

_INDENT = "  "
_LETTER = f"[^\\W_{CJK_CLASS}]"  # of scripts that part words by spaces
_SHORT = 20  # characters of an answer that may well be given twice
_CLOSE = 2  # characters of white space between two spans of a document that have nothing else between them
_SCOPE = ("user_id", "agent_id", "run_id")
_CONTROL = dict.fromkeys(c for c in (*range(0x20), *range(0x7F, 0xA0)) if c != 0x09)
_MARKS = "#-… \t"  # what lines of other sorts begin with


@dataclass(frozen=True, slots=True)
class Entry:
    """One hit as it stands in its passage.

    `passage`: hits of which it is equal share a heading. `order` is its place there; `follows` the id of the message
    before, None for what is no message of a session. `same`: two hits of which it is equal say the same.
    """

    hit: SearchHit
    passage: tuple[Hashable, ...]
    header: str
    line: str
    order: tuple[Any, ...]
    same: tuple[Hashable, ...]
    in_session: bool
    follows: str | None

    @property
    def is_document(self) -> bool:
        """Whether it is a part of a document."""
        return self.hit.item.kind is Kind.DOCUMENT

    @property
    def says(self) -> str:
        """Its text, as `normal` makes it."""
        return str(self.same[-1])


def entry(hit: SearchHit, *, name_cube: bool = False) -> Entry:
    """`hit` in its passage. `name_cube` puts the cube's id into the heading, where there are several."""
    item, source = hit.item, hit.item.source
    where = f" {_flat(hit.cube_id)}" if name_cube else ""
    if item.kind is Kind.DOCUMENT:
        heading = _flat(source.heading or source.document or "") or "document"
        return Entry(
            hit=hit,
            passage=(hit.cube_id, "document", source.document, source.heading),
            header=f"# {heading}{where}",
            line="\n".join(_INDENT + line for line in _body(item.text, source.heading or "")),
            order=(source.span_start or 0, hit.place),
            same=(hit.cube_id, "document", normal(item.text)),
            in_session=False,
            follows=None,
        )
    when = (source.said_at if item.kind is Kind.MESSAGE else None) or item.valid_from
    days = _days(item, when)
    who = _name(source.speaker or (source.role if item.kind is Kind.MESSAGE else None))
    in_session = item.kind is Kind.MESSAGE and (source.conversation or source.session) is not None
    talk: tuple[Hashable, ...] = ()
    if item.kind is Kind.MESSAGE:
        talk = (source.conversation, source.session, *(str(item.metadata.get(f)) for f in _SCOPE))
    passage = (hit.cube_id, "said" if item.kind is Kind.MESSAGE else "known", days, *talk)
    said = normal(item.text)
    # "No." said twice answers two questions; a long text said twice is a repetition.
    once = hit.item.id if in_session and len(said) <= _SHORT else None
    return Entry(
        hit=hit,
        passage=passage,
        header=days + where,
        line=f"{who}: {_text(item.text)}" if who else f"- {_text(item.text)}",
        order=(when, hit.place),
        same=(passage, who, once, said),
        in_session=in_session,
        follows=_follows(item) if in_session else None,
    )


def is_gap(before: Entry, after: Entry) -> bool:
    """Whether something of the same session or document lies between two entries of one passage."""
    if after.is_document:
        end, start = before.hit.item.source.span_end, after.hit.item.source.span_start
        return end is None or start is None or start - end > _CLOSE
    return after.in_session and after.follows != before.hit.item.id


def passage_text(entries: Sequence[Entry]) -> str:
    """The text of one passage, of entries in their order (not empty)."""
    lines = [entries[0].header, entries[0].line]
    for before, after in pairwise(entries):
        if is_gap(before, after):
            lines.append(GAP)
        lines.append(after.line)
    return "\n".join(lines)


def passage_order(first: Entry, document_rank: int) -> tuple[Any, ...]:
    """Where the passage that `first` begins stands in a prompt: documents first, all else behind them in order of time.

    A reader of texts in order of time sees what came after what, and what is said of a matter last stands last.
    Documents have no time of their own; `document_rank` orders them.
    """
    if first.is_document:
        return (0, document_rank, first.order)
    return (1, first.order)


def normal(text: str) -> str:
    """Letter case and white space do not tell two texts apart."""
    return " ".join(text.casefold().split())


def holds(whole: str, part: str) -> bool:
    """Whether `part` stands in `whole`, not within longer words ("rest" is not in "the restaurant")."""
    if part not in whole:
        return False
    before = f"(?<!{_LETTER})" if re.match(_LETTER, part) else ""
    after = f"(?!{_LETTER})" if re.match(_LETTER, part[-1:]) else ""
    return re.search(f"{before}{re.escape(part)}{after}", whole) is not None


def _days(item: MemoryItem, when: datetime) -> str:
    days = f"{when:%Y-%m-%d}"
    return days if item.valid_to is None else f"{days} to {item.valid_to:%Y-%m-%d}"


def _follows(item: MemoryItem) -> str | None:
    return next((link.target for link in item.links if link.type == LinkType.FOLLOWS), None)


def _lines(text: str) -> list[str]:
    """The lines that hold something, by every sign that breaks a line, without control characters."""
    lines = (line.translate(_CONTROL).rstrip() for line in text.splitlines())
    return [line for line in lines if line]


def _body(text: str, heading: str) -> list[str]:
    """The lines of a document's passage without the Markdown headings that its own heading names already."""
    lines, named = _lines(text), {name.strip() for name in heading.split(" > ")}
    while len(lines) > 1 and lines[0].startswith("#") and lines[0].strip("# \t") in named:
        del lines[0]
    return lines


def _text(text: str) -> str:
    lines = _lines(text)
    return f"\n{_INDENT}".join([lines[0].lstrip(), *lines[1:]]) if lines else ""


def _flat(name: str) -> str:
    return " ".join(" ".join(name.split()).translate(_CONTROL).split())


def _name(name: str | None) -> str:
    """A name as it may stand before a colon; "" if nothing of it is left."""
    return _flat((name or "").replace(":", " ").replace("：", " ")).lstrip(_MARKS)
