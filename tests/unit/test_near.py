from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from memos_ray.cube.near import NearIndex, candidates, jaccard, shingles, similar
from memos_ray.cube.requests import AddMemories, DeleteMemories, MergeMemories, UpdateMemory
from memos_ray.ingest.drafts import MemoryDraft
from memos_ray.testing.plain_journal import PlainJournal
from memos_ray.types import Kind

T = datetime(2024, 5, 1, tzinfo=UTC)
LONG = "Ann told everybody at the table that she wants to move to the coast of Portugal with her old dog in spring"
LONG_ZH = "安娜在饭桌上告诉大家她想在春天带着她的老狗搬到葡萄牙的海边去住一段时间然后再决定以后的生活"


def fact(text: str, **changes: object) -> MemoryDraft:
    return replace(MemoryDraft(text, Kind.FACT, T), **changes)  # type: ignore[arg-type]


def pairs(*drafts: MemoryDraft) -> list[tuple[int, int]]:
    journal = PlainJournal()
    ids = journal.submit(AddMemories(drafts)).ids
    out = []
    for found in candidates(journal.state, range(journal.state.n_slots)):
        # what is proposed is accepted
        journal.submit(MergeMemories(found.survivor, found.merged, found.if_versions))
        assert {journal.state.get(i).id for i in found.merged} == {found.survivor}
        out += [(ids.index(found.survivor), ids.index(i)) for i in found.merged]
    return out


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("User likes green tea.", "user likes green tea"),
        (LONG, LONG.replace("wants", "want")),
        (LONG_ZH, LONG_ZH.replace("然后再", "然后")),
        ("喜欢绿茶。", "喜欢绿茶!"),
    ],
)
def test_near_equal_texts_are_found(a: str, b: str) -> None:
    assert pairs(fact(a), fact("something else"), fact(b)) == [(0, 2)]
    assert pairs(fact(a, kind=Kind.DOCUMENT), fact(b, kind=Kind.DOCUMENT)) == [(0, 1)]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (fact(LONG), fact(LONG + "!", kind=Kind.EVENT)),
        (fact(LONG), fact(LONG + "!", valid_from=T + timedelta(days=1))),
        (fact(LONG), fact(LONG + "!", valid_to=T + timedelta(days=1))),
        (fact(LONG), fact(LONG + "!", metadata={"user_id": "u"})),
        (fact(LONG, entities=("Ann",)), fact(LONG + "!", entities=("Bo",))),
        (fact(LONG + " in room 12"), fact(LONG + " in room 13")),
        (fact(LONG), fact(LONG.replace("wants", "wants not"))),
        (fact(LONG_ZH), fact(LONG_ZH.replace("想", "不想"))),
        (fact("likes tea"), fact("likes coffee")),
        (fact(LONG, kind=Kind.MESSAGE), fact(LONG + "!", kind=Kind.MESSAGE)),
        (fact(LONG, supersedes_key=("a", "b")), fact(LONG + "!")),
    ],
)
def test_different_memories_are_not(a: MemoryDraft, b: MemoryDraft) -> None:
    assert pairs(a, b) == []


def test_each_memory_is_merged_once() -> None:
    assert sorted(pairs(*(fact(LONG + "!" * i) for i in range(4)))) == [(0, 1), (0, 2), (0, 3)]


def test_only_asked_for_and_active_ones_count() -> None:
    journal, asked = PlainJournal(), []
    index = NearIndex(journal.state)
    ids = []
    for i in range(3):
        ids += journal.submit(AddMemories([fact(LONG + "?" * i)])).ids
        asked.append(index.candidates([i]))
    found = [[(d.survivor, d.merged) for d in a] for a in asked]
    assert found == [[], [(ids[0], (ids[1],))], [(ids[0], (ids[2],))]]
    journal.submit(DeleteMemories((ids[0],)))
    journal.submit(UpdateMemory(ids[1], text="something else"))
    assert index.candidates(range(journal.state.n_slots)) == []
    assert index.candidates([]) == []


def test_prefix_filtering_finds_every_pair() -> None:
    texts = [LONG[:i] + c + LONG[i + 1 :] for i in range(5, 90, 7) for c in "xy "]
    sets = [shingles(t) for t in texts]
    for threshold in (0.95, 0.9, 0.5):
        near = {(i, j) for j in range(len(sets)) for i in range(j) if jaccard(sets[i], sets[j]) >= threshold}
        assert near
        assert {(i, j) for i, j, _ in similar(sets, threshold)} == near


def test_shingles_and_jaccard() -> None:
    assert shingles("Ab, CD!") == {"ab ", "b c", " cd"}
    assert shingles("绿茶好") == {"绿茶", "茶好"}
    assert shingles("!") == {""}
    assert jaccard(frozenset("abc"), frozenset("bcd")) == 0.5
