"""Backups of real cubes on real storage: taken beside writers, in chains, interrupted, damaged."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import lance
import pytest

from memos_ray.backup.reading import read_cut
from memos_ray.backup.stored import Backup
from memos_ray.backup.taking import Options, take_backup
from memos_ray.backup.verifying import verify
from memos_ray.clock import SystemClock
from memos_ray.config import Settings
from memos_ray.cube.opening import journal_store, write_incarnation
from memos_ray.cube.owner import Owner
from memos_ray.cube.packing import stored_table
from memos_ray.cube.paths import journal_path
from memos_ray.cube.registry import Registry
from memos_ray.cube.rows import JournalRow, Op, rows_to_table
from memos_ray.errors import Corrupt, Invalid, NotFound
from memos_ray.ids import new_op_id
from memos_ray.testing.local import LocalCubes

NO_SKEW = Options(skew_s=0.0)
SMALL = Options(skew_s=0.0, part_cubes=2)


def row(seq, *, epoch=0, op_id=None, recorded_at=None):
    return JournalRow(
        Op.ADD,
        op_id or f"op-{epoch}-{seq}",
        memory_id=f"m-{epoch}-{seq}",
        version=1,
        text=f"text {seq}",
        epoch=epoch,
        seq=seq,
        recorded_at=recorded_at or datetime.now(UTC),
    )


def make_cube(settings, cube_id, rows=3):
    incarnation = new_op_id()
    write_incarnation(settings, cube_id, incarnation, rows_to_table([row(i + 1) for i in range(rows)]))
    Registry(settings.data).create_if_absent(cube_id, incarnation=incarnation, embedder="hash")
    return incarnation


def append(settings, cube_id, rows=1):
    store = journal_store(settings, cube_id, Registry(settings.data).lookup(cube_id).incarnation)
    store.open()
    owner = Owner(store, SystemClock(), "test")
    owner.activate()
    owner.write(stored_table([row(owner.next_seq + i, epoch=owner.epoch) for i in range(rows)]))


@pytest.fixture
def settings(tmp_path):
    return Settings(data=str(tmp_path / "data"))


def texts(backup, cube_id):
    (entry,) = backup.chosen([cube_id])
    return backup.table(entry)["text"].to_pylist()


async def test_a_backup_beside_writers_is_one_instant_of_all_cubes(tmp_path):
    """Acknowledged before T: in. Recorded after T: not in. Every operation: whole or not at all. And what follows
    from something in another cube is never in without it."""
    names = [f"cube-{i}" for i in range(4)]
    acked: list[tuple[str, str, datetime]] = []  # cube, op_id, when its caller had the answer
    fresh: asyncio.Queue[str] = asyncio.Queue()
    done = asyncio.Event()
    numbers = count()

    async with LocalCubes(str(tmp_path / "data")) as cubes:
        handles = {name: await cubes.cube(name) for name in names}

        async def write(name, op_id):
            await handles[name].add([f"{op_id} {part}" for part in "abc"], op_id=op_id)
            acked.append((name, op_id, datetime.now(UTC)))
            fresh.put_nowait(op_id)

        async def alone(name):
            while not done.is_set():
                await write(name, f"alone-{next(numbers)}")

        async def across():
            while not done.is_set():
                number = next(numbers)
                for name in names:  # each after the one before was acknowledged
                    await write(name, f"across-{number}-{name}")

        async def enough(more):
            nonlocal fresh
            fresh = asyncio.Queue()
            for _ in range(more):
                await fresh.get()

        writers = [asyncio.create_task(alone(name)) for name in names] + [asyncio.create_task(across())]
        await enough(40)
        started = datetime.now(UTC)
        manifest = await asyncio.to_thread(
            take_backup, cubes.settings, str(tmp_path / "b"), options=Options(workers=2, skew_s=0.2)
        )
        await enough(40)
        done.set()
        await asyncio.gather(*writers)

        final = {name: (await handles[name].export_table()).to_pylist() for name in names}

    assert manifest.at > started
    assert manifest.cubes == 4
    backup = Backup(str(tmp_path / "b"))
    held = {e.cube_id: backup.table(e).to_pylist() for e in backup.entries()}
    ops = {name: {r["op_id"] for r in held[name]} for name in names}
    for name in names:
        assert held[name] == final[name][: len(held[name])]
        assert all(r["recorded_at"] <= manifest.at for r in held[name])
        for op_id in ops[name]:
            assert sum(r["op_id"] == op_id for r in held[name]) == 3
        before = {op for cube, op, at in acked if cube == name and at <= manifest.at}
        assert before <= ops[name]
        assert {op for cube, op, _ in acked if cube == name} - ops[name]  # the writers went on
    for number in {op.split("-")[1] for some in ops.values() for op in some if op.startswith("across")}:
        present = [f"across-{number}-{name}" in ops[name] for name in names]
        assert present == sorted(present, reverse=True)
    assert not verify(str(tmp_path / "b")).problems


def test_a_write_in_flight_neither_holds_a_backup_up_nor_is_half_in_it(settings, tmp_path):
    incarnation = make_cube(settings, "c")
    stalled, go_on = threading.Event(), threading.Event()

    def hook(point):
        if point == "put" and armed:
            stalled.set()
            assert go_on.wait(30)

    armed = False
    store = journal_store(settings, "c", incarnation)
    store._hook = hook
    store.open()
    owner = Owner(store, SystemClock(), "slow")
    owner.activate()
    armed = True
    late = [row(owner.next_seq + i, epoch=owner.epoch, op_id="late") for i in range(3)]
    writer = threading.Thread(target=lambda: owner.write(stored_table(late)))
    writer.start()
    assert stalled.wait(30)
    first = take_backup(settings, str(tmp_path / "1"), options=NO_SKEW)
    assert first.at > late[0].recorded_at
    go_on.set()
    writer.join()
    take_backup(settings, str(tmp_path / "2"), since=str(tmp_path / "1"), options=NO_SKEW)
    assert len(texts(Backup(str(tmp_path / "1")), "c")) == 3
    assert len(texts(Backup(str(tmp_path / "2")), "c")) == 6


def test_a_backup_changes_nothing(settings, tmp_path):
    incarnation = make_cube(settings, "c")
    Registry(settings.data).create_if_absent("never written", incarnation=new_op_id(), embedder="hash")
    data = Path(settings.data)
    before = {p: p.stat().st_mtime_ns for p in data.rglob("*")}
    manifest = take_backup(settings, str(tmp_path / "b"), options=NO_SKEW)
    assert {p: p.stat().st_mtime_ns for p in data.rglob("*")} == before
    assert (manifest.cubes, manifest.rows, manifest.data) == (2, 3, settings.data)
    (entry,) = Backup(str(tmp_path / "b")).chosen(["c"])
    assert entry.incarnation == incarnation
    assert entry.record == {
        "cube_id": "c",
        "incarnation": incarnation,
        "embedder": "hash",
        "state": "active",
        "created_at": entry.record["created_at"],
        "revision": 1,
        "owner": "",
        "grants": [],
    }


def test_rows_that_do_not_count_are_not_in_it(settings, tmp_path):
    incarnation = make_cube(settings, "c")
    store = journal_store(settings, "c", incarnation)
    store.open()
    for number in (1, 2):
        Owner(store, SystemClock(), f"owner {number}").activate()
    store.append(
        store.latest(), stored_table([row(4, epoch=1)])
    )  # the first owner's, after the second opened
    take_backup(settings, str(tmp_path / "b"), options=NO_SKEW)
    assert texts(Backup(str(tmp_path / "b")), "c") == ["text 1", "text 2", "text 3"]


def test_as_of_an_earlier_time(settings, tmp_path):
    incarnation = new_op_id()
    start = datetime(2024, 1, 1, tzinfo=UTC)
    rows = [row(i + 1, recorded_at=start + timedelta(days=i // 2)) for i in range(6)]
    write_incarnation(settings, "c", incarnation, rows_to_table(rows))
    Registry(settings.data).create_if_absent("c", incarnation=incarnation, embedder="hash")
    for days, kept in ((0, 2), (1, 4), (1.5, 4), (9, 6)):
        to = str(tmp_path / f"b{days}")
        take_backup(settings, to, at=start + timedelta(days=days), options=NO_SKEW)
        assert len(texts(Backup(to), "c")) == kept
    # A cube that came later, and of which nothing is older, was not there.
    assert (
        take_backup(settings, str(tmp_path / "none"), at=start - timedelta(days=1), options=NO_SKEW).cubes
        == 0
    )
    with pytest.raises(Invalid, match="future"):
        take_backup(settings, str(tmp_path / "later"), at=datetime.now(UTC) + timedelta(hours=1))


def test_only_some_cubes(settings, tmp_path):
    for name in "abc":
        make_cube(settings, name)
    take_backup(settings, str(tmp_path / "b"), cubes=["c", "a"], options=NO_SKEW)
    assert [e.cube_id for e in Backup(str(tmp_path / "b")).entries()] == ["a", "c"]
    with pytest.raises(NotFound):
        take_backup(settings, str(tmp_path / "none"), cubes=["a", "x"], options=NO_SKEW)
    assert not (tmp_path / "none").exists()
    with pytest.raises(NotFound):
        list(Backup(str(tmp_path / "b")).chosen(["b"]))


def test_a_backup_of_nothing_is_a_mistake(tmp_path):
    with pytest.raises(NotFound, match="right place"):
        take_backup(Settings(data=str(tmp_path / "nowhere")), str(tmp_path / "b"), options=NO_SKEW)
    assert not (tmp_path / "b").exists()


def test_a_chain_of_incremental_backups(settings, tmp_path):
    for name in "abcde":
        make_cube(settings, name)
    places = [str(tmp_path / "backups" / str(i)) for i in range(4)]
    first = take_backup(settings, places[0], options=SMALL)
    append(settings, "b")
    second = take_backup(settings, places[1], since=places[0], options=SMALL)
    append(settings, "b")
    append(settings, "d", rows=0)  # an activation: a new version, no new row
    make_cube(settings, "f")
    third = take_backup(settings, places[2], since=places[1], options=SMALL)
    fourth = take_backup(settings, places[3], since=places[2], options=SMALL)
    assert first.bytes > second.bytes > 0
    assert [b.cubes for b in second.bases] == [4]
    assert [b.cubes for b in third.bases] == [0, 4]
    assert third.bases[1].location == "../0"
    assert [b.cubes for b in fourth.bases] == [2, 0, 4]
    assert fourth.bytes == 0
    last = Backup(places[3])
    assert [(e.cube_id, len(texts(last, e.cube_id))) for e in last.entries()] == [
        ("a", 3), ("b", 5), ("c", 3), ("d", 3), ("e", 3), ("f", 3),
    ]  # fmt: skip
    assert verify(places[3]).problems == ()

    (tmp_path / "backups").rename(tmp_path / "elsewhere")  # they refer to one another by relative names
    assert verify(str(tmp_path / "elsewhere" / "3")).problems == ()
    (tmp_path / "elsewhere" / "0").rename(tmp_path / "gone")
    problems = verify(str(tmp_path / "elsewhere" / "3")).problems
    assert {p.cube_id for p in problems} == {"a", "c", "d", "e"}
    assert all(first.id in p.text and "missing" in p.text for p in problems)


def test_an_older_instant_takes_nothing_newer_from_the_backup_that_it_builds_on(settings, tmp_path):
    make_cube(settings, "a")
    between = datetime.now(UTC)
    append(settings, "a")
    take_backup(settings, str(tmp_path / "1"), options=NO_SKEW)
    take_backup(settings, str(tmp_path / "2"), at=between, since=str(tmp_path / "1"), options=NO_SKEW)
    assert len(texts(Backup(str(tmp_path / "2")), "a")) == 3


def test_an_incarnation_that_was_replaced_is_taken_anew(settings, tmp_path):
    make_cube(settings, "a")
    take_backup(settings, str(tmp_path / "1"), options=NO_SKEW)
    incarnation = new_op_id()
    write_incarnation(settings, "a", incarnation, rows_to_table([row(1), row(2), row(3)]))
    Registry(settings.data).compare_and_set("a", 1, incarnation=incarnation)
    second = take_backup(settings, str(tmp_path / "2"), since=str(tmp_path / "1"), options=NO_SKEW)
    assert second.bases[0].cubes == 0


class Interrupted(Exception):
    pass


def test_an_interrupted_backup_is_no_backup_and_is_gone_on_with(settings, tmp_path):
    for i in range(7):
        make_cube(settings, f"cube-{i}")
    path = Journal(settings, "cube-1")
    path.damage()
    to = str(tmp_path / "b")

    def interrupt(cubes, written):
        if cubes == 5:
            raise Interrupted

    with pytest.raises(Interrupted):
        take_backup(settings, to, options=SMALL, progress=interrupt)
    with pytest.raises(Invalid, match="not finished"):
        Backup(to)
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "b").rglob("*.zip")}
    assert len(written) == 2
    append(settings, "cube-6")  # after the instant of this backup
    with pytest.raises(Invalid, match="continue"):
        take_backup(settings, to, cubes=["cube-1"], options=SMALL)
    with pytest.raises(Invalid, match="continue"):
        take_backup(settings, to, at=datetime.now(UTC), options=SMALL)

    seen = []
    manifest = take_backup(settings, to, options=SMALL, progress=lambda cubes, _: seen.append(cubes))
    assert seen == [5, 6]
    assert {p: p.stat().st_mtime_ns for p in written} == written
    assert [e.cube_id for e in Backup(to).entries()] == [f"cube-{i}" for i in (0, 2, 3, 4, 5, 6)]
    assert len(texts(Backup(to), "cube-6")) == 3
    assert [d.cube_id for d in manifest.damaged] == ["cube-1"]
    with pytest.raises(Invalid, match="finished"):
        take_backup(settings, to, options=SMALL)


def test_a_part_that_was_not_finished_is_written_again(settings, tmp_path):
    for i in range(4):
        make_cube(settings, f"cube-{i}")
    to = tmp_path / "b"
    take_backup(settings, str(to), options=SMALL)
    (to / "manifest.json").unlink()
    (to / "bundles" / "000001.zip").write_bytes(b"half")
    take_backup(settings, str(to), options=SMALL)
    assert verify(str(to)).problems == ()
    (to / "manifest.json").unlink()
    (to / "index" / "000000.json").write_text("{")
    take_backup(settings, str(to), options=SMALL)
    assert verify(str(to)).problems == ()


class Journal:
    """The newest data file of a cube's journal, to be broken."""

    def __init__(self, settings, cube_id):
        record = Registry(settings.data).lookup(cube_id)
        self.path = Path(journal_path(settings.data, cube_id, record.incarnation))

    def damage(self):
        newest = lance.dataset(str(self.path)).get_fragments()[-1].data_files()[0].path
        (self.path / "data" / Path(newest).name).write_bytes(b"")


def test_a_damaged_cube_is_named_and_the_others_are_in(settings, tmp_path):
    for name in "abc":
        make_cube(settings, name)
    Journal(settings, "b").damage()
    manifest = take_backup(settings, str(tmp_path / "b"), options=NO_SKEW)
    assert [e.cube_id for e in Backup(str(tmp_path / "b")).entries()] == ["a", "c"]
    assert [d.cube_id for d in manifest.damaged] == ["b"]
    assert {p.cube_id for p in verify(str(tmp_path / "b")).problems} == {"b"}
    with pytest.raises(Corrupt):
        read_cut(settings, "b", Registry(settings.data).lookup("b").incarnation, None)
