from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from memos_ray.cube.requests import (
    AddMemories,
    CreateSnapshot,
    DeleteMemories,
    MergeMemories,
    UpdateMemory,
)
from memos_ray.cube.rows import JournalRow, Op, rows_to_table
from memos_ray.cube.state import CubeState
from memos_ray.errors import NotFound
from memos_ray.ingest.drafts import MemoryDraft
from memos_ray.testing.plain_journal import PlainJournal
from memos_ray.types import Kind, Link, Source, Status, TimeMention

T = datetime(2024, 5, 1, 12, tzinfo=UTC)


def full_draft(text: str = "Ann moved to Porto 🙂 \x00", **changes: object) -> MemoryDraft:
    draft = MemoryDraft(
        text,
        Kind.FACT,
        T,
        valid_to=T + timedelta(days=9),
        entities=("Ann", "Porto"),
        links=(Link("lives_in", "entity:Porto", 0.1),),
        times=(TimeMention("May", T, T + timedelta(days=31)),),
        source=Source(document="d.md", span_start=3, span_end=9, heading="H", extractor="rules"),
        metadata={"topic": "moves", "n": 3, "deep": {"a": [1, None, True]}, "big": 2**70},
        expires_at=T + timedelta(days=900),
    )
    return replace(draft, **changes)  # type: ignore[arg-type]


def everything(state: CubeState) -> list[object]:
    items = state.items(range(state.n_slots))
    histories = [state.history(i) for i in state.ids]
    return [items, histories, state.snapshots, state.slot_active.view.tolist(), state.expiring.view.tolist()]


@pytest.fixture
def journal() -> PlainJournal:
    journal = PlainJournal()
    drafts = [
        full_draft(),
        MemoryDraft("hello", Kind.MESSAGE, T, source=Source(session="s", turn="1", speaker="Bo")),
        MemoryDraft("no source", Kind.FACT, T),
    ]
    ids = journal.submit(AddMemories(drafts, op_id="first")).ids
    journal.submit(UpdateMemory(ids[1], text="hello there", metadata={"x": "y"}))
    journal.submit(CreateSnapshot("s1"))
    journal.submit(DeleteMemories((ids[2],)))
    return journal


def test_a_state_that_was_folded_equals_one_that_was_applied(journal: PlainJournal) -> None:
    applied = everything(journal.state)
    journal.crash()
    assert everything(journal.state) == applied
    assert journal.state.n_slots == 4
    assert journal.state.get(journal.state.ids[0]) == journal.state.item(0)


def test_applying_onto_a_folded_state_equals_folding_all(journal: PlainJournal) -> None:
    half = CubeState.from_table("cube", rows_to_table(journal.rows[:2]))
    assert half.apply(journal.rows[2:]) == range(2, 4)
    assert everything(half) == everything(journal.state)


def test_values_survive_storage_exactly(journal: PlainJournal) -> None:
    journal.crash()
    item, draft = journal.state.item(0), full_draft()
    assert (item.text, item.entities, item.times, item.metadata) == (
        draft.text,
        draft.entities,
        draft.times,
        draft.metadata,
    )
    assert item.source == draft.source
    assert (item.valid_from, item.valid_to, item.expires_at) == (T, draft.valid_to, draft.expires_at)
    assert item.links[0].weight == pytest.approx(0.1)


def test_created_at_stays_that_of_the_first_version(journal: PlainJournal) -> None:
    old, new = (e.item for e in journal.state.history(journal.state.ids[1]))
    assert new.version == 2
    assert new.created_at == old.created_at == old.recorded_at < new.recorded_at


def test_an_add_and_its_update_in_one_group_have_one_birth() -> None:
    journal = PlainJournal()
    add = AddMemories([full_draft()], op_id="one")
    first = PlainJournal().submit(add).ids[0]
    journal.submit_group([add, UpdateMemory(first, text="new")])
    assert journal.state.get(first).version == 2
    assert journal.state.get(first).created_at == journal.rows[0].recorded_at


def test_unknown_and_deleted_memories_are_told_apart(journal: PlainJournal) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        journal.state.get("nope")
    deleted = journal.state.ids[2]
    with pytest.raises(NotFound, match="was deleted"):
        journal.state.get(deleted)
    assert journal.state.find(deleted) is None
    assert [e.op for e in journal.state.history(deleted)] == ["add", "delete"]
    assert journal.state.history(deleted)[-1].item.text == ""
    with pytest.raises(NotFound):
        journal.state.history("nope")


def test_chains_of_merges_end_at_the_survivor() -> None:
    journal = PlainJournal()
    drafts = [MemoryDraft(f"likes tea{'!' * i}", Kind.FACT, T) for i in range(3)]
    a, b, c = journal.submit(AddMemories(drafts)).ids
    journal.submit(MergeMemories(b, (c,)))
    journal.submit(MergeMemories(a, (b,)))
    for state in (journal.state, CubeState.from_table("cube", rows_to_table(journal.rows))):
        assert {state.get(i).id for i in (a, b, c)} == {a}
        assert state.slot_of(c) is None
        assert state.slot_of(a) is not None


def test_rows_of_owners_are_no_memories() -> None:
    rows = [
        JournalRow(Op.CLAIM, epoch=1, seq=0),
        JournalRow(Op.OPEN, payload={"start": 1}, epoch=1, seq=0),
        JournalRow(Op.ADD, "o", memory_id="m", version=1, text="x", epoch=1, seq=1, recorded_at=T),
        JournalRow(Op.NOOP, "p", epoch=1, seq=2, recorded_at=T),
    ]
    state = CubeState.from_table("cube", rows_to_table(rows))
    assert (state.ids, state.n_slots, len(state.store)) == (["m"], 1, 4)
    assert state.find("m") == rows[2].item()
    assert state.store.to_table().equals(rows_to_table(rows))


def test_an_unknown_op_is_refused() -> None:
    table = rows_to_table([JournalRow(Op.ADD, memory_id="m", version=1, text="x")])
    strange = table.set_column(table.column_names.index("op"), "op", [["conjure"]])
    with pytest.raises(ValueError, match="conjure"):
        CubeState.from_table("cube", strange)


def test_texts_come_from_both_parts(journal: PlainJournal) -> None:
    journal.crash()
    journal.submit(AddMemories([MemoryDraft("late", Kind.FACT, T)]))
    state = journal.state
    assert state.texts() == [i.text for i in state.items(range(state.n_slots))]
    assert state.texts([4, 1]) == ["late", "hello"]
    assert state.texts([]) == []
    assert state.text_of(state.ids[1], 1) == "hello"
    assert state.text_of(state.ids[1], 9) == ""
    assert [state.item(s).status for s in range(5)] == [Status.ACTIVE] * 5
