"""A journal's storage in memory, with the semantics of Lance that ownership depends on.

`Slots` is the core: versions that are looked up, put if absent and cleaned up, as plain immutable values. The
explorer drives it directly, one look-up or put at a time; `MemoryStore` makes a `LogStore` of it, for tests
without a disk and as the storage-less baseline of benchmarks.

What is taken from Lance, as measured on it: a commit looks for the latest version from the one that it was built
on upwards, rebases itself on what it finds, and puts the next one if nobody else has; clean-up frees the slots of
old versions, so that a stalled commit can fill one; a compaction takes two versions.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from memos_ray.cube.packing import STORED
from memos_ray.cube.rows import Op
from memos_ray.errors import Moved


class Slots(NamedTuple):
    """Manifests by version: (version, content), in order of version. Contents are opaque."""

    kept: tuple[tuple[int, Any], ...]

    def latest(self) -> int:
        """The highest version."""
        return self.kept[-1][0]

    def content(self) -> Any:
        """What the latest version holds."""
        return self.kept[-1][1]

    def first_free(self, base: int) -> int:
        """The first version above `base` that is not there."""
        taken = {v for v, _ in self.kept}
        version = base + 1
        while version in taken:
            version += 1
        return version

    def put(self, version: int, content: Any) -> Slots | None:
        """With `content` at `version`; None if that is taken. A cleaned slot below the latest is free."""
        if version > self.latest():
            return Slots((*self.kept, (version, content)))
        if any(v == version for v, _ in self.kept):
            return None
        return Slots(tuple(sorted((*self.kept, (version, content)), key=lambda slot: slot[0])))

    def clean(self, version: int) -> Slots:
        """Without the versions before `version`; the latest always stays."""
        low = min(version, self.latest())
        return Slots(tuple(slot for slot in self.kept if slot[0] >= low))


class MemoryStore:
    """`LogStore` without a disk. Several owners may share one, each through a `MemoryStore` of its own.

    `MemoryStore()` is a new log; `store.another()` is another process's view of the same one.
    """

    rewrite_span = 2

    def __init__(self, shared: _Shared | None = None) -> None:
        self._shared = shared or _Shared()
        self._version = 0

    def another(self) -> MemoryStore:
        """The same log, as another process sees it."""
        return MemoryStore(self._shared)

    @property
    def path(self) -> str:
        """Not a path."""
        return "memory"

    def open(self) -> None:
        """See `LogStore.open`."""

    def latest(self) -> int:
        """See `LogStore.latest`."""
        return self._shared.slots.latest()

    def read(self, columns: Sequence[str] | None = None) -> tuple[int, pa.Table]:
        """See `LogStore.read`."""
        slots = self._shared.slots
        table = pa.concat_tables(slots.content()) if slots.content() else STORED.empty_table()
        self._version = slots.latest()
        return self._version, table.select(list(columns)) if columns else table

    def append(self, base: int, rows: pa.Table) -> int:
        """See `LogStore.append`."""
        return self._commit(lambda tables: (*tables, rows))

    def remove(self, base: int, ignored: Sequence[tuple[int, int]]) -> int:
        """See `LogStore.remove`."""

        def without(tables: tuple[pa.Table, ...]) -> tuple[pa.Table, ...]:
            return tuple(t.filter(_counts(t, ignored)) for t in tables)

        return self._commit(without)

    def pieces(self) -> int:
        """See `LogStore.pieces`."""
        return len(self._shared.slots.content())

    def prepare_rewrite(self, version: int) -> Any:
        """See `LogStore.prepare_rewrite`. Joins the tables that the version had."""
        tables = self._shared.slots.content()
        return (len(tables), pa.concat_tables(tables).combine_chunks()) if len(tables) > 1 else None

    def commit_rewrite(self, base: int, prepared: Any) -> int:
        """See `LogStore.commit_rewrite`."""
        count, joined = prepared
        self._commit(lambda tables: tables)
        return self._commit(lambda tables: (joined, *tables[count:]))

    def highest_epoch(self) -> int:
        """See `LogStore.highest_epoch`."""
        epochs = self.read(("epoch",))[1]["epoch"]
        return pc.max(epochs).as_py() or 0

    def clean_up(self, version: int, keep_s: float) -> None:
        """See `LogStore.clean_up`. Versions have no age here: all before `version` go."""
        with self._shared.lock:
            self._shared.slots = self._shared.slots.clean(version)

    def _commit(self, change: Any) -> int:
        slots = self._shared.slots
        landed = slots.latest() + 1
        content = change(slots.content())
        with self._shared.lock:
            after = self._shared.slots.put(landed, content)
            if after is None:
                raise Moved("another writer committed to memory", reason="conflict")
            self._shared.slots = after
        self._version = landed
        return landed


class _Shared:
    """What several owners see."""

    def __init__(self) -> None:
        self.slots = Slots(((1, ()),))
        self.lock = threading.Lock()


def _counts(table: pa.Table, ignored: Sequence[tuple[int, int]]) -> pa.ChunkedArray:
    keep = pc.is_in(table["op"], pa.array([Op.CLAIM.value, Op.OPEN.value]))
    late = pa.chunked_array([pa.nulls(len(table), pa.bool_())])
    late = pc.fill_null(late, False)
    for epoch, seq in ignored:
        late = pc.or_(late, pc.and_(pc.equal(table["epoch"], epoch), pc.greater_equal(table["seq"], seq)))
    return pc.or_(keep, pc.invert(late))
