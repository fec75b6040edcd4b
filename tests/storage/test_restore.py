"""Cubes that come back: from backups, from their own journals; repeated, replaced, raced."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from memos_ray.backup.incarnations import adopt
from memos_ray.backup.restoring import restore_cubes, rewind_all, rewind_cube
from memos_ray.backup.stored import Backup
from memos_ray.backup.taking import Options, take_backup
from memos_ray.clock import SystemClock
from memos_ray.cube.opening import journal_store
from memos_ray.cube.registry import Grant
from memos_ray.errors import Conflict, Invalid, Moved, NotFound, Unavailable
from memos_ray.ids import new_op_id
from memos_ray.testing.local import LocalCubes


class System(LocalCubes):
    """Cubes of this process, with the directory's part in a restore."""

    async def restore_cube(self, cube_id, incarnation, replace, owner, grants=()):
        await adopt(
            self.settings,
            self._registry,
            cube_id,
            incarnation,
            replace=replace,
            owner=owner,
            grants=grants,
            clock=SystemClock(),
            let_go=lambda: self.let_go(cube_id),
        )

    async def let_go(self, cube_id):
        if (cube := self._active.pop(cube_id, None)) is not None:
            await cube.close()

    async def back_up(self, to, **arguments):
        await asyncio.to_thread(take_backup, self.settings, str(to), options=Options(skew_s=0.0), **arguments)
        return Backup(str(to))

    async def restore(self, backup, **arguments):
        found = restore_cubes(self.settings, backup, self.restore_cube, **arguments)
        return {r.cube_id: r async for r in found}

    async def rewind(self, cube_id, at=None, **arguments):
        return await rewind_cube(self.settings, self.restore_cube, cube_id, at=at, **arguments)

    def current(self, cube_id):
        return self._registry.lookup(cube_id).incarnation


@pytest.fixture
async def system(tmp_path):
    async with System(str(tmp_path / "data")) as cubes:
        yield cubes


async def texts(system, cube_id):
    return sorted(item.text for item in await (await system.cube(cube_id)).get_all())


def folded(rows, at):
    """Independent of the project's fold: {memory: (version, text)} of what is visible at an instant."""
    newest = {}
    for row in rows:
        if row["memory_id"] is not None and row["recorded_at"] <= at:
            newest[row["memory_id"]] = row
    return {i: (r["version"], r["text"]) for i, r in newest.items() if r["status"] == "active"}


async def busy_life(system):
    """A cube that had something of everything; (its rows, an instant after each operation)."""
    cube = await system.cube("life")
    instants = []

    async def then(awaitable):
        answer = await awaitable
        instants.append(datetime.now(UTC))
        return answer

    added = await then(cube.add(["Tea at four.", "Bees at dawn.", "Rain at noon."], op_id="first"))
    await then(cube.update(added.ids[0], text="Tea at five."))
    await then(cube.delete(added.ids[1]))
    await then(cube.snapshot("here"))
    await then(cube.add_triples([("a", "likes", "tea")], functional=True))
    await then(cube.add_triples([("a", "likes", "cocoa")], functional=True))
    await then(cube.archive(added.ids[2]))
    await then(cube.restore(added.ids[2]))
    await then(cube.delete_all())
    await then(cube.restore_snapshot("here"))
    return (await cube.export_table()).to_pylist(), instants, added


async def test_every_instant_comes_back_as_an_independent_fold_has_it(system, tmp_path):
    rows, instants, _ = await busy_life(system)
    backup = await system.back_up(tmp_path / "b")
    seen = set()
    for number, at in enumerate(instants):
        expected = folded(rows, at)
        await system.rewind("life", at, as_cube=f"rewound-{number}")
        await system.restore(backup, cubes=["life"], at=at, as_cube=f"restored-{number}")
        earlier = await system.back_up(tmp_path / f"at-{number}", cubes=["life"], at=at)
        await system.restore(earlier, as_cube=f"earlier-{number}", cubes=["life"])
        for name in ("rewound", "restored", "earlier"):
            items = await (await system.cube(f"{name}-{number}")).get_all()
            assert {i.id: (i.version, i.text) for i in items} == expected, (name, number)
        seen.add(tuple(sorted(expected.items())))
    assert len(seen) >= 5


