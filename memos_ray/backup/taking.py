"""Takes a backup of cubes beside a running system: reads storage, owns nothing, disturbs no writer.

One instant T for all cubes: what was recorded up to T, and nothing after it. An owner stamps `recorded_at` before
it commits and acknowledges after, so what was acknowledged before T was recorded before T, and a read that begins
after T finds it. T lies `skew_s` after the start of the backup and reading begins `skew_s` after T: hosts whose
clocks are off by no more than that have by then acknowledged, with a stamp up to T, all that they acknowledged
before the start, and stamp nothing with T or less any more.

Memory: one cube for each worker. Work that was interrupted is gone on with, part by part.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from memos_ray.arguments import check_whole
from memos_ray.backup.bundles import PartWriter, part_of
from memos_ray.backup.layout import (
    MANIFEST,
    PLAN,
    Base,
    Damaged,
    Entry,
    Index,
    Manifest,
    Part,
    Plan,
    index_name,
    sealed,
    unsealed,
)
from memos_ray.backup.locations import files_at, relative_location, resolve_location
from memos_ray.backup.reading import Cut, latest_version, read_cut, read_key
from memos_ray.backup.stored import Backup
from memos_ray.clock import SystemClock
from memos_ray.config import Settings
from memos_ray.cube.portable import memcube_bytes
from memos_ray.cube.registry import CubeRecord, Registry
from memos_ray.errors import Corrupt, Invalid, MemosError, NotFound
from memos_ray.ids import check_id, new_op_id
from memos_ray.protocols import Clock
from memos_ray.storage.files import Files
from memos_ray.types import to_jsonable

log = logging.getLogger(__name__)

SKEW_S = 0.5
PART_CUBES, PART_BYTES = 1024, 64 << 20


@dataclass(frozen=True, slots=True)
class Options:
    """`workers`: cubes read at once. `skew_s`: by how much hosts' clocks may differ. A part of the backup ends with
    `part_cubes` cubes or `part_bytes` bytes; a cube that is larger is a part of its own."""

    workers: int = 4
    skew_s: float = SKEW_S
    part_cubes: int = PART_CUBES
    part_bytes: int = PART_BYTES


Progress = Callable[[int, int], None]
"""Called with the cubes and bytes written so far."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    record: CubeRecord
    entry: Entry | None = None  # whose rows an older backup has
    cut: Cut | None = None
    data: bytes = b""
    damage: str = ""


