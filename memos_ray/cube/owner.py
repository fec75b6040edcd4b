"""One owner of one cube's log: carries out what the fence asks for on real storage. Synchronous.

Knows rows and storage; nothing of queues, tasks or memories. One thread at a time may call it, except
`prepare_rewrite` and `clean_up`, which run beside the others.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa

from memos_ray.cube import fence as f
from memos_ray.cube.live import Survey, survey, take_live
from memos_ray.cube.log_store import Hook, LogStore
from memos_ray.cube.packing import stored_table
from memos_ray.cube.rows import JournalRow, Op
from memos_ray.errors import MemosError, Moved
from memos_ray.protocols import Clock

Put = Callable[[int], int]
"""Commits something built on the version it is given; returns the version at which it landed."""
OnLive = Callable[[pa.Table], None]
"""Is given the rows that count, by seq, once the claim stands. Nothing made of them may be shown before `activate`
has returned."""


class Owner:
    """Claims, opens, appends to and compacts a log under the rules of `cube.fence`.

    Every method that commits or looks up raises `Moved` once another owner was seen, and `Unavailable` if
    storage failed in that very call. Either way the owner is `lost` from then on.
    """

    def __init__(self, store: LogStore, clock: Clock, name: str, *, hook: Hook | None = None) -> None:
        self.store = store
        self.found: Survey | None = None  # what it read when it claimed
        self._clock = clock
        self._name = name
        self._hook = hook
        self._fence = f.Fence(token=f"{name}/{uuid.uuid4()}")
        self._table: pa.Table | None = None
        self._surveyed: tuple[int, pa.Table] | None = None  # version and rows on which the claim is built
        self._claim: pa.Table | None = None  # the ownership row committed last
        self._on_live: OnLive | None = None
        self._failure: MemosError | None = None

    @property
    def epoch(self) -> int:
        """This owner's epoch; 0 before its claim."""
        return self._fence.epoch

    @property
    def version(self) -> int:
        """The version of the log that this owner knows to be the latest."""
        return self._fence.version

    @property
    def next_seq(self) -> int:
        """The seq of the next row."""
        return self._fence.next_seq

    @property
    def lost(self) -> bool:
        """Whether this owner may never acknowledge anything again."""
        return self._fence.phase is f.Phase.LOST

    def moved(self) -> Moved:
        """What callers are told once this owner is lost."""
        reason = self._fence.reason
        message = f"{self._name} does not own {self.store.path}: {reason}; look the cube up again"
        return Moved(message, reason=reason)

    def activate(self, on_live: OnLive | None = None) -> pa.Table:
        """Claims the log, reads it, opens it. Returns the rows that count, by seq.

        `on_live` is called with them before the `open` row is committed, so that work on them can begin beside it.
        """
        self._on_live = on_live
        try:
            self._run(f.Activate())
        finally:
            self._on_live = self._surveyed = None
        assert self._table is not None
        table, self._table = self._table, None
        return table

    def write(self, rows: pa.Table) -> None:
        """Commits rows stamped with this epoch and the seqs from `next_seq` on; safe once it returns."""
        self._run(f.Write(len(rows)), lambda base: self.store.append(base, rows))

    def confirm(self) -> None:
        """Looks the latest version up in storage and raises `Moved` if it is not this owner's."""
        self._run(f.Confirm())

    def prepare_rewrite(self) -> Any:
        """Compacts beside the writes; None if there is nothing to do."""
        return self.store.prepare_rewrite(self.version)

    def rewrite(self, prepared: Any) -> None:
        """Commits what `prepare_rewrite` returned."""
        self._run(f.Rewrite(self.store.rewrite_span), lambda base: self.store.commit_rewrite(base, prepared))

    @property
    def has_ignored(self) -> bool:
        """Whether rows that did not count when this owner opened are still in storage."""
        return self.found is not None and bool(self.found.ignored)

    def remove_ignored(self) -> None:
        """Removes those rows: users' text that nobody can see. Only if there are any."""
        assert self.found is not None
        ignored = self.found.ignored
        self._run(f.Rewrite(1), lambda base: self.store.remove(base, ignored))
        self.found = replace(self.found, ignored=())

    def clean_up(self, keep_s: float) -> None:
        """Deletes versions older than `keep_s` seconds."""
        self.store.clean_up(self.version, keep_s)

    def _run(self, command: f.Event, put: Put | None = None) -> None:
        event = command
        while True:
            self._fence, effect = f.step(self._fence, event)
            if isinstance(effect, f.Done):
                return
            if isinstance(effect, f.StepBack):
                self._table = None
                failure, self._failure = self._failure, None
                raise failure or self.moved()
            try:
                event = self._carry_out(effect, put)
            except MemosError as error:
                event = f.Failed(error.message)
                self._failure = error
            except BaseException as error:
                self._fence, _ = f.step(self._fence, f.Failed(repr(error)))
                raise

    def _carry_out(self, effect: f.Effect, put: Put | None) -> f.Event:
        match effect:
            case f.ReadLog():
                return self._read()
            case f.Commit(f.Item.CLAIM | f.Item.OPEN):
                rows = self._claim = self._ownership_row(effect)
                return f.Landed(self.store.append(effect.base, rows))
            case f.Commit() if put is not None:
                return f.Landed(put(effect.base))
            case f.LookUp():
                return f.Latest(self.store.latest())
            case f.Probe():
                return f.Probed(self.store.highest_epoch())
            case _:
                raise AssertionError(f"{effect!r} cannot be carried out")

    def _read(self) -> f.Read:
        if (
            self._fence.phase is f.Phase.SURVEYING
        ):  # only to choose an epoch; the rows are kept for `_read_again`
            version, table = self._surveyed = self.store.read()
            highest = int(table["epoch"].to_numpy().max()) if len(table) else 0
            return f.Read(version, highest, rival=False, top_seq=0, top_recorded_seq=0, last_open=0)
        self._point("claimed")
        version, table = self._read_again()
        found = survey(table)
        self.found = found
        rival = any(c.epoch >= self.epoch and c.token != self._fence.token for c in found.claims)
        self._point("folded")
        self._table = take_live(table, found)
        if self._on_live is not None and not rival:
            self._on_live(self._table)
        return f.Read(
            version,
            found.highest_epoch,
            rival=rival,
            top_seq=found.top_seq,
            top_recorded_seq=0,
            last_open=found.chain[-1].epoch if found.chain else 0,
        )

    def _read_again(self) -> tuple[int, pa.Table]:
        """The latest version and its rows.

        Versions never change, and the claim landed right after the version that was surveyed: while the claim is
        the latest, the log is what was surveyed and this one row. If anything came after it, storage is read.
        """
        assert self._surveyed is not None
        (before, table), self._surveyed = self._surveyed, None
        assert self._claim is not None
        if self._fence.version == before + 1 == self.store.latest():
            claim = self._claim.select(table.column_names).cast(
                table.schema
            )  # storage may order them otherwise
            return before + 1, pa.concat_tables([table, claim])
        return self.store.read()

    def _ownership_row(self, commit: f.Commit) -> pa.Table:
        claim = commit.item is f.Item.CLAIM
        row = JournalRow(
            op=Op.CLAIM if claim else Op.OPEN,
            op_id=self._fence.token,
            principal=self._name,
            payload={} if claim else {"start": commit.start, "after": commit.after},
            epoch=commit.epoch,
            recorded_at=self._clock.now(),
        )
        return stored_table([row])

    def _point(self, name: str) -> None:
        if self._hook is not None:
            self._hook(name)
