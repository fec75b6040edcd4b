"""Reads a cube's journal as of an instant, from storage alone: claims nothing, writes nothing.

`recorded_at` never decreases along the rows that count, so what was recorded up to an instant is a beginning of
them; and the rows of one operation have one `recorded_at`, so that none is cut in two.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa

from memos_ray.config import Settings
from memos_ray.cube.columns import one_chunk, times_us, to_us
from memos_ray.cube.lance_store import LanceStore
from memos_ray.cube.live import FENCE_COLUMNS, survey, take_live
from memos_ray.cube.opening import journal_store
from memos_ray.cube.packing import readable
from memos_ray.cube.rows import SCHEMA
from memos_ray.errors import Corrupt, Moved, Unavailable

_ATTEMPTS = 3  # each of several attempts of the store's: versions vanish only while a cube is being compacted


@dataclass(frozen=True, slots=True)
class Cut:
    """What counted and was recorded up to an instant. `last`: there was nothing after it in this version."""

    version: int  # 0: there is no log
    rows: int
    key: str
    last: bool
    first_recorded: datetime | None
    table: pa.Table | None = None  # rows.SCHEMA, by seq; None if only the fence's columns were read

    @property
    def readable_rows(self) -> pa.Table:
        """The rows. Only of a cut that was read with them."""
        assert self.table is not None
        return self.table


EMPTY_KEY = hashlib.sha256().hexdigest()


def read_cut(settings: Settings, cube_id: str, incarnation: str, at: datetime | None) -> Cut:
    """The rows up to `at` (None: all). A log that was never written is empty. Raises `Corrupt`, `Unavailable`."""
    store = journal_store(settings, cube_id, incarnation)
    found = _read(store, fence_only=False)
    if found is None:
        return Cut(0, 0, EMPTY_KEY, True, None, SCHEMA.empty_table())
    version, table = found
    try:
        live = take_live(table, survey(table))
        cut, kept = _cut(version, live, at)
        rows = readable(kept)
    except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise Corrupt(f"the rows of {store.path} cannot be read: {error}", path=store.path) from error
    return Cut(cut.version, cut.rows, cut.key, cut.last, cut.first_recorded, rows)


def read_key(settings: Settings, cube_id: str, incarnation: str, at: datetime | None) -> Cut:
    """`read_cut` without the rows: a small part of the bytes."""
    store = journal_store(settings, cube_id, incarnation)
    found = _read(store, fence_only=True)
    if found is None:
        return Cut(0, 0, EMPTY_KEY, True, None)
    version, table = found
    try:
        return _cut(version, take_live(table, survey(table)), at)[0]
    except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise Corrupt(f"the rows of {store.path} cannot be read: {error}", path=store.path) from error


def latest_version(settings: Settings, cube_id: str, incarnation: str) -> int:
    """The journal's latest version; 0 if it was never written."""
    store = journal_store(settings, cube_id, incarnation)
    return store.latest() if store.open_existing() else 0


def _read(store: LanceStore, *, fence_only: bool) -> tuple[int, pa.Table] | None:
    for _ in range(_ATTEMPTS):
        if not store.open_existing():
            return None
        try:
            return store.read(FENCE_COLUMNS if fence_only else None)
        except Moved:
            continue
    raise Unavailable(f"{store.path} changes faster than it can be read; try again", what=store.path)


def _cut(version: int, live: pa.Table, at: datetime | None) -> tuple[Cut, pa.Table]:
    recorded = times_us(one_chunk(live["recorded_at"]))
    rows = len(recorded)
    if at is not None and (beyond := np.flatnonzero(recorded > to_us(at))).size:
        rows = int(beyond[0])
    kept = live.slice(0, rows)
    first = live["recorded_at"][0].as_py() if len(recorded) else None
    return Cut(version, rows, key_of(kept), rows == len(recorded), first), kept


def key_of(rows: pa.Table) -> str:
    """Stands for which rows of an incarnation these are: nobody else ever writes a row of the same epoch and seq."""
    digest = hashlib.sha256()
    for name in ("epoch", "seq"):
        digest.update(np.ascontiguousarray(rows[name].to_numpy(), "<i8").tobytes())
    return digest.hexdigest()
