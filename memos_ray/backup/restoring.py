"""Brings cubes back: from a backup, or from their own journals as of an earlier time.

Rows keep their versions, times and op_ids, so that a client which repeats an old call gets the old answer.
Reads backups and writes new incarnations; `adopt`, which the caller gives, is the directory's part.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from memos_ray.backup.incarnations import Names, write_first_free, write_unless_there
from memos_ray.backup.layout import Entry
from memos_ray.backup.reading import Cut, read_cut, read_key
from memos_ray.backup.stored import Backup
from memos_ray.backup.taking import records
from memos_ray.config import Settings
from memos_ray.cube.columns import one_chunk, times_us, to_us
from memos_ray.cube.registry import CubeRecord, Grant, Registry
from memos_ray.errors import Conflict, Invalid, NotFound
from memos_ray.ids import check_id, new_op_id

_NAMED = 5  # cubes that an error names

T = TypeVar("T")
R = TypeVar("R")


class Adopt(Protocol):
    """The directory's `restore_cube`: makes a written incarnation a cube's current one."""

    def __call__(
        self, cube_id: str, incarnation: str, replace: bool, owner: str, grants: tuple[Grant, ...] = ()
    ) -> Awaitable[object]:
        """See `incarnations.adopt`."""
        ...


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of one cube. `previous`: the incarnation before, which still lies in storage and can be gone back to.

    "unchanged": it is as asked for already. "left": nothing of it had been recorded by then.
    """

    cube_id: str
    outcome: Literal["restored", "unchanged", "left"]
    incarnation: str
    previous: str | None
    rows: int


async def restore_cubes(
    settings: Settings,
    backup: Backup,
    adopt: Adopt,
    *,
    cubes: list[str] | None = None,
    as_cube: str | None = None,
    at: datetime | None = None,
    replace: bool = False,
    again: bool = False,
    workers: int = 4,
) -> AsyncIterator[Restored]:
    """Restores these cubes (None: all) of a backup, one result for each, in no order.

    A cube whose current incarnation this very restore made is "unchanged", whatever was written to it since, unless
    `again`. Raises `NotFound` for a cube that the backup has not, `Invalid`, `Corrupt`; and `Conflict`, before
    anything is changed, if one exists and `replace` is False.
    """
    if as_cube is not None and (cubes is None or len(set(cubes)) != 1):
        raise Invalid("a new id is for one cube: name the one to restore", argument="as_cube")
    if as_cube is not None:
        check_id(as_cube, "as_cube")
    if at is not None and at > backup.manifest.at:
        raise Invalid(
            f"at is after the backup's own instant, {backup.manifest.at.isoformat()}", argument="at"
        )

    def names(entry: Entry) -> Names:
        when = "" if at is None else at.isoformat()
        return Names("restore", backup.manifest.id, entry.cube_id, as_cube or entry.cube_id, when)

    def pairs() -> Iterator[tuple[Entry, CubeRecord | None]]:
        return _beside_registry(settings, backup.chosen(cubes), as_cube, every=cubes is None)

    def in_the_way() -> list[str]:
        return [r.cube_id for e, r in pairs() if r is not None and r.incarnation not in names(e)]

    if not replace:
        existing = await asyncio.to_thread(in_the_way)
        if existing:
            more = f" and {len(existing) - _NAMED} more" if len(existing) > _NAMED else ""
            raise Conflict(
                f"there are cubes of that id already: {', '.join(existing[:_NAMED])}{more}; replace them, "
                "or restore under another id"
            )

    async def one(pair: tuple[Entry, CubeRecord | None]) -> Restored:
        entry, record = pair
        target, mine = as_cube or entry.cube_id, names(entry)
        if record is not None and record.incarnation in mine and not again:
            return Restored(target, "unchanged", record.incarnation, None, entry.rows)

        def write() -> tuple[str, int]:
            table = up_to(backup.table(entry), at)
            return write_first_free(settings, target, mine, table), table.num_rows

        incarnation, rows = await asyncio.to_thread(write)
        owner = str(entry.record.get("owner") or "")
        # Who was let into the cube is let into what takes its place, and not into a copy under another id.
        granted = () if as_cube else entry.record.get("grants") or ()
        await adopt(target, incarnation, replace, owner, tuple(Grant(**grant) for grant in granted))
        return Restored(target, "restored", incarnation, record.incarnation if record else None, rows)

    async for result in _side_by_side(pairs(), one, workers):
        yield result


