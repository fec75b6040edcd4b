"""Rows of one registry table in little memory: Arrow columns sorted by id, searched where they lie.

A row takes its id and 4 bytes, the incarnation as the 16 bytes of its UUID, 8 + 4 for time and revision, 1 for the
state, and 4 each for embedder, owner and grants, whose distinct values are kept once.
"""

from __future__ import annotations

import uuid
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from memos_ray.cube.registry.records import CubeRecord, State
from memos_ray.cube.registry.rows import folded, grants_of, principal_needle, to_rows

_NAMES = pa.dictionary(pa.int32(), pa.string())
_SCHEMA = pa.schema(
    [
        ("cube_id", pa.string()),
        ("incarnation", pa.binary(16)),
        ("embedder", _NAMES),
        ("state", pa.uint8()),
        ("created_at", pa.int64()),  # microseconds since 1970
        ("revision", pa.int32()),
        ("owner", _NAMES),
        ("grants", _NAMES),
    ]
)
_STATES: tuple[State, ...] = ("active", "removed")
_FIRST_BLOCK = 64  # rows
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HEX = np.zeros(128, np.uint8)
_HEX[[ord(c) for c in "0123456789abcdef"]] = np.arange(16)
_DIGITS = np.flatnonzero([c != "-" for c in str(uuid.UUID(int=0))])


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a row must be; None: anything. `prefix` is of the id, `granted` the principal of any grant."""

    prefix: str = ""
    owner: str | None = None
    granted: str | None = None
    embedder: str | None = None
    state: State | None = "active"

    def takes(self, record: CubeRecord) -> bool:
        """Whether a record is such."""
        return (
            record.cube_id.startswith(self.prefix)
            and self.owner in (None, record.owner)
            and self.embedder in (None, record.embedder)
            and self.state in (None, record.state)
            and (self.granted is None or any(g.principal == self.granted for g in record.grants))
        )


class Ids(Sequence[bytes]):
    """A sorted string column as UTF-8, read in place: 0.3 microseconds an item."""

    def __init__(self, column: pa.StringArray) -> None:
        _, offsets, data = column.buffers()
        start = column.offset
        self._offsets = memoryview(offsets).cast("i")[start : start + len(column) + 1] if offsets else [0]
        self._data = memoryview(data) if data else memoryview(b"")
        self._n = len(column)

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, i: Any) -> Any:
        return self._data[self._offsets[i] : self._offsets[i + 1]].tobytes()


class Columns:
    """Immutable. Positions are 0 … n - 1 in the order of ids."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table.combine_chunks()
        self._chunks = {
            field.name: self._table[field.name].chunk(0) if len(table) else pa.array([], field.type)
            for field in _SCHEMA
        }
        self.ids = Ids(self._chunks["cube_id"])

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        """Of all columns."""
        return int(self._table.nbytes)

    def find(self, cube_id: bytes) -> int | None:
        """Where a cube is."""
        at = bisect_left(self.ids, cube_id)
        return at if at < len(self.ids) and self.ids[at] == cube_id else None

    def record(self, position: int) -> CubeRecord:
        """The row there: 12 microseconds."""
        embedder, owner, grants = (self._name(n, position) for n in ("embedder", "owner", "grants"))
        return CubeRecord(
            cube_id=self.ids[position].decode(),
            incarnation=str(uuid.UUID(bytes=self._chunks["incarnation"][position].as_py())),
            embedder=embedder,
            state=_STATES[self._numbers["state"][position]],
            created_at=_EPOCH + timedelta(microseconds=int(self._numbers["created_at"][position])),
            revision=int(self._numbers["revision"][position]),
            owner=owner,
            grants=grants_of(grants),
        )

    def revision(self, position: int) -> int:
        """Of the row there."""
        return int(self._numbers["revision"][position])

    def matching(self, wanted: Wanted, after: bytes = b"") -> Iterator[NDArray[np.intp]]:
        """Positions of such rows whose id comes after `after`, ascending, in blocks: the first are small, for whoever
        wants a page."""
        low, high = self._span(wanted.prefix.encode(), after)
        equal = [
            (self._numbers[name], self._code(name, value))
            for name, value in (("owner", wanted.owner), ("embedder", wanted.embedder))
            if value is not None
        ]
        if wanted.state is not None:
            equal.append((self._numbers["state"], _STATES.index(wanted.state)))
        granted = None if wanted.granted is None else self._granted(wanted.granted)
        size = _FIRST_BLOCK
        while low < high:
            block = slice(low, min(high, low + size))
            fits = np.ones(block.stop - low, bool)
            for numbers, value in equal:
                fits &= numbers[block] == value
            if granted is not None:
                fits &= granted[self._numbers["grants"][block]]
            yield np.flatnonzero(fits) + low
            low, size = block.stop, size * 8

    def with_rows(self, rows: pa.Table) -> Columns:
        """These and more rows, as a registry table stores them; of one cube the highest revision stays."""
        if not len(self):
            return compact(rows)
        both = pa.concat_tables([self._table, _encoded(rows)]).unify_dictionaries()
        return Columns(_copied(folded(both)))

    def with_records(self, records: Sequence[CubeRecord]) -> Columns:
        """`with_rows` of records."""
        return self.with_rows(to_rows(records))

    def _span(self, prefix: bytes, after: bytes) -> tuple[int, int]:
        low = (
            bisect_left(self.ids, after + b"\0") if after else 0
        )  # no id holds a zero: the next one possible
        high = len(self.ids)
        if prefix:
            low = max(low, bisect_left(self.ids, prefix))
            high = max(low, bisect_left(self.ids, prefix + b"\xff"))  # 0xff is in no UTF-8
        return low, high

    @cached_property
    def _numbers(self) -> dict[str, NDArray[Any]]:
        """States, times, revisions, and the codes of names: views, no copies."""
        plain = {name: self._chunks[name].to_numpy() for name in ("state", "created_at", "revision")}
        return plain | {
            name: self._chunks[name].indices.to_numpy() for name in ("embedder", "owner", "grants")
        }

    def _name(self, name: str, position: int) -> str:
        column = self._chunks[name]
        return str(column.dictionary[int(self._numbers[name][position])].as_py())

    def _code(self, name: str, value: str) -> int:
        """-1, which is no row's, if no row has the value."""
        return int(pc.index(self._chunks[name].dictionary, pa.scalar(value, pa.string())).as_py())

    def _granted(self, principal: str) -> NDArray[np.bool_]:
        """Of each distinct value of `grants`, whether it grants the principal anything."""
        values = self._chunks["grants"].dictionary
        return np.asarray(
            pc.match_substring(values, principal_needle(principal)).to_numpy(zero_copy_only=False)
        )


