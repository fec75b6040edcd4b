"""A cube's journal: a queue of requests, committed in groups, applied in order; the only way to change it.

Requests are planned on the event loop when their group begins, committed in a thread, and applied on the loop
once they are durable and still this owner's. A group is whatever queued while the one before it was being
committed: no timer. Knows rows and ownership; what a request means is the planner's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

import pyarrow as pa

from memos_ray import telemetry
from memos_ray.config import Settings
from memos_ray.cube.log_store import Hook, LogStore
from memos_ray.cube.owner import OnLive, Owner
from memos_ray.cube.packing import stored_table
from memos_ray.cube.planned import Planner
from memos_ray.cube.rows import JournalRow
from memos_ray.cube.waiting import RequestQueue, again
from memos_ray.errors import MemosError, Moved, Overloaded
from memos_ray.protocols import Clock

T = TypeVar("T")
log = logging.getLogger(__name__)

_TIDY_AFTER = 8  # commits after which closing compacts: the next activation reads each fragment in about 1 ms

# All journals of a process share these threads: of a packed host's hundreds of cubes, few write at a time.
# Not asyncio's own pool: somebody's slow calls there would hold up every commit.
_THREADS = ThreadPoolExecutor(max_workers=32, thread_name_prefix="memos-journal")


@dataclass(frozen=True, slots=True)
class JournalConfig:
    """Bounds of one journal. Times in seconds."""

    queue_limit: int = 10_000  # requests waiting
    group_rows: int = 1_000  # a group is full once it has this many rows; its last request may go beyond
    read_confirm_s: float = 1.0  # age at which a read confirms ownership again
    compact_every: int = 64  # commits
    cleanup_keep_s: float = 600.0

    @classmethod
    def from_settings(cls, settings: Settings) -> JournalConfig:
        """The journal's part of the settings."""
        return cls(
            queue_limit=settings.queue_limit,
            group_rows=settings.group_rows,
            read_confirm_s=settings.read_confirm_s,
            compact_every=settings.compact_every,
            cleanup_keep_s=settings.cleanup_keep_s,
        )


class _Unstorable(Exception):
    """Rows that cannot be turned into a table; nothing was committed."""