def up_to(table: pa.Table, at: datetime | None) -> pa.Table:
    """The rows recorded up to `at` (None: all)."""
    if at is None or not table.num_rows:
        return table
    beyond = np.flatnonzero(times_us(one_chunk(table["recorded_at"])) > to_us(at))
    return table.slice(0, int(beyond[0])) if beyond.size else table


def _beside_registry(
    settings: Settings, entries: Iterator[Entry], as_cube: str | None, *, every: bool
) -> Iterator[tuple[Entry, CubeRecord | None]]:
    """Each entry with the active cube of its new id, if there is one."""
    if not every:
        registry = Registry(settings.data)
        for entry in entries:
            found = registry.lookup(as_cube or entry.cube_id)
            yield entry, found if found is not None and found.state == "active" else None
        return
    known = records(settings, None)
    record = next(known, None)
    for entry in entries:
        while record is not None and record.cube_id < entry.cube_id:
            record = next(known, None)
        yield entry, record if record is not None and record.cube_id == entry.cube_id else None


async def rewind_cube(
    settings: Settings,
    adopt: Adopt,
    cube_id: str,
    *,
    at: datetime | None,
    incarnation: str | None = None,
    as_cube: str | None = None,
) -> Restored:
    """Gives a cube (or a new cube `as_cube`) the rows that its own journal held at `at`.

    `incarnation`: of an earlier incarnation instead of the current one; then `at` None takes all of it. Raises
    `NotFound`, `Invalid` if nothing had been recorded by then, `Conflict` if `as_cube` exists.

    The rows are copied while the cube may still be written to. None that belongs to them can come late: something
    was recorded after `at` already, and what lands behind that was not recorded before it.
    """
    if at is None and incarnation is None:
        raise Invalid("say to which time to go back, or to which incarnation", argument="at")
    check_id(as_cube or cube_id, "as_cube")
    record = await asyncio.to_thread(lambda: next(records(settings, [cube_id])))
    source = incarnation or record.incarnation
    if source == record.incarnation and as_cube is None:
        now = await asyncio.to_thread(read_key, settings, cube_id, source, at)
        if now.last and now.rows:
            return Restored(cube_id, "unchanged", source, None, now.rows)
    target, name = as_cube or cube_id, new_op_id()

    def copy() -> Cut:
        cut = read_cut(settings, cube_id, source, at)
        if not cut.version:
            raise NotFound(f"cube {cube_id!r} has no incarnation {source}", what="incarnation", id=source)
        if not cut.rows:
            began = f"; it began {cut.first_recorded.isoformat()}" if cut.first_recorded else ""
            raise Invalid(f"nothing of cube {cube_id!r} had been recorded by then{began}", argument="at")
        write_unless_there(settings, target, name, cut.readable_rows)
        return cut

    cut = await asyncio.to_thread(copy)
    await adopt(target, name, as_cube is None, record.owner)
    previous = record.incarnation if as_cube is None else None
    return Restored(target, "restored", name, previous, cut.rows)


async def rewind_all(
    settings: Settings, adopt: Adopt, *, at: datetime, workers: int = 4
) -> AsyncIterator[Restored]:
    """Every cube as it was at `at`. Cubes of which nothing had been recorded by then are left as they are."""

    async def one(record: CubeRecord) -> Restored:
        now = await asyncio.to_thread(read_key, settings, record.cube_id, record.incarnation, at)
        if not now.rows:
            return Restored(record.cube_id, "left", record.incarnation, None, 0)
        return await rewind_cube(settings, adopt, record.cube_id, at=at)

    async for result in _side_by_side(records(settings, None), one, workers):
        yield result


async def _side_by_side(
    items: Iterator[T], work: Callable[[T], Awaitable[R]], workers: int
) -> AsyncIterator[R]:
    """Results as they come, of at most `workers` items at a time. The first error ends it; what runs is waited for."""
    done = object()
    running: set[asyncio.Task[R]] = set()
    more = True
    try:
        while more or running:
            while more and len(running) < workers:
                item = await asyncio.to_thread(next, items, done)
                if item is done:
                    more = False
                else:
                    running.add(asyncio.ensure_future(work(item)))  # type: ignore[arg-type]
            if not running:
                break
            finished, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in finished:
                yield task.result()
    finally:
        if running:
            await asyncio.wait(running)