def take_backup(
    settings: Settings,
    to: str,
    *,
    cubes: Sequence[str] | None = None,
    at: datetime | None = None,
    since: str | None = None,
    options: Options | None = None,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Backs up these cubes (None: all) to a new folder or URI; goes on with an unfinished backup that lies there.

    `at`: as of then instead of now. `since`: an older backup; cubes that did not change are not written again but
    read from there. A cube whose storage is damaged is named in the manifest and left out.

    Raises `Invalid` for a place that holds something else or an `at` in the future, `NotFound` for a cube that is
    not there, or if there is none at all, `Unavailable` if storage fails (then repeat the call).
    """
    options = options or Options()
    check_whole(options.workers, "workers", 1)
    clock = clock or SystemClock()
    files = files_at(to)
    plan = _plan(settings, files, cubes, at, since, options, clock)
    _wait_until(clock, plan.at + timedelta(seconds=options.skew_s))
    older = Backup(resolve_location(plan.bases[0].location, files.uri)) if plan.bases else None
    if older is not None and older.manifest.id != plan.bases[0].id:
        raise Invalid(f"{older.files.uri} is another backup than the one to build on", argument="since")
    return _Run(settings, files, plan, older, options, progress).run(clock)


def _plan(
    settings: Settings,
    files: Files,
    cubes: Sequence[str] | None,
    at: datetime | None,
    since: str | None,
    options: Options,
    clock: Clock,
) -> Plan:
    """The plan that lies there already, else a new one, written down."""
    wanted = None if cubes is None else tuple(sorted({check_id(c, "cube_id") for c in cubes}))
    now = clock.now()
    if at is not None and at > now:
        raise Invalid(f"at lies in the future: {at.isoformat()}", argument="at")
    if files.find_bytes(MANIFEST) is not None:
        raise Invalid(f"there is a finished backup at {files.uri}; name another place", argument="to")
    if (data := files.find_bytes(PLAN)) is not None:
        plan = unsealed(data, Plan, files.path(PLAN))
        _check_same(plan, settings, files, wanted, at, since)
        return plan
    if not files.is_empty():
        raise Invalid(f"{files.uri} holds something else; name an empty place", argument="to")
    for cube_id in wanted or ():
        _active(Registry(settings.data), cube_id)
    if wanted is None and not Registry(settings.data).index().page(limit=1):
        raise NotFound(f"there are no cubes at {settings.data}; is it the right place?", what="cube", id="")
    plan = Plan(
        id=new_op_id(),
        at=(at or now + timedelta(seconds=options.skew_s)).astimezone(UTC),
        data=settings.data,
        cubes=wanted,
        bases=_bases(files, since) if since is not None else (),
    )
    files.write_durably(PLAN, sealed(plan))
    return plan


def _check_same(
    plan: Plan,
    settings: Settings,
    files: Files,
    wanted: tuple[str, ...] | None,
    at: datetime | None,
    since: str | None,
) -> None:
    where = f"an unfinished backup lies at {files.uri}, "
    if plan.data != settings.data:
        raise Invalid(f"{where}of {plan.data}; name another place", argument="to")
    if wanted is not None and wanted != plan.cubes:
        raise Invalid(f"{where}of other cubes; leave them out to continue it", argument="cubes")
    if at is not None and at != plan.at:
        raise Invalid(f"{where}as of {plan.at.isoformat()}; leave `at` out to continue it", argument="at")
    if since is not None and (not plan.bases or Backup(since).manifest.id != plan.bases[0].id):
        raise Invalid(
            f"{where}that does not build on {since}; leave `since` out to continue it", argument="since"
        )


def _bases(files: Files, since: str) -> tuple[Base, ...]:
    """The older backup, and those that it builds on itself: each is referred to directly."""
    older = Backup(since)
    named = [(older.manifest.id, older.files.uri)]
    named += [(b.id, resolve_location(b.location, older.files.uri)) for b in older.manifest.bases]
    return tuple(Base(id=i, location=relative_location(place, files.uri)) for i, place in named)


def _wait_until(clock: Clock, moment: datetime) -> None:
    while (left := (moment - clock.now()).total_seconds()) >= 0:
        time.sleep(min(left, 0.5) + 1e-4)


class _Run:
    """One attempt at carrying a plan out."""

    def __init__(
        self,
        settings: Settings,
        files: Files,
        plan: Plan,
        older: Backup | None,
        options: Options,
        progress: Progress | None,
    ) -> None:
        self._settings, self._files, self._plan, self._older = settings, files, plan, older
        self._options, self._progress = options, progress or (lambda cubes, written: None)
        self._parts: list[Part] = []
        self._damaged: list[Damaged] = []
        self._cubes = self._rows = self._bytes = 0
        self._from_base = [0] * len(plan.bases)

    def run(self, clock: Clock) -> Manifest:
        """Writes what is missing, then the manifest."""
        for number, (index, data) in enumerate(finished_parts(self._files)):
            self._parts.append(part_of(index, number, data))
            self._damaged += index.damaged
            for entry in index.entries:
                self._count(entry)
        last = self._parts[-1].last if self._parts else ""
        with ThreadPoolExecutor(self._options.workers, thread_name_prefix="memos-backup") as pool:
            prepared = self._prepared(pool, last)
            while (first := next(prepared, None)) is not None:
                self._write_part(first, prepared)
        manifest = Manifest(
            id=self._plan.id,
            at=self._plan.at,
            finished_at=clock.now(),
            data=self._plan.data,
            all_cubes=self._plan.cubes is None,
            bases=tuple(
                b.model_copy(update={"cubes": n})
                for b, n in zip(self._plan.bases, self._from_base, strict=True)
            ),
            parts=tuple(self._parts),
            cubes=self._cubes,
            rows=self._rows,
            bytes=self._bytes,
            damaged=tuple(self._damaged),
        )
        self._files.write_durably(MANIFEST, sealed(manifest))
        return manifest

    def _write_part(self, first: _Prepared, more: Iterator[_Prepared]) -> None:
        with PartWriter(self._files, len(self._parts)) as part:
            one: _Prepared | None = first
            while one is not None:
                self._put(part, one)
                if len(part.entries) >= self._options.part_cubes or part.bytes >= self._options.part_bytes:
                    break
                one = next(more, None)
            self._damaged += part.damaged
            if part.entries:
                self._parts.append(part.finish())

    def _put(self, part: PartWriter, one: _Prepared) -> None:
        if one.damage:
            part.damaged.append(Damaged(cube_id=one.record.cube_id, error=one.damage))
            return
        entry = one.entry
        if entry is None:
            assert one.cut is not None
            entry = Entry(
                cube_id=one.record.cube_id,
                record=to_jsonable(asdict(one.record)),
                version=one.cut.version,
                rows=one.cut.rows,
                key=one.cut.key,
                last=one.cut.last,
                place=part.put(one.data),
            )
        part.entries.append(entry)
        self._count(entry)
        self._progress(self._cubes, self._bytes)

    def _count(self, entry: Entry) -> None:
        self._cubes += 1
        self._rows += entry.rows
        if entry.place.base is None:
            self._bytes += entry.place.bytes
        else:
            self._from_base[entry.place.base] += 1

    def _prepared(self, pool: ThreadPoolExecutor, after: str) -> Iterator[_Prepared]:
        """What goes into the backup, by id; at most one cube for each worker is in memory."""
        waiting: deque[Future[_Prepared | None]] = deque()
        cubes = beside(records(self._settings, self._plan.cubes, after), self._older_entries(after))
        try:
            for record, entry in cubes:
                waiting.append(pool.submit(self._prepare, record, entry))
                if len(waiting) >= self._options.workers and (one := waiting.popleft().result()) is not None:
                    yield one
            while waiting:
                if (one := waiting.popleft().result()) is not None:
                    yield one
        finally:
            for future in waiting:
                future.cancel()

    def _older_entries(self, after: str) -> Iterator[Entry]:
        return (
            (e for e in self._older.entries() if e.cube_id > after) if self._older is not None else iter(())
        )

    def _prepare(self, record: CubeRecord, older: Entry | None) -> _Prepared | None:
        """None for a cube that was not there at the instant."""
        where = (self._settings, record.cube_id, record.incarnation)
        try:
            if older is not None and older.incarnation == record.incarnation:
                if self._covers(older) and older.version == latest_version(*where):
                    return _Prepared(record, entry=self._again(record, older, older.version, last=True))
                now = read_key(*where, self._plan.at)
                if now.key == older.key:
                    return _Prepared(record, entry=self._again(record, older, now.version, last=now.last))
            cut = read_cut(*where, self._plan.at)
        except Corrupt as error:
            log.warning("cube %r is not in the backup: %s", record.cube_id, error)
            return _Prepared(record, damage=error.message)
        if not cut.rows and record.created_at > self._plan.at:
            return None
        return _Prepared(record, cut=cut, data=memcube_bytes(record.cube_id, cut.readable_rows)[1])

    def _covers(self, older: Entry) -> bool:
        """Whether an older entry is still right if its version is still the latest."""
        assert self._older is not None
        return older.last and self._older.manifest.at <= self._plan.at

    def _again(self, record: CubeRecord, older: Entry, version: int, *, last: bool) -> Entry:
        """An older backup's entry as one of this: its rows stay where they are."""
        base = 0 if older.place.base is None else older.place.base + 1
        place = older.place.model_copy(update={"base": base})
        changed = {"record": to_jsonable(asdict(record)), "version": version, "last": last, "place": place}
        return older.model_copy(update=changed)


def finished_parts(files: Files) -> Iterator[tuple[Index, bytes]]:
    """The parts that were written completely, from the first on, up to the first that was not."""
    number = 0
    while (data := files.find_bytes(index_name(number))) is not None:
        try:
            index = unsealed(data, Index, files.path(index_name(number)))
        except MemosError:
            return
        if index.bundle is not None and files.size(index.bundle.name) != index.bundle.bytes:
            return
        yield index, data
        number += 1


def records(settings: Settings, cube_ids: Iterable[str] | None, after: str = "") -> Iterator[CubeRecord]:
    """The registry's active cubes (or these of them) beyond `after`, by id. `NotFound` for one that is not there."""
    registry = Registry(settings.data)
    if cube_ids is not None:
        for cube_id in sorted(set(cube_ids)):
            if cube_id > after:
                yield _active(registry, cube_id)
        return
    yield from registry.index().every(after=after)


def _active(registry: Registry, cube_id: str) -> CubeRecord:
    record = registry.lookup(cube_id)
    if record is None or record.state != "active":
        raise NotFound(f"there is no cube {cube_id!r}", what="cube", id=cube_id)
    return record


def beside(
    cubes: Iterator[CubeRecord], entries: Iterator[Entry]
) -> Iterator[tuple[CubeRecord, Entry | None]]:
    """Each cube with the entry of the same id. Both come by id."""
    entry = next(entries, None)
    for record in cubes:
        while entry is not None and entry.cube_id < record.cube_id:
            entry = next(entries, None)
        yield record, entry if entry is not None and entry.cube_id == record.cube_id else None
