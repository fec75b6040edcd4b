from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from memos_ray.cube.requests import (
    AddMemories,
    ArchiveMemory,
    CreateSnapshot,
    DeleteAll,
    DeleteMemories,
    MergeMemories,
    RestoreMemory,
    RestoreSnapshot,
    UpdateMemory,
)
from memos_ray.cube.rows import Op
from memos_ray.errors import Conflict, Invalid, NotFound
from memos_ray.ingest.drafts import MemoryDraft
from memos_ray.testing.plain_journal import PlainJournal
from memos_ray.types import Kind, Link, Source, Status

T = datetime(2024, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def fact(text: str, **changes: object) -> MemoryDraft:
    return replace(MemoryDraft(text, Kind.FACT, T), **changes)  # type: ignore[arg-type]


class Cube(PlainJournal):
    def add(self, *drafts: MemoryDraft) -> tuple[str, ...]:
        return self.submit(AddMemories(drafts)).ids  # type: ignore[no-any-return]

    def texts(self) -> dict[str, str]:
        slots = self.state.slot_active.view.nonzero()[0]
        return {i.id: i.text for i in self.state.items(slots)}


@pytest.fixture
def cube() -> Cube:
    return Cube()


def test_an_update_makes_a_version_of_its_own(cube: Cube) -> None:
    (one,) = cube.add(fact("likes tea", entities=("tea",), metadata={"a": 1, "user_id": "u"}))
    result = cube.submit(UpdateMemory(one, text="likes coffee", metadata={"b": 2}))
    assert [(e.event, e.version) for e in result.events] == [("UPDATE", 2)]
    item = cube.state.get(one)
    assert (item.text, item.entities, item.metadata) == ("likes coffee", (), {"user_id": "u", "b": 2})
    assert [e.item.text for e in cube.state.history(one)] == ["likes tea", "likes coffee"]


def test_an_update_keeps_what_it_does_not_name(cube: Cube) -> None:
    (one,) = cube.add(fact("a", valid_to=T + DAY, expires_at=T + DAY, entities=("E",)))
    cube.submit(UpdateMemory(one, kind=Kind.EVENT, links=(Link("similar", "x"),)))
    item = cube.state.get(one)
    assert (item.kind, item.valid_to, item.expires_at, item.entities) == (
        Kind.EVENT,
        T + DAY,
        T + DAY,
        ("E",),
    )
    cube.submit(UpdateMemory(one, valid_to=None, expires_at=None))
    assert (cube.state.get(one).valid_to, cube.state.get(one).expires_at) == (None, None)
    same = cube.submit(UpdateMemory(one, text="a", links=(Link("similar", "x"),)))
    assert same.events[0].event == "NONE"
    assert cube.state.get(one).version == 3


def test_if_version_is_checked_in_queue_order(cube: Cube) -> None:
    (one,) = cube.add(fact("a"))
    answers = cube.submit_group([UpdateMemory(one, text=t, if_version=1) for t in "bc"])
    assert answers[0].events[0].version == 2
    assert isinstance(answers[1], Conflict)
    assert (answers[1].expected_version, answers[1].version) == (1, 2)
    assert cube.state.get(one).text == "b"


def test_unknown_and_deleted_ids_are_not_found(cube: Cube) -> None:
    (one,) = cube.add(fact("a"))
    cube.submit(DeleteMemories((one,)))
    for memory_id in (one, "nope"):
        for request in (
            UpdateMemory(memory_id, text="b"),
            DeleteMemories((memory_id,)),
            ArchiveMemory(memory_id),
            RestoreMemory(memory_id),
        ):
            with pytest.raises(NotFound) as caught:
                cube.submit(request)
            assert caught.value.id == memory_id
    tomb = cube.state.history(one)[-1].item
    assert (tomb.status, tomb.text, tomb.metadata, tomb.sources) == (Status.DELETED, "", {}, ())


def test_delete_takes_all_or_none(cube: Cube) -> None:
    a, b = cube.add(fact("a"), fact("b"))
    with pytest.raises(NotFound):
        cube.submit(DeleteMemories((a, "nope")))
    assert set(cube.texts()) == {a, b}
    result = cube.submit(DeleteMemories((a, a, b)))
    assert [(e.memory_id, e.event, e.version, e.text) for e in result.events] == [
        (a, "DELETE", 2, ""),
        (b, "DELETE", 2, ""),
    ]
    assert cube.texts() == {}


def test_delete_all_takes_what_matches_planned_changes_included(cube: Cube) -> None:
    a, b, c = (cube.add(fact(x, metadata={"topic": t}))[0] for x, t in (("a", "x"), ("b", "x"), ("c", "y")))
    cube.submit(ArchiveMemory(b))
    answers = cube.submit_group(
        [
            UpdateMemory(a, metadata={"topic": "y"}),
            AddMemories([fact("d", metadata={"topic": "x"})], op_id="d"),
            DeleteAll({"topic": "x"}, op_id="all"),
        ]
    )
    d = answers[1].ids[0]
    assert set(answers[2].ids) == {b, d}
    assert set(cube.texts()) == {a, c}
    with pytest.raises(Invalid, match="whole cube"):
        cube.submit(DeleteAll({}))
    assert set(cube.submit(DeleteAll({}, everything=True)).ids) == {a, c}
    assert cube.submit(DeleteAll({}, everything=True)).events == ()
    cube.crash()
    assert set(cube.submit(DeleteAll({"topic": "x"}, op_id="all")).ids) == {b, d}


def test_archive_and_restore(cube: Cube) -> None:
    (one,) = cube.add(fact("a"))
    assert [e.event for e in cube.submit(ArchiveMemory(one)).events] == ["ARCHIVE"]
    assert cube.texts() == {}
    assert cube.state.get(one).status is Status.ARCHIVED
    assert [e.event for e in cube.submit(ArchiveMemory(one)).events] == ["NONE"]
    cube.submit(UpdateMemory(one, text="b"))
    assert cube.state.get(one).status is Status.ARCHIVED
    cube.crash()
    assert [e.event for e in cube.submit(RestoreMemory(one)).events] == ["RESTORE"]
    assert cube.texts() == {one: "b"}
    assert [e.event for e in cube.submit(RestoreMemory(one)).events] == ["NONE"]


def test_a_superseded_memory_comes_back_from_the_archive_as_such(cube: Cube) -> None:
    key = ("Ann", "lives_in")
    old, *_ = cube.add(
        fact("in Rome", supersedes_key=key), fact("in Bonn", supersedes_key=key, valid_from=T + DAY)
    )
    cube.submit(ArchiveMemory(old))
    cube.submit(UpdateMemory(old, metadata={"x": 1}))
    cube.submit(RestoreMemory(old))
    assert cube.state.get(old).status is Status.SUPERSEDED


def test_merge_keeps_both_sources_and_resolves(cube: Cube) -> None:
    drafts = [fact("likes tea", source=Source(document="a"), metadata={"x": 1, "y": 1})]
    drafts.append(fact("likes tea!", source=Source(document="b"), metadata={"x": 2, "z": 2}))
    a, b = cube.add(*drafts)
    result = cube.submit(MergeMemories(a, (b,), {a: 1, b: 1}))
    assert [(e.memory_id, e.event, e.text) for e in result.events] == [
        (a, "UPDATE", "likes tea"),
        (b, "MERGE", ""),
    ]
    cube.crash()
    item = cube.state.get(b)
    assert item.id == a
    assert ([s.document for s in item.sources], item.metadata) == (["a", "b"], {"x": 1, "y": 1, "z": 2})
    updated = cube.submit(UpdateMemory(b, text="likes green tea", if_version=2))
    assert updated.ids == (a,)
    with pytest.raises(Conflict, match="merged into"):
        cube.submit(MergeMemories(b, (a,)))
    cube.submit(DeleteMemories((b,)))
    with pytest.raises(NotFound):
        cube.state.get(b)


def test_merge_refuses_what_moved_on_or_differs(cube: Cube) -> None:
    a, b = cube.add(fact("a"), fact("b"))
    cube.submit(UpdateMemory(b, text="c"))
    with pytest.raises(Conflict, match="version 2"):
        cube.submit(MergeMemories(a, (b,), {a: 1, b: 1}))
    with pytest.raises(Invalid):
        cube.submit(MergeMemories(a, (a,)))
    with pytest.raises(Invalid):
        cube.submit(MergeMemories(a, ()))
    others = [
        fact("a", valid_from=T + DAY),
        fact("a", valid_to=T + DAY),
        fact("a", kind=Kind.EVENT),
        fact("a", metadata={"user_id": "u"}),
        fact("a", kind=Kind.MESSAGE),
    ]
    for other in cube.add(*others):
        with pytest.raises(Conflict):
            cube.submit(MergeMemories(a, (other,)))
    assert cube.state.get(a).version == 1


def test_restore_snapshot_brings_everything_back(cube: Cube) -> None:
    drafts = [fact(x, source=Source(document=x)) for x in ("k", "c", "d", "a", "i", "i!")]
    kept, changed, deleted, archived, into, merged = cube.add(*drafts)
    before = cube.texts()
    cube.submit(CreateSnapshot("s"))
    cube.submit(UpdateMemory(changed, text="C", metadata={"x": 1}))
    cube.submit(DeleteMemories((deleted,)))
    cube.submit(ArchiveMemory(archived))
    cube.submit(MergeMemories(into, (merged,)))
    (later,) = cube.add(fact("later"))
    cube.crash()
    result = cube.submit(RestoreSnapshot("s", op_id="back"))
    assert cube.texts() == before
    assert cube.state.get(merged).id == merged
    assert {e.memory_id: e.event for e in result.events} == {
        changed: "RESTORE",
        deleted: "RESTORE",
        archived: "RESTORE",
        into: "RESTORE",
        merged: "RESTORE",
        later: "DELETE",
    }
    assert cube.state.get(kept).version == 1
    assert [e.op for e in cube.state.history(deleted)] == ["add", "delete", "restore"]
    cube.crash()
    assert cube.submit(RestoreSnapshot("s", op_id="back")) == result
    assert cube.submit(RestoreSnapshot("s")).events == ()
    assert cube.rows[-1].op is Op.NOOP


def test_restore_snapshot_brings_merges_and_deletions_back_too(cube: Cube) -> None:
    a, b, c = cube.add(fact("i"), fact("i!"), fact("c"))
    cube.submit(CreateSnapshot("apart"))
    cube.submit(MergeMemories(a, (b,)))
    cube.submit(DeleteMemories((c,)))
    cube.submit(CreateSnapshot("merged"))
    cube.submit(RestoreSnapshot("apart"))
    assert len(cube.texts()) == 3
    cube.submit(RestoreSnapshot("merged"))
    assert set(cube.texts()) == {a}
    assert cube.state.get(b).id == a
    with pytest.raises(NotFound):
        cube.state.get(c)


def test_snapshots_within_a_group(cube: Cube) -> None:
    (old,) = cube.add(fact("old"))
    cube.submit_group(
        [
            AddMemories([fact("new")]),
            CreateSnapshot("s"),
            UpdateMemory(old, text="changed"),
            AddMemories([fact("newer")]),
            RestoreSnapshot("s"),
        ]
    )
    assert sorted(cube.texts().values()) == ["new", "old"]


def test_a_snapshot_has_its_own_name(cube: Cube) -> None:
    made = cube.submit(CreateSnapshot("s", op_id="o"))
    assert (made.name, made.seq, made.recorded_at) == ("s", 1, cube.rows[0].recorded_at)
    cube.crash()
    assert cube.submit(CreateSnapshot("s", op_id="o")) == made
    with pytest.raises(Conflict, match="already"):
        cube.submit(CreateSnapshot("s"))
    answers = cube.submit_group([CreateSnapshot("t"), CreateSnapshot("t")])
    assert isinstance(answers[1], Conflict)
    with pytest.raises(NotFound, match="there are: s, t"):
        cube.submit(RestoreSnapshot("u"))
    with pytest.raises(Invalid):
        cube.submit(CreateSnapshot(""))