async def test_a_client_that_repeats_an_old_call_gets_the_old_answer(system, tmp_path):
    _, instants, added = await busy_life(system)
    backup = await system.back_up(tmp_path / "b")
    await system.restore(backup, replace=True)
    cube = await system.cube("life")
    assert await cube.add(["Tea at four.", "Bees at dawn.", "Rain at noon."], op_id="first") == added
    with pytest.raises(Conflict):
        await cube.add(["Something else."], op_id="first")
    await system.rewind("life", instants[0])
    cube = await system.cube("life")
    assert await cube.add(["Tea at four.", "Bees at dawn.", "Rain at noon."], op_id="first") == added
    history = [(entry.op, entry.item.version) for entry in await cube.history(added.ids[0])]
    assert history == [("add", 1)]


async def test_all_come_back_into_an_empty_place(system, tmp_path):
    for name in ("a", "b", "c"):
        await (await system.cube(name)).add([f"of {name}"])
    backup = await system.back_up(tmp_path / "b")
    async with System(str(tmp_path / "other")) as other:
        restored = await other.restore(backup)
        assert {name: r.outcome for name, r in restored.items()} == dict.fromkeys("abc", "restored")
        assert [await texts(other, name) for name in "abc"] == [["of a"], ["of b"], ["of c"]]
        await (await other.cube("a")).add(["later"])
        again = await other.restore(backup)
        assert {r.outcome for r in again.values()} == {"unchanged"}
        assert await texts(other, "a") == ["later", "of a"]


async def test_who_was_let_in_is_let_into_what_comes_back_and_not_into_a_copy(system, tmp_path):
    await (await system.cube("team")).add("x")
    granted = (Grant("user:bob", "reader"),)
    record = system._registry.lookup("team")
    system._registry.compare_and_set("team", record.revision, owner="user:ada", grants=granted)
    backup = await system.back_up(tmp_path / "b")
    async with System(str(tmp_path / "elsewhere")) as other:
        await other.restore(backup)
        await other.restore(backup, cubes=["team"], as_cube="copy")
        back, copy = (other._registry.lookup(cube_id) for cube_id in ("team", "copy"))
    assert (back.owner, back.grants) == ("user:ada", granted)
    assert (copy.owner, copy.grants) == ("user:ada", ())


async def test_existing_cubes_are_in_the_way_before_anything_is_changed(system, tmp_path):
    for name in ("a", "b"):
        await (await system.cube(name)).add([f"of {name}"])
    backup = await system.back_up(tmp_path / "b")
    async with System(str(tmp_path / "other")) as other:
        await (await other.cube("b")).add(["mine"])
        with pytest.raises(Conflict, match="already: b"):
            await other.restore(backup)
        assert other._registry.lookup("a") is None
        assert (await other.restore(backup, cubes=["b"], as_cube="b2"))["b2"].rows == 1
        with pytest.raises(Conflict, match="already: b"):
            await other.restore(backup, cubes=["a"], as_cube="b")


async def test_replacing_fences_the_old_incarnation_off_and_leaves_it(system, tmp_path):
    cube = await system.cube("a")
    await cube.add(["before"])
    backup = await system.back_up(tmp_path / "b")
    await cube.add(["after"])
    old, stale = system.current("a"), await system.active("a")
    system._active.pop("a")  # a host that the directory does not know of any more
    done = (await system.restore(backup, replace=True))["a"]
    assert (done.outcome, done.previous) == ("restored", old)
    with pytest.raises(Moved):
        await stale.add_messages(["too late"], op_id=new_op_id())
    await stale.close()
    assert await texts(system, "a") == ["before"]
    undone = await system.rewind("a", incarnation=old)
    assert undone.previous == done.incarnation
    assert await texts(system, "a") == ["after", "before"]


async def test_an_owner_that_claims_between_the_fence_and_the_switch_does_not_go_on(system, tmp_path):
    await (await system.cube("a")).add(["before"])
    backup = await system.back_up(tmp_path / "b")
    loop, change, stale = asyncio.get_running_loop(), system._registry.compare_and_set, []

    def somebody_comes_first(*arguments, **changes):  # of another system on the same storage
        stale.append(asyncio.run_coroutine_threadsafe(system.active("a"), loop).result())
        system._active.pop("a")
        return change(*arguments, **changes)

    system._registry.compare_and_set = somebody_comes_first
    await system.restore(backup, replace=True)
    assert stale[0].lost is None  # nobody has told it
    with pytest.raises(Moved):
        await stale[0].add_messages(["into what was left behind"], op_id=new_op_id())
    await stale[0].close()
    assert await texts(system, "a") == ["before"]