class Journal:
    """The log of one active cube, owned by this process. Make one with `activate`."""

    def __init__(self, owner: Owner, live: pa.Table, clock: Clock, config: JournalConfig) -> None:
        self.live = live
        self.lost: Moved | None = None
        self._owner = owner
        self._clock = clock
        self._config = config
        self._queue = RequestQueue()
        self._wake = asyncio.Event()
        self._storage = asyncio.Lock()  # one commit, look-up or committed compaction at a time
        self._closing = False
        self._committer: asyncio.Task[None] | None = None
        self._upkeep: asyncio.Task[None] | None = None
        # Commits since the last compaction. Those of earlier owners count too, and so do the claims and opens of
        # activations: each is a fragment to be read at the next activation.
        self._commits = owner.store.pieces()
        self._cleaned_at: float | None = None
        self._began = 0  # looks at storage, numbered
        self._confirmed = 0  # the last one that found this to be the owner…
        self._confirmed_at = clock.monotonic()  # …and when it began
        assert owner.found is not None
        self._recorded_at: datetime = owner.found.last_recorded_at

    @classmethod
    async def activate(
        cls,
        store: LogStore,
        *,
        clock: Clock,
        config: JournalConfig,
        owner: str,
        on_live: OnLive | None = None,
        hook: Hook | None = None,
    ) -> Journal:
        """Claims the log, reads it, opens it.

        Raises `Moved` if another claim wins, `Corrupt`, `SchemaTooNew` or `Unavailable`. `owner` names this
        process in the log; `on_live` as in `Owner.activate`, in a thread; `hook` is for tests.
        """
        this = Owner(store, clock, owner, hook=hook)

        def claim() -> pa.Table:
            store.open()
            return this.activate(on_live)

        started = clock.monotonic()
        live = await _in_thread(claim)
        journal = cls(this, live, clock, config)
        journal._confirmed_at = started
        return journal

    @property
    def epoch(self) -> int:
        """This owner's epoch."""
        return self._owner.epoch

    @property
    def next_seq(self) -> int:
        """The seq of the next row."""
        return self._owner.next_seq

    @property
    def version(self) -> int:
        """The version of the log that this owner knows to be the latest."""
        return self._owner.version

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    def release_live(self) -> None:
        """Lets go of the rows read at activation, once they are folded."""
        self.live = self.live.schema.empty_table()

    def start(self, planner: Planner) -> None:
        """Begins to take requests out of the queue."""
        self._committer = asyncio.create_task(self._run(planner), name="memos-journal")
        self._keep_up()

    async def submit(self, request: object) -> object:
        """Queue, group commit, apply, answer.

        Raises what planning raised, `Overloaded`, `Moved`, or `Unavailable` if storage failed.

        A caller that goes away never harms the group: its request is left out if its group has not begun.
        """
        if self.lost is not None:
            raise again(self.lost)
        if self._closing:
            raise Moved("the cube is being passivated; look it up again", reason="closing")
        if len(self._queue) >= self._config.queue_limit:
            raise Overloaded(
                f"{len(self._queue)} writes are waiting for this cube, the most it queues; try again later",
                retry_after_s=self._retry_after_s(),
            )
        answer = self._queue.put(request)
        self._wake.set()
        return await answer

    def _retry_after_s(self) -> float:
        """About the time in which half of the queue is written, at some 10 ms a full group."""
        groups = self._config.queue_limit / self._config.group_rows
        return round(max(0.05, 0.005 * groups), 3)

    async def confirm(self, *, latest: bool = False) -> None:
        """Before a read: makes sure that this is still the owner, if it last knew so too long ago.

        With `latest` it always looks. Raises `Moved` if it is not the owner.
        """
        began = self._began
        too_old = self._clock.monotonic() - self._config.read_confirm_s

        def known() -> bool:
            if self.lost is not None:
                return True
            return self._confirmed > began if latest else self._confirmed_at >= too_old

        if not known():
            # a task of its own: if this caller goes away, the look-up still ends before the next commit
            await asyncio.shield(asyncio.create_task(self._confirm_unless(known)))
        if self.lost is not None:
            raise again(self.lost)

    async def _confirm_unless(self, known: Callable[[], bool]) -> None:
        async with self._storage:
            if not known():  # whoever had the lock before may have found out already
                with contextlib.suppress(MemosError):  # `lost` says so
                    await self._guarded(self._owner.confirm)

    async def close(self) -> None:
        """Writes what is queued, compacts if that is worth it, then stops. Submitting is refused from now on."""
        self._closing = True
        self._wake.set()
        if self._committer is not None:
            await asyncio.shield(self._committer)
        if self._upkeep is not None:
            await asyncio.shield(self._upkeep)
        if self.lost is None and self._commits >= _TIDY_AFTER:
            await self._compact()
        self._queue.refuse_all(Moved("the cube was passivated; look it up again", reason="closing"))

    async def _run(self, planner: Planner) -> None:
        try:
            while self.lost is None:
                if not self._queue:
                    if self._closing:
                        return
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                async with self._storage:
                    if self.lost is None:
                        await self._one_group(planner)
                self._keep_up()
        except BaseException as error:  # a bug, or the end of the loop: nobody may wait for ever
            if self.lost is None:
                self._lose(Moved(f"the journal ended: {error!r}; look the cube up again", reason="failed"))
            raise

    async def _one_group(self, planner: Planner) -> None:
        waiting = len(self._queue)
        group = self._queue.plan_group(planner, self._config.group_rows)
        try:
            rows = await self._commit(group.drafts) if group.drafts else []
            telemetry.observe(telemetry.COMMIT_WAITING, waiting)
        except _Unstorable:
            self._queue.put_back(group.storable())
            return
        except BaseException as error:  # nothing of it is acknowledged; `_guarded` has let go of the cube
            group.refuse(error)
            if isinstance(error, MemosError):
                return
            raise
        try:
            planner.apply(rows)
        except Exception as error:  # a bug; the state may be half changed: nobody is answered from it
            log.exception("applying a commit to %s failed", self._owner.store.path)
            lost = Moved(f"the cube failed to apply a commit: {error!r}; look it up again", reason="failed")
            self._lose(lost)
            group.refuse(lost)
        else:
            group.answer(rows)

    async def _commit(self, drafts: Sequence[JournalRow]) -> list[JournalRow]:
        recorded_at = max(self._clock.now(), self._recorded_at)
        epoch, seq = self._owner.epoch, self._owner.next_seq
        rows = [
            replace(row, epoch=epoch, seq=seq + i, recorded_at=recorded_at) for i, row in enumerate(drafts)
        ]

        def write() -> None:
            try:
                table = stored_table(rows)
            except Exception as error:
                raise _Unstorable from error
            self._owner.write(table)

        began = self._clock.monotonic()
        await self._guarded(write)
        telemetry.observe(telemetry.COMMIT_SECONDS, self._clock.monotonic() - began)
        telemetry.observe(telemetry.COMMIT_ROWS, len(rows))
        self._recorded_at = recorded_at
        self._commits += 1
        return rows

    async def _guarded(self, call: Callable[[], None]) -> None:
        """A call of the owner's that looks storage up: it confirms ownership, or loses it."""
        self._began += 1
        began, at = self._began, self._clock.monotonic()
        try:
            await _in_thread(call)
        except BaseException:
            if self._owner.lost:
                self._lose(self._owner.moved())
            raise
        self._confirmed, self._confirmed_at = began, at

    def _lose(self, moved: Moved) -> None:
        self.lost = moved
        self._wake.set()
        self._queue.refuse_all(moved)

    def _keep_up(self) -> None:
        """Compacts and cleans up now and then, beside the writes."""
        if self._commits < self._config.compact_every or self._closing or self.lost is not None:
            return
        if self._upkeep is None or self._upkeep.done():
            self._upkeep = asyncio.create_task(self._compact(), name="memos-journal-upkeep")

    async def _compact(self) -> None:
        self._commits = 0
        try:
            async with self._storage:
                if self.lost is None and self._owner.has_ignored:
                    await self._guarded(self._owner.remove_ignored)
            prepared = await _in_thread(self._owner.prepare_rewrite)
            if prepared is not None:
                async with self._storage:
                    if self.lost is None:
                        await self._guarded(lambda: self._owner.rewrite(prepared))
            keep_s, now = self._config.cleanup_keep_s, self._clock.monotonic()
            # reads every version that is kept, so it runs far less often than compaction does
            if self.lost is None and (self._cleaned_at is None or now - self._cleaned_at >= keep_s / 4):
                self._cleaned_at = now
                await _in_thread(lambda: self._owner.clean_up(keep_s))
        except MemosError as error:
            # Nothing depends on it: a lost owner has told its callers, and what failed is tried again later.
            log.warning("compaction of %s failed: %s", self._owner.store.path, error)


def beside(call: Callable[[], T]) -> Future[T]:
    """Runs `call` in one of the journals' threads."""
    return _THREADS.submit(call)


async def _in_thread(call: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_THREADS, call)
