from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_ray.errors import Invalid, MemosError
from memos_ray.ingest.messages import parse_messages
from memos_ray.types import Kind

NOW = datetime(2023, 7, 19, 14, 30, tzinfo=UTC)


def parse(messages: Any, **options: Any) -> Any:
    return parse_messages(messages, **{"timestamp": None, "now": NOW, **options})


def test_a_text_is_one_message() -> None:
    (draft,) = parse("I moved to Porto yesterday", speaker="Maya", conversation="c", session="s")
    assert draft.kind is Kind.MESSAGE
    assert draft.text == "I moved to Porto yesterday"
    assert draft.valid_from == datetime(2023, 7, 18, tzinfo=UTC)
    assert draft.said_at == NOW
    assert draft.valid_to is None
    assert draft.entities == ("Maya", "Porto")
    assert [t.text for t in draft.times] == ["yesterday"]
    assert (draft.source.speaker, draft.source.conversation, draft.source.session) == ("Maya", "c", "s")


def test_everything_that_a_message_may_say() -> None:
    (draft,) = parse(
        {
            "role": "User", "name": "Tom", "content": "Hello Maya", "timestamp": "2023-05-07T13:56:00+02:00",
            "dia_id": "D1:3", "session": 4, "conversation": "own", "metadata": {"mood": "fine"},
            "expires_at": "2024-01-01", "valid_to": "2023-06-01",
        },
        metadata={"user_id": "u", "mood": "?"}, conversation="call",
    )  # fmt: skip
    assert draft.valid_from == datetime(2023, 5, 7, 11, 56, tzinfo=UTC)
    assert draft.valid_to == datetime(2023, 6, 1, tzinfo=UTC)
    assert draft.expires_at == datetime(2024, 1, 1, tzinfo=UTC)
    assert draft.metadata == {"user_id": "u", "mood": "fine"}
    source = draft.source
    assert (source.role, source.turn, source.session, source.conversation) == ("user", "D1:3", "4", "own")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime(2023, 5, 7, 12, tzinfo=timezone(timedelta(hours=2))), datetime(2023, 5, 7, 10, tzinfo=UTC)),
        (datetime(2023, 5, 7, 12), datetime(2023, 5, 7, 12, tzinfo=UTC)),
        (date(2023, 5, 7), datetime(2023, 5, 7, tzinfo=UTC)),
        ("2023-05-07", datetime(2023, 5, 7, tzinfo=UTC)),
        ("2023-05-07T12:00:00Z", datetime(2023, 5, 7, 12, tzinfo=UTC)),
        (1683460800, datetime(2023, 5, 7, 12, tzinfo=UTC)),
        (1683460800000, datetime(2023, 5, 7, 12, tzinfo=UTC)),
        (1683460800.5, datetime(2023, 5, 7, 12, 0, 0, 500000, tzinfo=UTC)),
    ],
)
@pytest.mark.parametrize("key", ["timestamp", "time", "created_at"])
def test_forms_of_timestamps(key: str, value: Any, expected: datetime) -> None:
    assert parse([{"content": "x", key: value}], timestamp="2001-01-01")[0].valid_from == expected
    assert parse("x", timestamp=value)[0].valid_from == expected


