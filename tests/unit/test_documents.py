from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_ray.errors import Invalid
from memos_ray.ingest.blocks import split_blocks
from memos_ray.ingest.documents import LARGEST_CHARS, LARGEST_SIZE, parse_document, split_document
from memos_ray.types import Kind

NOW = datetime(2023, 7, 19, tzinfo=UTC)
MARKDOWN = """# Guide

Written by Ana Lima in May 2023, read yesterday.

## Install
### Linux
- first
- second
  continued

```python
# no heading
x = 1

y = 2
```

| a | b |
|---|---|
| 1 | 2 |

Notes
-----
The end.
"""


def parse(text: str, **options: Any) -> Any:
    return parse_document(text, **{"document": "d", "now": NOW, **options})


def test_markdown_is_split_at_headings() -> None:
    drafts = parse(MARKDOWN)
    assert [d.source.heading for d in drafts] == ["Guide", "Guide > Install > Linux", "Guide > Notes"]
    assert "## Install" in drafts[1].text
    assert drafts[1].text.endswith("| 1 | 2 |")
    assert all(d.kind is Kind.DOCUMENT and d.source.document == "d" for d in drafts)
    assert all(MARKDOWN[d.source.span_start : d.source.span_end] == d.text for d in drafts)
    assert all(d.valid_from == NOW for d in drafts)


def test_title_opens_the_heading_path_once() -> None:
    assert parse(MARKDOWN, title="Guide")[0].source.heading == "Guide"
    assert parse(MARKDOWN, title="Manual")[0].source.heading == "Manual > Guide"
    assert parse("no headings", title="Manual")[0].source.heading == "Manual"
    assert parse("no headings")[0].source.heading is None


def test_relative_dates_need_the_time_of_writing() -> None:
    assert [t.text for t in parse(MARKDOWN)[0].times] == ["May 2023"]
    dated = parse(MARKDOWN, valid_from="2023-06-02")[0]
    assert [(t.text, t.start.day) for t in dated.times] == [("May 2023", 1), ("yesterday", 1)]
    assert dated.valid_from == datetime(2023, 6, 2, tzinfo=UTC)
    assert "Ana Lima" in dated.entities


def test_blocks_of_markdown() -> None:
    kinds = [(b.kind, b.level) for b in split_blocks(MARKDOWN, markdown=True)]
    assert kinds == [
        ("heading", 1), ("text", 0), ("heading", 2), ("heading", 3), ("list", 0), ("code", 0), ("table", 0),
        ("heading", 2), ("text", 0),
    ]  # fmt: skip


def test_an_open_fence_and_front_matter() -> None:
    text = "---\ntitle: x\n---\n# A\n~~~\n# code"
    assert [b.kind for b in split_blocks(text, markdown=True)] == ["code", "heading", "code"]


def test_plain_text_has_paragraphs_and_chapters() -> None:
    text = "Chapter 1\n# not a heading\n\n第二章 开始\n他来了。"
    drafts = parse(text, format="text")
    assert [d.source.heading for d in drafts] == ["Chapter 1", "第二章 开始"]


def test_small_blocks_are_joined_and_whole_ones_stay_whole() -> None:
    paragraph = "One two three four five. " * 10  # 50 words
    code = "```\n" + "a = b\n" * 30 + "```"  # 92 words
    drafts = parse("\n\n".join([paragraph] * 3 + [code] + [paragraph]), format="markdown")
    assert [len(d.text.split()) for d in drafts] == [150, 142]
    assert drafts[1].text.startswith("```")


def test_long_paragraphs_are_cut_between_sentences() -> None:
    text = " ".join(f"Sentence number {i} has exactly seven words." for i in range(100))
    drafts = parse(text)
    assert all(d.text.endswith("words.") and d.text.startswith("Sentence") for d in drafts)
    assert all(120 <= len(d.text.split()) <= LARGEST_SIZE for d in drafts[:-1])
    chinese = parse("这句话正好有十个汉字。" * 100)
    assert all(d.text.endswith("。") for d in chinese)
    assert all(120 <= len(d.text.replace("。", "")) <= LARGEST_SIZE for d in chinese[:-1])


def test_text_without_any_structure_is_cut_all_the_same() -> None:
    for text in ("x" * 10_000, "字" * 1_000, "word " * 1_000):
        drafts = parse(text)
        assert all(len(d.text) <= LARGEST_CHARS for d in drafts)
        assert "".join("".join(d.text for d in drafts).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"text": ""}, "text is empty"),
        ({"text": "\n \t"}, "text is empty"),
        ({"text": "a\udc00"}, "lone surrogate"),
        ({"text": b"x"}, "must be text"),
        ({"document": ""}, "document is empty"),
        ({"title": " "}, "title is empty"),
        ({"format": "html"}, "auto, text or markdown"),
        ({"valid_from": "soon"}, "valid_from is not ISO 8601"),
        ({"valid_to": "2001-01-01"}, "valid_to must be later"),
        ({"metadata": 3}, "metadata"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid, match=said):
        parse(**{"text": "fine", **arguments})


lines = st.sampled_from(
    [
        "# H",
        "## H ##",
        "#",
        "text here.",
        "",
        "  ",
        "```",
        "~~~ py",
        "- item",
        "1. one",
        "| a |",
        "---",
        "===",
        "第一章",
        "字。" * 90,
        "w " * 250,
        "x" * 1700,
        "\r",
        "a\r",
        "\u2028",
        "\0",
    ]
)


@given(st.lists(lines, max_size=14).map("\n".join) | st.text(max_size=300), st.booleans())
def test_chunks_are_exact_spans_that_cover_the_text(text: str, markdown: bool) -> None:
    chunks = list(split_document(text, markdown=markdown))
    position = 0
    for start, end, _ in chunks:
        assert position <= start < end
        assert not text[position:start].strip()
        assert text[start:end] == text[start:end].strip()
        assert end - start <= LARGEST_CHARS
        assert len(text[start:end].split()) <= LARGEST_SIZE
        position = end
    assert not text[position:].strip()


@given(st.text(st.characters(exclude_categories=()), max_size=120))
def test_any_text_is_taken_or_refused_with_a_typed_error(text: str) -> None:
    try:
        drafts = parse(text)
    except Invalid:
        assert not text.strip() or any("\ud800" <= ch <= "\udfff" for ch in text)
    else:
        assert all(text[d.source.span_start : d.source.span_end] == d.text for d in drafts)