def compact(rows: pa.Table) -> Columns:
    """Columns of rows as a registry table stores them, in any order, all revisions."""
    return Columns(_copied(_encoded(folded(rows))))


def empty() -> Columns:
    """No rows."""
    return Columns(_SCHEMA.empty_table())


def _encoded(rows: pa.Table) -> pa.Table:
    """Stored rows in the types of this module."""
    state = pc.index_in(rows["state"], pa.array(_STATES)).cast(pa.uint8())
    columns = {
        "cube_id": rows["cube_id"],
        "incarnation": _uuids(rows["incarnation"]),
        "state": state,
        "created_at": rows["created_at"].cast(pa.timestamp("us")).cast(pa.int64()),
        "revision": rows["revision"].cast(pa.int32()),
        **{name: rows[name].combine_chunks().dictionary_encode() for name in ("embedder", "owner", "grants")},
    }
    return pa.table([columns[name] for name in _SCHEMA.names], schema=_SCHEMA)


def _uuids(texts: pa.ChunkedArray) -> pa.FixedSizeBinaryArray:
    """UUIDs as text -> their 16 bytes."""
    joined = "".join(texts.to_pylist()).encode()
    digits = _HEX[np.frombuffer(joined, np.uint8).reshape(-1, 36)[:, _DIGITS]]
    packed = (digits[:, 0::2] << 4) | digits[:, 1::2]
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(texts), [None, pa.py_buffer(packed.tobytes())]
    )


def _copied(table: pa.Table) -> pa.Table:
    """The table in buffers of its own, just as large as needed: what a reader hands out may hang on far larger ones."""
    return table.take(pa.array(np.arange(len(table))))
