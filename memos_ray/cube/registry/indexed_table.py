"""One table of the registry in memory: columns, and over them what changed since they were built.

Changes come from two sides, from storage (`refresh`) and from this process (`note`), in any order: of a cube the
highest revision holds, so both may bring the same one, or an older one. Threads may share it.
"""

from __future__ import annotations

import heapq
import threading
import time
from bisect import bisect_right, insort
from collections.abc import Collection, Iterator, Sequence
from operator import itemgetter

import numpy as np
from lance import LanceDataset
from numpy.typing import NDArray

from memos_ray.cube.registry.columns import Columns, Wanted, empty
from memos_ray.cube.registry.records import CubeRecord
from memos_ray.cube.registry.rows import to_records
from memos_ray.cube.registry.table import RegistryTable

_OVERLAY = 256  # changes; then they go into the columns (15,600 rows: 5 ms)


class IndexedTable:
    """A view of `table`, empty until the first `refresh`."""

    def __init__(self, table: RegistryTable) -> None:
        self._table = table
        self._columns = empty()
        self._changed: dict[bytes, CubeRecord] = {}
        self._changed_ids: list[bytes] = []  # sorted
        self._hidden: set[int] = set()  # positions of the columns that `_changed` replaces
        self._version = 1  # of the table, which holds no cube then
        self._fragments: frozenset[int] = frozenset()  # that have been read
        self._looked = float("-inf")  # monotonic seconds
        self._lock = threading.RLock()
        self._refreshing = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            return len(self._columns) - len(self._hidden) + len(self._changed)

    @property
    def nbytes(self) -> int:
        """Of the columns; not of the few changes over them."""
        return self._columns.nbytes

    def refresh(self, max_age_s: float = 0.0) -> bool:
        """Reads what is new in storage, unless storage was looked at in the last `max_age_s`; True if anything was."""
        asked = time.monotonic()
        if self.loaded and asked - self._looked <= max_age_s:
            return False
        with self._refreshing:
            if self._looked >= asked:  # another thread did it after this call came in
                return False
            looked = time.monotonic()
            dataset = self._table.latest()
            with self._lock:
                read, known = self._fragments, self._version
            if dataset is None or dataset.version <= known:
                self._looked = looked  # lower: this process has committed since
                return False
            fragments = {f.fragment_id: f for f in dataset.get_fragments()}
            rows = self._table.read(dataset, fragments=[f for i, f in fragments.items() if i not in read])
            with self._lock:
                if len(rows) < _OVERLAY:
                    for record in to_records(rows):
                        self.note(record)
                else:
                    self._replace(self._merged().with_rows(rows))
                self._version, self._fragments, self._looked = dataset.version, frozenset(fragments), looked
            return True

    @property
    def loaded(self) -> bool:
        """Whether there was a `refresh`."""
        return self._looked >= 0

    def at_version(self, version: int, ids: Collection[str]) -> dict[str, CubeRecord] | None:
        """Those of the cubes that have a record at this version of the table; None if another one was read last."""
        with self._lock:
            if version != self._version:
                return None
            return {i: record for i in ids if (record := self.lookup(i)) is not None}

    def committed(self, base: int, landed: LanceDataset, records: Sequence[CubeRecord]) -> None:
        """Takes in what this process put on top of version `base`: storage need not be read for it."""
        fragments = frozenset(fragment.fragment_id for fragment in landed.get_fragments())
        with self._lock:
            if len(records) < _OVERLAY:
                for record in records:
                    self.note(record)
            else:
                self._replace(self._merged().with_records(records))
            if self._version == base:
                self._version, self._fragments = landed.version, fragments

    def note(self, record: CubeRecord) -> None:
        """Takes a record in, unless it knows that cube at this revision or a higher one."""
        key = record.cube_id.encode()
        with self._lock:
            known = self._changed.get(key)
            if known is None:
                at = self._columns.find(key)
                if at is not None and self._columns.revision(at) >= record.revision:
                    return
                if at is not None:
                    self._hidden.add(at)
                insort(self._changed_ids, key)
            elif known.revision >= record.revision:
                return
            self._changed[key] = record
            if len(self._changed) >= _OVERLAY:
                self._replace(self._merged())

    def lookup(self, cube_id: str) -> CubeRecord | None:
        """The cube's record."""
        key = cube_id.encode()
        with self._lock:
            if (changed := self._changed.get(key)) is not None:
                return changed
            at = self._columns.find(key)
            return None if at is None else self._columns.record(at)

    def count(self, wanted: Wanted) -> int:
        """How many records there are of that kind."""
        with self._lock:
            changed = sum(wanted.takes(record) for record in self._changed.values())
            columns, hidden = self._columns, frozenset(self._hidden)
        return changed + sum(len(block) for block in _visible(columns, hidden, wanted, b""))

    def page(self, wanted: Wanted, after: bytes) -> Iterator[tuple[bytes, CubeRecord | int, Columns]]:
        """Ids of that kind, ascending, each with its record, or with its position in the columns."""
        with self._lock:
            columns, hidden = self._columns, frozenset(self._hidden)
            ids = self._changed_ids[bisect_right(self._changed_ids, after) :]
            changed = [(i, r) for i in ids if wanted.takes(r := self._changed[i])]
        there = (at for block in _visible(columns, hidden, wanted, after) for at in block.tolist())
        rows = ((columns.ids[at], at, columns) for at in there)
        if not changed:
            return rows
        return heapq.merge(rows, ((i, record, columns) for i, record in changed), key=itemgetter(0))

    def _merged(self) -> Columns:
        return self._columns.with_records(list(self._changed.values())) if self._changed else self._columns

    def _replace(self, columns: Columns) -> None:
        self._columns = columns
        self._changed, self._changed_ids, self._hidden = {}, [], set()


def _visible(
    columns: Columns, hidden: Collection[int], wanted: Wanted, after: bytes
) -> Iterator[NDArray[np.intp]]:
    for positions in columns.matching(wanted, after):
        yield positions[~np.isin(positions, list(hidden))] if hidden else positions
