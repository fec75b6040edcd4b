from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from memos_ray.cube.filters import parse_filter, scope_filter
from memos_ray.cube.requests import AddMemories, ArchiveMemory
from memos_ray.errors import Invalid
from memos_ray.ingest.drafts import MemoryDraft
from memos_ray.testing.plain_journal import PlainJournal
from memos_ray.types import Kind, Source

T = datetime(2024, 5, 1, tzinfo=UTC)
DRAFTS = [
    MemoryDraft(
        "a", Kind.MESSAGE, T, source=Source(session="s1", speaker="Ann", role="user"), entities=("Porto",)
    ),
    MemoryDraft(
        "b", Kind.FACT, T + timedelta(days=1), metadata={"topic": "travel", "n": 3, "deep": {"x": 1.5}}
    ),
    MemoryDraft(
        "c", Kind.FACT, T, valid_to=T + timedelta(days=9), metadata={"topic": "Food", "tags": ["x", "y"]}
    ),
    MemoryDraft(
        "d", Kind.DOCUMENT, T, source=Source(document="d.md"), metadata={"n": "3", "flag": True, "a.b": 1}
    ),
    MemoryDraft("e", Kind.EVENT, T, metadata={"user_id": "u", "run_id": "r", "n": 1}, expires_at=T),
]


@pytest.fixture(scope="module")
def journal() -> PlainJournal:
    journal = PlainJournal()
    journal.submit(AddMemories(DRAFTS[:3]))
    journal.crash()  # the first ones are read from the table, the others from rows
    ids = journal.submit(AddMemories(DRAFTS[3:])).ids
    journal.submit(ArchiveMemory(ids[0]))
    return journal


def found(journal: PlainJournal, filters: dict[str, Any]) -> str:
    wanted, state = parse_filter(filters), journal.state
    newest = state.newest_slots()
    slots = wanted.slots(state, newest)
    for slot in np.flatnonzero(newest):
        assert wanted.matches(state.item(int(slot))) == (slot in slots), (filters, slot)
    return "".join(sorted(state.texts(slots)))


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, "abcde"),
        ({"kind": "fact"}, "bc"),
        ({"kind": {"in": ["fact", "event"]}}, "bce"),
        ({"kind": {"ne": "fact"}}, "ade"),
        ({"status": "archived"}, "d"),
        ({"session": "s1"}, "a"),
        ({"speaker": {"icontains": "AN"}}, "a"),
        ({"speaker": {"exists": False}}, "bcde"),
        ({"speaker": {"ne": "Ann"}}, "bcde"),
        ({"role": "user", "kind": "message"}, "a"),
        ({"document": {"contains": ".md"}}, "d"),
        ({"entities": "Porto"}, "a"),
        ({"entities": {"contains": "Porto"}}, "a"),
        ({"entities": {"contains": "Por"}}, ""),
        ({"entities": {"icontains": "por"}}, "a"),
        ({"topic": "travel"}, "b"),
        ({"metadata.topic": {"in": ["travel", "Food"]}}, "bc"),
        ({"topic": {"nin": ["travel"]}}, "acde"),
        ({"topic": {"exists": True}}, "bc"),
        ({"topic": None}, "ade"),
        ({"topic": {"ne": None}}, "bc"),
        ({"topic": {"contains": "oo"}}, "c"),
        ({"tags": {"contains": "x"}}, "c"),
        ({"tags": "y"}, "c"),
        ({"tags": {"eq": ["x", "y"]}}, "c"),
        ({"tags": {"eq": ["y", "x"]}}, ""),
        ({"n": 3}, "b"),
        ({"n": "3"}, "d"),
        ({"n": {"gte": 1, "lt": 3}}, "e"),
        ({"n": {"gt": "2"}}, "d"),
        ({"flag": True}, "d"),
        ({"flag": 1}, ""),
        ({"metadata.deep.x": {"gt": 1}}, "b"),
        ({"metadata.a.b": 1}, "d"),
        ({"user_id": "u", "run_id": "r"}, "e"),
        (scope_filter({"run_id": "r"}), "e"),
        ({"valid_from": {"gt": "2024-05-01"}}, "b"),
        ({"valid_from": T}, "acde"),
        ({"valid_from": {"lte": date(2024, 5, 1)}}, "acde"),
        ({"valid_to": {"exists": True}}, "c"),
        ({"valid_to": None}, "abde"),
        ({"valid_to": {"gt": "2000-01-01T00:00:00+08:00"}}, "c"),
        ({"valid_to": {"ne": "2024-05-10"}}, "abde"),
        ({"expires_at": {"in": [T]}}, "e"),
        ({"recorded_at": {"gte": "2024-01-01"}, "created_at": {"lt": "2024-01-02"}}, "abcde"),
        ({"OR": [{"kind": "message"}, {"AND": [{"kind": "fact"}, {"topic": "Food"}]}]}, "ac"),
        ({"NOT": [{"kind": "fact"}, {"session": "s1"}]}, "de"),
        ({"NOT": {"kind": "fact"}, "session": "s1"}, "a"),
    ],
)
def test_filters(journal: PlainJournal, filters: dict[str, Any], expected: str) -> None:
    assert found(journal, filters) == expected


@pytest.mark.parametrize(
    ("filters", "hint"),
    [
        ({"kind": "thought"}, "kinds are: message"),
        ({"status": "gone"}, "they are active"),
        ({"knd": "fact"}, "did you mean 'kind'.*'metadata.knd'"),
        ({"source.speaker": "Ann"}, "did you mean 'speaker'"),
        ({"a.b": 1}, "write 'metadata.a.b'"),
        ({"and": []}, "did you mean 'AND'"),
        ({"AND": {}}, "list of filters"),
        ({"OR": []}, "list of filters"),
        ({"topic": {"$eq": 1}}, "did you mean 'eq'"),
        ({"topic": {"like": "x"}}, "Operators are eq, ne"),
        ({"topic": {}}, "give an operator"),
        ({"topic": ["a"]}, "'in'"),
        ({"topic": {"in": "a"}}, "list"),
        ({"topic": {"exists": 1}}, "true or false"),
        ({"topic": {"gt": None}}, "number or a string"),
        ({"topic": {"contains": None}}, "string or a number"),
        ({"topic": {"eq": {"a": 1}}}, "by path"),
        ({"valid_from": {"gt": "yesterday"}}, "ISO 8601"),
        ({"valid_from": {"gt": datetime(2024, 1, 1)}}, "timezone"),
        ({"valid_from": {"contains": "2024"}}, "is a time"),
        ({1: 2}, "names of fields"),
        ("fact", "a filter is an object"),
        ({"AND": ["fact"]}, "a filter is an object"),
    ],
)
def test_bad_filters_come_with_a_hint(filters: Any, hint: str) -> None:
    with pytest.raises(Invalid, match=f"(?s){hint}") as caught:
        parse_filter(filters)
    assert caught.value.argument in ("filters", "kind", "valid_from")


def test_deep_filters_are_refused() -> None:
    deep: dict[str, Any] = {"kind": "fact"}
    for _ in range(40):
        deep = {"NOT": [deep]}
    with pytest.raises(Invalid, match="nested"):
        parse_filter(deep)


def test_columns_follow_the_state() -> None:
    journal, wanted = PlainJournal(), parse_filter({"topic": "x"})
    for n in range(4):
        journal.submit(AddMemories([MemoryDraft(f"f{n}", Kind.FACT, T, metadata={"topic": "xy"[n % 2]})]))
        assert wanted.mask(journal.state).tolist() == [True, False, True, False][: n + 1]
