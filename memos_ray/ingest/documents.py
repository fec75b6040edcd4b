"""Documents -> drafts of chunks that follow the text's own structure. Merges nothing, stores nothing.

A chunk is `text[span_start:span_end]`, exactly. Chunks never cross a heading. Blocks (paragraphs, lists,
code, tables) stay whole where they fit, else they are cut between sentences or lines, and within one only
if it alone is too long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any, Literal

from memos_ray.errors import Invalid
from memos_ray.ingest.blocks import Block, looks_like_markdown, split_blocks
from memos_ray.ingest.checks import check_metadata, check_text
from memos_ray.ingest.dates import find_mentions
from memos_ray.ingest.drafts import MemoryDraft
from memos_ray.ingest.entities import find_entities
from memos_ray.ingest.messages import Timestamp
from memos_ray.ingest.timestamps import parse_timestamp, parse_utc
from memos_ray.text.script import CJK_CLASS
from memos_ray.text.sentences import sentence_spans
from memos_ray.types import Kind, Source

Format = Literal["auto", "text", "markdown"]
_Piece = tuple[int, int, int]  # start, end, size

TARGET_SIZE = 120  # words, or CJK characters: a chunk takes no more once it has these
LARGEST_SIZE = 200  # the default embedder reads 256 tokens, about 190 English words
LARGEST_CHARS = 1_600  # what has no spaces has no words to count
_HEADING_CHARS = 500

_WORDS = re.compile(f"[{CJK_CLASS}]|[^\\s{CJK_CLASS}，。！？；：、“”…]+")
_SPACE = re.compile(r"\s")


def parse_document(
    text: str,
    *,
    document: str,
    title: str | None = None,
    format: Format = "auto",
    now: datetime,
    valid_from: Timestamp | None = None,
    metadata: Mapping[str, Any] | None = None,
    expires_at: Timestamp | None = None,
    valid_to: Timestamp | None = None,
) -> list[MemoryDraft]:
    """Chunks of `text` in order, each of kind `document`; `document` names it in their sources.

    A chunk has 120 to 200 words (or CJK characters) where the structure allows, never more than 200 or
    1,600 characters. `Source.heading` is the path of headings ("Guide > Install > Linux"), below `title` if
    given. Relative dates ("yesterday") are resolved only if `valid_from`, the time of writing, is given;
    without it the chunks hold from `now` on. Raises `Invalid` for an empty or ill-formed text.
    """
    check_text(text, "text", "text")
    check_text(document, "document", "document")
    heading = None if title is None else check_text(title, "title", "title").strip()
    if format not in ("auto", "text", "markdown"):
        raise Invalid(f"format must be auto, text or markdown, not {format!r}", argument="format")
    written = parse_timestamp(now if valid_from is None else valid_from, "valid_from", "valid_from")
    start = parse_utc(written, "valid_from")
    until = None if valid_to is None else parse_utc(valid_to, "valid_to", "valid_to")
    if until is not None and until <= start:
        raise Invalid("valid_to must be later than valid_from", argument="valid_to")
    expiry = None if expires_at is None else parse_utc(expires_at, "expires_at", "expires_at")
    extra = check_metadata(metadata, "metadata", "metadata")
    markdown = format == "markdown" or (format == "auto" and looks_like_markdown(text))
    return [
        MemoryDraft(
            text=(chunk := text[first:last]),
            kind=Kind.DOCUMENT,
            valid_from=start,
            valid_to=until,
            entities=find_entities(chunk),
            times=find_mentions(chunk, written, absolute_only=valid_from is None),
            source=Source(document=document, span_start=first, span_end=last, heading=path or None),
            metadata=extra,
            expires_at=expiry,
        )
        for first, last, path in split_document(text, markdown=markdown, title=heading)
    ]


def split_document(text: str, *, markdown: bool, title: str | None = None) -> Iterator[tuple[int, int, str]]:
    """(start, end, heading path) of each chunk, in order without overlap; all but white space is in one."""
    path: list[tuple[int, str]] = []
    section: list[_Piece] = []
    has_body = False
    name = title or ""
    for block in split_blocks(text, markdown=markdown):
        if block.kind != "heading":
            section += _pieces(text, block)
            has_body = True
            continue
        if has_body:  # headings without a body go with what follows them
            yield from _packed(section, name)
            section, has_body = [], False
        path = [(level, words) for level, words in path if level < block.level]
        path.append((block.level, block.title))
        name = _path_name(title, path)
        section += _pieces(text, block)
    yield from _packed(section, name)


def _path_name(title: str | None, path: list[tuple[int, str]]) -> str:
    names = [words for _, words in path if words]
    if title and (not names or names[0] != title):
        names.insert(0, title)
    return " > ".join(names)[:_HEADING_CHARS]


def _packed(pieces: list[_Piece], name: str) -> Iterator[tuple[int, int, str]]:
    """Joins neighbouring pieces until a chunk has its size."""
    start = end = size = 0
    for first, last, piece_size in pieces:
        if size and (size >= TARGET_SIZE or size + piece_size > LARGEST_SIZE or last - start > LARGEST_CHARS):
            yield start, end, name
            size = 0
        if not size:
            start = first
        end, size = last, size + max(piece_size, 1)
    if size:
        yield start, end, name


def _pieces(text: str, block: Block) -> Iterator[_Piece]:
    """The block itself if it fits, else its lines or sentences, else parts of them."""
    start, end = _trimmed(text, block.start, block.end)
    size = _size(text, start, end)
    if _fits(start, end, size):
        yield start, end, size
        return
    spans = sentence_spans(text, start, end) if block.kind == "text" else _lines(text, start, end)
    for first, last in spans:
        size = _size(text, first, last)
        if _fits(first, last, size):
            yield first, last, size
        elif block.kind == "list":
            for one, other in sentence_spans(text, first, last):
                yield from _parts(text, one, other)
        else:
            yield from _parts(text, first, last)


def _fits(start: int, end: int, size: int) -> bool:
    return size <= LARGEST_SIZE and end - start <= LARGEST_CHARS


def _lines(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    position = start
    for line in text[start:end].split("\n"):
        if line and not line.isspace():
            yield _trimmed(text, position, position + len(line))
        position += len(line) + 1


def _parts(text: str, start: int, end: int) -> Iterator[_Piece]:
    """Cuts after as many words as fit, at white space if there is any near the end of the part."""
    while start < end:
        stop = min(end, start + LARGEST_CHARS)
        too_many = next(islice(_WORDS.finditer(text, start, stop), LARGEST_SIZE, None), None)
        if too_many is not None:
            stop = too_many.start()
        if stop < end and not text[stop - 1].isspace() and not text[stop].isspace():
            space = max(
                (m.end() for m in _SPACE.finditer(text, start + (stop - start) // 2, stop)), default=stop
            )
            stop = space
        first, last = _trimmed(text, start, stop)
        if first < last:
            yield first, last, _size(text, first, last)
        start = stop


def _size(text: str, start: int, end: int) -> int:
    """Words, each CJK character being one."""
    part = text[start:end]
    return len(part.split()) if part.isascii() else len(_WORDS.findall(part))


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end