async def test_repeating_a_restore_keeps_what_was_written_since_unless_it_is_asked_for(system, tmp_path):
    cube = await system.cube("a")
    await cube.add(["one"])
    first = await system.back_up(tmp_path / "1")
    await cube.add(["two"])
    second = await system.back_up(tmp_path / "2")
    await system.restore(first, replace=True)
    await (await system.cube("a")).add(["three"])
    assert (await system.restore(first, replace=True))["a"].outcome == "unchanged"
    assert await texts(system, "a") == ["one", "three"]
    assert (await system.restore(first, replace=True, again=True))["a"].outcome == "restored"
    assert await texts(system, "a") == ["one"]
    await (await system.cube("a")).add(["four"])
    await system.restore(second, replace=True)
    assert await texts(system, "a") == ["one", "two"]
    await system.restore(first, replace=True)  # not the incarnation that "four" was written to
    assert await texts(system, "a") == ["one"]


async def test_an_interrupted_restore_is_gone_on_with(system, tmp_path):
    for name in "abcd":
        await (await system.cube(name)).add([f"of {name}"])
    backup = await system.back_up(tmp_path / "b")
    async with System(str(tmp_path / "other")) as other:
        calls = []

        async def dies(cube_id, *arguments):
            calls.append(cube_id)
            if len(calls) == 3:  # its rows are written, the registry does not name them
                raise Unavailable("gone", what="directory")
            await other.restore_cube(cube_id, *arguments)

        with pytest.raises(Unavailable):
            async for _ in restore_cubes(other.settings, backup, dies, workers=1):
                pass
        restored = await other.restore(backup)
        assert [restored[n].outcome for n in "abcd"] == ["unchanged", "unchanged", "restored", "restored"]
        store = journal_store(other.settings, "c", other.current("c"))
        store.open()
        assert store.read()[1].num_rows == 1
        assert await texts(other, "c") == ["of c"]


async def test_going_back_and_coming_forward_again(system):
    cube = await system.cube("a")
    await cube.add(["one"])
    at = datetime.now(UTC)
    await cube.add(["two"])
    old = system.current("a")
    back = await system.rewind("a", at)
    assert (back.outcome, back.previous, back.rows) == ("restored", old, 1)
    assert await texts(system, "a") == ["one"]
    assert (await system.rewind("a", at)).outcome == "unchanged"
    await system.rewind("a", incarnation=back.previous)
    assert await texts(system, "a") == ["one", "two"]


async def test_all_cubes_go_back_together(system):
    for name in "ab":
        await (await system.cube(name)).add(["one"])
    at = datetime.now(UTC)
    await (await system.cube("a")).add(["two"])
    await (await system.cube("c")).add(["new"])
    found = {r.cube_id: r.outcome async for r in rewind_all(system.settings, system.restore_cube, at=at)}
    assert found == {"a": "restored", "b": "unchanged", "c": "left"}
    assert [await texts(system, n) for n in "abc"] == [["one"], ["one"], ["new"]]


async def test_what_cannot_be_done_is_said_before_anything_changes(system, tmp_path):
    before = datetime.now(UTC)
    await (await system.cube("a")).add(["one"])
    revision = system._registry.lookup("a").revision
    backup = await system.back_up(tmp_path / "b")
    with pytest.raises(Invalid, match="it began"):
        await system.rewind("a", before)
    with pytest.raises(Invalid, match="to which time"):
        await system.rewind("a")
    with pytest.raises(NotFound):
        await system.rewind("nobody", datetime.now(UTC))
    with pytest.raises(NotFound, match="incarnation"):
        await system.rewind("a", incarnation=new_op_id())
    with pytest.raises(Conflict):
        await system.rewind("a", datetime.now(UTC), as_cube="a")
    with pytest.raises(Invalid, match="own instant"):
        await system.restore(backup, at=datetime.now(UTC), replace=True)
    with pytest.raises(Invalid, match="one cube"):
        await system.restore(backup, as_cube="x")
    with pytest.raises(NotFound):
        await system.restore(backup, cubes=["b"])
    with pytest.raises(Unavailable, match="same storage"):
        await system.restore_cube("new", new_op_id(), False, "")
    assert system._registry.lookup("a").revision == revision
