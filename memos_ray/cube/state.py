"""The state of one cube: the fold of its journal, over both time axes.

Responsible for which versions there are, which one of each memory counts now, and for finding them quickly.
It does not know how a request becomes rows (planner), nor what a view or a filter is. Not thread-safe.

A *slot* numbers the versions that hold text, in the order in which they were applied; rows that only hide a
memory (delete, merge) are *events* without a slot. Memories have numbers too, by first appearance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memos_ray.cube.columns import FOREVER, Growable, numbered, to_us
from memos_ray.cube.fields import FieldColumns
from memos_ray.cube.packing import Known
from memos_ray.cube.rows import SCHEMA, JournalRow, Op
from memos_ray.cube.rowstore import KINDS, OPS, STATUSES, RowStore, from_us
from memos_ray.errors import NotFound
from memos_ray.types import HistoryEntry, MemoryItem, Status

STATUS_CODE = {s: i for i, s in enumerate(STATUSES)}
KIND_CODE = {k: i for i, k in enumerate(KINDS)}
_HIDING = (Status.DELETED, Status.MERGED)
_ACTIVE = STATUS_CODE[Status.ACTIVE]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A named state: everything up to and including `seq`."""

    name: str
    seq: int
    recorded_at: datetime


class CubeState:
    """The fold. Build it with `from_table` (or `empty`), keep it current with `apply`."""

    def __init__(self, cube_id: str, table: pa.Table, known: Known | None = None) -> None:
        self.cube_id = cube_id
        self.store = store = RowStore(table, known)
        self.snapshots: dict[str, Snapshot] = {}
        self.fields = FieldColumns(self)

        column = store.columns["memory_id"]
        rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
        memory, self.ids = numbered(column.take(pa.array(rows)))
        self._number = dict(zip(self.ids, range(len(self.ids)), strict=True))
        status = store.status[rows]
        hides = np.isin(status, [STATUS_CODE[s] for s in _HIDING])
        slot = np.where(hides, -1, np.cumsum(~hides) - 1)
        last = np.zeros(len(self.ids), np.int64)
        last[memory] = np.arange(len(rows))  # numpy keeps the last of repeated indices
        first = np.zeros(len(self.ids), np.int64)
        first[memory[::-1]] = np.arange(len(rows))[::-1]

        self.event_row, self.event_memory, self.event_slot = Growable(rows), Growable(memory), Growable(slot)
        self.event_seq = Growable(store.numbers["seq"][rows])
        self.event_recorded = Growable(store.times["recorded_at"][rows])
        kept = np.flatnonzero(~hides)
        slot_rows = rows[kept]
        self.slot_row, self.slot_memory = Growable(slot_rows), Growable(memory[kept])
        self.slot_seq = Growable(store.numbers["seq"][slot_rows])
        self.slot_version = Growable(store.numbers["version"][slot_rows].astype(np.int32))
        self.slot_recorded = Growable(store.times["recorded_at"][slot_rows])
        self.slot_valid_from = Growable(store.times["valid_from"][slot_rows])
        self.slot_valid_to = Growable(store.times["valid_to"][slot_rows])
        self.slot_expires = Growable(store.times["expires_at"][slot_rows])
        self.slot_status = Growable(status[kept])
        self.slot_kind = Growable(store.kind[slot_rows])
        self.slot_active = Growable((status[kept] == _ACTIVE) & (last[memory[kept]] == kept))
        self.memory_event, self.memory_slot = Growable(last), Growable(slot[last] if len(last) else last)
        self.memory_born = Growable(self.event_recorded.view[first])
        self.expiring = Growable(np.flatnonzero(self.slot_expires.view != FOREVER))
        self._items: list[MemoryItem | None] = [None] * len(kept)

        for r in np.flatnonzero(store.op == OPS.index(Op.SNAPSHOT)).tolist():
            self._note_snapshot(store.row(r))

    @classmethod
    def from_table(cls, cube_id: str, table: pa.Table, known: Known | None = None) -> CubeState:
        """Folds the live rows of a journal (as stored or as `rows.SCHEMA`, sorted by seq). `known` as in
        `packing.columns_of`. `ValueError` for unknown ops or kinds."""
        return cls(cube_id, table, known)

    @classmethod
    def empty(cls, cube_id: str) -> CubeState:
        """The state of a new cube."""
        return cls(cube_id, SCHEMA.empty_table())

    # -- changing ---------------------------------------------------------------------------------------------

    def apply(self, rows: Sequence[JournalRow]) -> range:
        """Takes over committed rows in seq order. Returns the slots that came to be."""
        start = self.n_slots
        for row in rows:
            r = len(self.store)
            self.store.appended.append(row)
            if row.op is Op.SNAPSHOT:
                self._note_snapshot(row)
            elif row.memory_id is not None:
                self._apply_version(r, row, row.memory_id)
        return range(start, self.n_slots)

    def _apply_version(self, r: int, row: JournalRow, memory_id: str) -> None:
        m = self._number.get(memory_id)
        recorded, event = to_us(row.recorded_at), self.event_row.size
        if m is None:
            m = self._number[memory_id] = len(self.ids)
            self.ids.append(memory_id)
            self.memory_event.append(event)
            self.memory_slot.append(-1)
            self.memory_born.append(recorded)
        before = int(self.memory_slot.view[m])
        if before >= 0:
            self.slot_active.view[before] = False
        hides = row.status in _HIDING
        slot = -1 if hides else self.n_slots
        self.memory_event.view[m] = event
        self.memory_slot.view[m] = slot
        for column, value in (
            (self.event_row, r), (self.event_memory, m), (self.event_slot, slot),
            (self.event_seq, row.seq), (self.event_recorded, recorded),
        ):  # fmt: skip
            column.append(value)
        if hides:
            return
        expires = to_us(row.expires_at)
        for column, value in (
            (self.slot_row, r), (self.slot_memory, m), (self.slot_seq, row.seq), (self.slot_version, row.version),
            (self.slot_recorded, recorded), (self.slot_valid_from, to_us(row.valid_from)),
            (self.slot_valid_to, to_us(row.valid_to)), (self.slot_expires, expires),
            (self.slot_status, STATUS_CODE[row.status]), (self.slot_kind, KIND_CODE[row.kind]),
            (self.slot_active, row.status is Status.ACTIVE),
        ):  # fmt: skip
            column.append(value)
        if expires != FOREVER:
            self.expiring.append(slot)
        self._items.append(None)

    def _note_snapshot(self, row: JournalRow) -> None:
        name = str(row.payload["name"])
        self.snapshots[name] = Snapshot(name, row.seq, row.recorded_at)

    # -- finding ----------------------------------------------------------------------------------------------

    @property
    def n_slots(self) -> int:
        """How many versions hold text."""
        return self.slot_row.size

    @property
    def n_memories(self) -> int:
        """How many memories there ever were (of which rows are left)."""
        return len(self.ids)

    def number(self, memory_id: str) -> int | None:
        """The number of a memory, deleted or not."""
        return self._number.get(memory_id)

    def numbers(self, ids: Iterable[str]) -> NDArray[np.int64]:
        """The numbers of many memories; -1 for what is no memory's id."""
        get = self._number.get
        return np.array([get(i, -1) for i in ids], np.int64)

    def newest(self, memory_id: str) -> JournalRow | None:
        """The newest row of a memory, whatever it says; None if the id is unknown."""
        m = self._number.get(memory_id)
        return None if m is None else self.store.row(int(self.event_row.view[self.memory_event.view[m]]))

    def resolve(self, memory_id: str) -> str:
        """Follows merges to the memory that stands for this one now. Raises `NotFound` for an unknown id."""
        return resolve(self.newest, memory_id)

    def find(self, memory_id: str) -> MemoryItem | None:
        """The newest version of a memory, or of the one it was merged into; None if unknown or deleted."""
        if memory_id not in self._number:
            return None
        slot = int(self.memory_slot.view[self._number[memory_id]])
        if slot < 0:
            slot = int(self.memory_slot.view[self._number[self.resolve(memory_id)]])
        return None if slot < 0 else self.item(slot)

    def get(self, memory_id: str) -> MemoryItem:
        """Like `find`, but raises `NotFound`. Archived and superseded memories are found."""
        found = self.find(memory_id)
        if found is None:
            raise not_found(memory_id, known=memory_id in self._number)
        return found

    def times(self, field: str) -> NDArray[np.int64]:
        """A time of every slot, in microseconds (`columns.FOREVER`: none). `field` as in `MemoryItem`."""
        match field:
            case "valid_from":
                return self.slot_valid_from.view
            case "valid_to":
                return self.slot_valid_to.view
            case "recorded_at":
                return self.slot_recorded.view
            case "expires_at":
                return self.slot_expires.view
            case "created_at":
                born: NDArray[np.int64] = self.memory_born.view[self.slot_memory.view]
                return born
        raise KeyError(field)

    def newest_slots(self) -> NDArray[np.bool_]:
        """Mask over slots: the newest version of every memory that is not deleted or merged away."""
        mask = np.zeros(self.n_slots, np.bool_)
        slots = self.memory_slot.view
        mask[slots[slots >= 0]] = True
        return mask

    def item(self, slot: int) -> MemoryItem:
        """The version in `slot`; made on first use, then cached."""
        found = self._items[slot]
        if found is None:
            found = self._items[slot] = self._as_item(self.store.row(int(self.slot_row.view[slot])))
        return found

    def items(self, slots: Iterable[int]) -> list[MemoryItem]:
        """The versions in these slots. Quicker than one by one."""
        wanted = [int(s) for s in slots]
        missing = [s for s in dict.fromkeys(wanted) if self._items[s] is None]
        numbers = self.slot_row.view[missing].tolist() if missing else []
        for slot, row in zip(missing, self.store.rows(numbers), strict=True):
            self._items[slot] = self._as_item(row)
        return [item for s in wanted if (item := self._items[s]) is not None]

    def texts(self, slots: Sequence[int] | NDArray[np.int64] | range | None = None) -> list[str]:
        """The texts of these slots (default: all), without making items."""
        rows = self.slot_row.view
        return self.store.texts(rows if slots is None else rows[np.asarray(slots, np.int64)])

    def text_of(self, memory_id: str, version: int) -> str:
        """The text of one version; empty if it holds none, or is gone."""
        m = self._number.get(memory_id)
        if m is None:
            return ""
        slot = int(self.memory_slot.view[m])
        if slot < 0 or self.slot_version.view[slot] != version:
            found = np.flatnonzero((self.slot_memory.view == m) & (self.slot_version.view == version))
            slot = int(found[-1]) if len(found) else -1
        return "" if slot < 0 else self.texts([slot])[0]

    def history(self, memory_id: str) -> list[HistoryEntry]:
        """Every row of this memory itself (merges are not followed), oldest first. Raises `NotFound`."""
        m = self._number.get(memory_id)
        if m is None:
            raise not_found(memory_id, known=False)
        rows = self.store.rows(self.event_row.view[self.event_memory.view == m].tolist())
        return [HistoryEntry(r.op.value, r.op_id, r.seq, self._as_item(r)) for r in rows]

    def slot_of(self, memory_id: str) -> int | None:
        """The slot of the newest version of this very memory; None if unknown, deleted or merged away."""
        m = self._number.get(memory_id)
        slot = -1 if m is None else int(self.memory_slot.view[m])
        return None if slot < 0 else slot

    def _as_item(self, row: JournalRow) -> MemoryItem:
        assert row.memory_id is not None
        if row.created_at is None and row.version > 1:
            born = from_us(int(self.memory_born.view[self._number[row.memory_id]]))
            row = replace(row, created_at=born)
        return row.item()


def not_found(memory_id: str, *, known: bool) -> NotFound:
    """The error for a memory that is unknown, or deleted (`known`)."""
    why = "was deleted; its history is still there" if known else "does not exist in this cube"
    return NotFound(f"memory {memory_id} {why}", what="memory", id=memory_id)


def resolve(newest: Callable[[str], JournalRow | None], memory_id: str) -> str:
    """Follows merges from `memory_id` on. Raises `NotFound` for an unknown id; a ring (which merging refuses, but
    restoring a snapshot could leave) ends where it would close."""
    seen: set[str] = set()
    current = memory_id
    while True:
        row = newest(current)
        if row is None:
            raise not_found(current, known=False)
        if row.status is not Status.MERGED:
            return current
        seen.add(current)
        into = str(row.payload["into"])
        if into in seen:
            return current
        current = into