@pytest.mark.parametrize(
    "value",
    [
        "soon",
        "",
        float("nan"),
        float("inf"),
        1e18,
        -1e15,
        True,
        [2023],
        "2023-13-01",
        "0001-01-01T00:00+14:00",
    ],
)
def test_bad_timestamps_name_the_position(value: Any) -> None:
    with pytest.raises(Invalid, match=r"messages\[1\]\.timestamp"):
        parse(["fine", {"content": "x", "timestamp": value}])
    with pytest.raises(Invalid, match="timestamp"):
        parse("x", timestamp=value)


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "empty"),
        (3, "int"),
        (b"x", "bytes"),
        (["ok", 3], r"messages\[1\]"),
        (["ok", ""], r"messages\[1\]\.content is empty"),
        (["ok", " \n"], r"messages\[1\]\.content is empty"),
        ([{"role": "user"}], r"messages\[0\]\.content"),
        ([{"content": None}], r"messages\[0\]\.content"),
        ([{"content": 5}], r"messages\[0\]\.content"),
        ([{"content": [{"text": "x"}]}], r"content\[0\] must be a part"),
        ([{"content": "x", "mood": 1}], r"unknown keys: 'mood'; known are .*timestamp"),
        ([{"content": "x", "name": "A", "speaker": "B"}], "different values for name and speaker"),
        ([{"content": "x", "metadata": [1]}], r"messages\[0\]\.metadata"),
        ([{"content": "x", "role": 1.5}], r"messages\[0\]\.role"),
        ([{"content": "x", "valid_to": "2001-01-01"}], "valid_to must be later"),
        (["ok", "a\ud800b"], r"messages\[1\]\.content holds a lone surrogate at character 1"),
        ([{"content": None, "tool_calls": [{"id": 1}]}], "tool_calls"),
    ],
)
def test_what_is_refused(messages: Any, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        parse(messages)


def test_nul_and_emoji_are_kept() -> None:
    assert [d.text for d in parse(["a\0b", "🌟👩‍👩‍👧 Hi Maya"])] == ["a\0b", "🌟👩‍👩‍👧 Hi Maya"]


def test_roles_and_speakers() -> None:
    drafts = parse(
        [{"role": role, "content": "Hello"} for role in ("user", "assistant", "system", "tool", "narrator")],
        speaker="Maya",
    )
    assert [d.kind for d in drafts] == [Kind.MESSAGE] * 3 + [Kind.TOOL, Kind.MESSAGE]
    assert [d.source.speaker for d in drafts] == ["Maya", None, None, None, "Maya"]


def test_parts_and_tool_calls() -> None:
    parts = [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "data:"}}, "nice"]
    calls = [{"id": "1", "type": "function", "function": {"name": "find", "arguments": '{"q": "tea"}'}}]
    drafts = parse(
        [
            {"role": "user", "content": parts},
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "tool_call_id": "1", "content": "found"},
        ]
    )
    assert [d.text for d in drafts] == ["Look:\n[image_url]\nnice", '[calls find({"q": "tea"})]', "found"]
    assert drafts[2].metadata == {"tool_call_id": "1"}


def test_speakers_are_known_wherever_they_are_named() -> None:
    drafts = parse(
        [
            {"name": "Maya", "content": "Painting is fun"},
            {"name": "小雨", "content": "Maya! yes"},
            "问问小雨吧",
        ]
    )
    assert drafts[0].entities == ("Maya",)
    assert drafts[1].entities == ("小雨", "Maya")
    assert drafts[2].entities == ("小雨",)


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
anything = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(
    ["role", "content", "name", "timestamp", "id", "session", "metadata", "tool_calls", "valid_to"]
)
wild_text = st.text(st.characters(exclude_categories=()), max_size=80)  # lone surrogates and NUL included


@given(st.one_of(anything, st.lists(st.dictionaries(keys, anything | wild_text, max_size=5), max_size=3)))
def test_any_value_gives_drafts_or_a_typed_error(messages: Any) -> None:
    refused: MemosError | None = None
    try:
        drafts = parse(messages)
    except MemosError as error:
        refused = error
    if refused is not None:
        assert refused.argument == "messages"
    else:
        assert len(drafts) == (1 if isinstance(messages, (str, dict)) else len(messages))


@given(st.text(st.characters(exclude_categories=()), min_size=1, max_size=200))
def test_any_text_is_kept_as_it_is_or_refused(text: str) -> None:
    try:
        (draft,) = parse(text)
    except Invalid:
        assert not text.strip() or any("\ud800" <= ch <= "\udfff" for ch in text)
    else:
        assert draft.text == text
        assert draft.valid_from <= NOW
        assert all(name and name == name.strip() for name in draft.entities)
