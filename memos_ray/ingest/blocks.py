"""The structure of a plain or Markdown text: blocks with exact positions. Knows no chunk sizes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

BlockKind = Literal["heading", "text", "list", "code", "table"]

_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))??(?:[ \t]+#*)?[ \t]*\Z")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_LIST_ITEM = re.compile(r"\s{0,12}(?:[-*+•]|\d{1,4}[.)、])\s")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-{2,})[ \t]*\Z")
_PLAIN_HEADING = re.compile(
    r"\s*(?:第[0-9零〇一二三四五六七八九十百千两]{1,8}[章节篇部回卷]|(?:chapter|part)\s+(?:\d{1,4}|[ivxlc]{1,8})\b).{0,60}\Z",
    re.IGNORECASE,
)
_MARKDOWN = re.compile(
    r"^ {0,3}(?:#{1,6}[ \t]+\S|```|~~~|\|.*\|[ \t]*$|[-*+] \S)|\]\(\S|\*\*\S", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Block:
    """`text[start:end]` of one kind. For a heading, `level` is 1 to 6 and `title` its words."""

    kind: BlockKind
    start: int
    end: int
    level: int = 0
    title: str = ""


def looks_like_markdown(text: str) -> bool:
    """Whether the first 20,000 characters hold Markdown's marks."""
    return _MARKDOWN.search(text[:20_000]) is not None


def split_blocks(text: str, *, markdown: bool) -> list[Block]:
    """The blocks of `text` in order, blank lines between them left out. Linear time.

    Code fences and front matter are closed by the end of the text if by nothing else. Without `markdown`
    there are paragraphs, lists and the headings of books ("Chapter 3", "第三章").
    """
    blocks: list[Block] = []
    kind: BlockKind | None = None  # of the block that is open, from `begin` to `end`
    begin = end = 0
    fence = ""  # the mark that closes the open code block

    def close() -> None:
        nonlocal kind
        if kind is not None:
            blocks.append(Block(kind, begin, end))
            kind = None

    position = 0
    for line in text.split("\n"):
        start, position = position, position + len(line) + 1
        stop = start + len(line)
        if fence:
            end = stop
            stripped = line.strip()
            if stripped.startswith(fence) and not stripped.strip(fence[0]):
                fence = ""
                close()
            continue
        if not line or line.isspace():
            close()
            continue
        if markdown and (opened := _opens_fence(line, at_start=not blocks and kind is None and start == 0)):
            close()
            kind, begin, end, fence = "code", start, stop, opened
            continue
        heading = _heading(line, markdown)
        if heading is not None:
            close()
            blocks.append(Block("heading", start, stop, *heading))
            continue
        if (
            markdown
            and kind == "text"
            and "\n" not in text[begin:end]
            and _UNDERLINE.match(line.rstrip("\r"))
        ):
            blocks.append(Block("heading", begin, stop, 1 if "=" in line else 2, text[begin:end].strip()))
            kind = None
            continue
        line_kind = _kind_of(line, markdown)
        if line_kind != kind and not (kind == "list" and line_kind == "text"):  # an item's second line
            close()
        if kind is None:
            kind, begin = line_kind, start
        end = stop
    close()
    return blocks


def _opens_fence(line: str, at_start: bool) -> str:
    if at_start and line.rstrip() == "---":
        return "---"  # front matter
    found = _FENCE.match(line)
    return found[1] if found else ""


def _heading(line: str, markdown: bool) -> tuple[int, str] | None:
    if markdown and "#" in line[:4] and (found := _HEADING.match(line.rstrip("\r"))) is not None:
        return len(found[1]), (found[2] or "").strip()
    if len(line) < 80 and _PLAIN_HEADING.match(line.rstrip("\r")) is not None:
        return 1, line.strip()
    return None


def _kind_of(line: str, markdown: bool) -> BlockKind:
    if _LIST_ITEM.match(line) is not None:
        return "list"
    if markdown and line.lstrip().startswith("|"):
        return "table"
    return "text"
