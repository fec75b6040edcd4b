"""The rows of a cube in memory: the columns of the table that was loaded, and what was appended since.

Rows are numbered in seq order. Rows of the table become `JournalRow`s one at a time and only when asked for;
what the fold and the filters need of all of them is read by column. Knows nothing of versions or memories.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from memos_ray.cube.columns import FOREVER, codes, ints, ragged, times_us, values_of
from memos_ray.cube.packing import UNPACKED, Known, columns_of
from memos_ray.cube.rows import SCHEMA, JournalRow, Op, rows_to_table
from memos_ray.types import Kind, Link, Source, Status, TimeMention

OPS = tuple(Op)
KINDS = tuple(Kind)
STATUSES = tuple(Status)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = ("valid_from", "valid_to", "recorded_at", "created_at", "expires_at")
_NUMBERS = ("epoch", "seq", "version")
_STRUCTS: dict[str, Callable[..., Any]] = {"links": Link, "times": TimeMention, "sources": Source}
_STRINGS = ("op_id", "principal", "digest", "memory_id", "text", "metadata", "payload")


def from_us(value: int) -> datetime | None:
    """The inverse of `to_us`."""
    return None if value == FOREVER else _EPOCH + timedelta(microseconds=value)


class RowStore:
    """Rows by number: `0 … base-1` lie in the table, the others are objects."""

    def __init__(self, table: pa.Table, known: Known | None = None) -> None:
        """`known` as in `columns_of`."""
        self.base: int = table.num_rows
        self.columns: Mapping[str, pa.Array] = columns_of(table, known)
        self.op = codes(self.columns["op"], OPS)
        self.kind = codes(self.columns["kind"], KINDS)
        self.status = codes(self.columns["status"], STATUSES)
        self.times: dict[str, NDArray[np.int64]] = {n: times_us(self.columns[n]) for n in _TIMES}
        self.numbers: dict[str, NDArray[np.int64]] = {n: ints(self.columns[n]) for n in _NUMBERS}
        self.appended: list[JournalRow] = []
        self._spans: dict[str, tuple[NDArray[np.int64], Any]] = {}
        self._fields: dict[str, tuple[str, ...]] = {}
        self._metadata: tuple[NDArray[np.int64], list[dict[str, Any]]] | None = None

    def __len__(self) -> int:
        return self.base + len(self.appended)

    def unpack(self) -> None:
        """Reads what is read when first asked for (100k rows: 0.7 s). May run in a thread, beside everything else."""
        with contextlib.suppress(ValueError):  # whoever asks for it is told
            for column in self.columns.values():
                del column

    def row(self, r: int) -> JournalRow:
        """Row number `r`."""
        return self.appended[r - self.base] if r >= self.base else self._decoded([r])[0]

    def rows(self, numbers: Sequence[int]) -> list[JournalRow]:
        """Many rows at once. Rows of the table cost about 0.2 ms a call and 10 µs each: ask for them together."""
        loaded = iter(self._decoded([r for r in numbers if r < self.base]))
        return [next(loaded) if r < self.base else self.appended[r - self.base] for r in numbers]

    def _decoded(self, numbers: list[int]) -> list[JournalRow]:
        if not numbers:
            return []
        at = np.array(numbers)
        picked: dict[str, list[Any]] = {n: self.take(n, at) for n in _STRINGS}
        picked.update((n, v[at].tolist()) for n, v in self.numbers.items())
        picked.update((n, [from_us(x) for x in v[at].tolist()]) for n, v in self.times.items())
        picked["op"] = [OPS[x] for x in self.op[at].tolist()]
        picked["kind"] = [KINDS[x] for x in self.kind[at].tolist()]
        picked["status"] = [STATUSES[x] for x in self.status[at].tolist()]
        picked.update((n, self._lists(n, at)) for n in ("entities", *_STRUCTS))
        for name in ("metadata", "payload"):
            picked[name] = [json.loads(x) if x else {} for x in picked[name]]
        names = tuple(picked)
        return [
            JournalRow(**dict(zip(names, values, strict=True)))
            for values in zip(*picked.values(), strict=True)
        ]

    def _lists(self, name: str, at: NDArray[np.int64]) -> list[tuple[Any, ...]]:
        """A column of lists, for rows of the table: of strings, or of what the structs in it stand for."""
        offsets, flat = self.spans(name)
        owner, positions = ragged(np.arange(len(at)), at, offsets)
        if not len(positions):
            return [()] * len(at)
        picked = pa.array(positions)
        make = _STRUCTS.get(name)
        elements: Iterable[Any]
        if make is None:
            elements = values_of(flat.take(picked))
        else:
            names = self._filled(name)
            columns = [_python_values(flat.field(n).take(picked)) for n in names]
            elements = [make(**dict(zip(names, one, strict=True))) for one in zip(*columns, strict=True)]
        lists: list[list[Any]] = [[] for _ in range(len(at))]
        for i, element in zip(owner.tolist(), elements, strict=True):
            lists[i].append(element)
        return [tuple(x) for x in lists]

    def _filled(self, name: str) -> tuple[str, ...]:
        """The fields of a struct column that hold anything at all; the others keep their default."""
        if name not in self._fields:
            flat = self.spans(name)[1]
            names = [f.name for f in flat.type]
            filled = tuple(n for n in names if flat.field(n).null_count < len(flat))
            self._fields[name] = filled or tuple(names[:1])
        return self._fields[name]

    def since(self, r: int) -> Iterable[tuple[int, JournalRow]]:
        """The appended rows from number `r` on, with their numbers."""
        start = max(r - self.base, 0)
        return enumerate(self.appended[start:], self.base + start)

    def texts(self, rows: Sequence[int] | NDArray[np.int64]) -> list[str]:
        """The texts of these rows."""
        wanted = np.asarray(rows, np.int64)
        if not len(wanted):
            return []
        if int(wanted.max()) < self.base:
            return self.take("text", wanted)
        if int(wanted.min()) >= self.base:
            return [self.appended[r - self.base].text for r in wanted.tolist()]
        inside = wanted < self.base
        loaded = iter(self.take("text", wanted[inside]))
        return [
            next(loaded) if i else self.appended[r - self.base].text
            for i, r in zip(inside, wanted, strict=True)
        ]

    def take(self, column: str, rows: NDArray[np.int64]) -> list[Any]:
        """Values of a column of strings, for rows of the table."""
        return values_of(self.columns[column].take(pa.array(rows, pa.int64())))

    def metadata(self) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
        """(a number per row of the table, the distinct metadata); each is parsed once, when asked for."""
        if self._metadata is None:
            encoded = self.columns["metadata"].fill_null("").dictionary_encode()
            distinct = [json.loads(x) if x else {} for x in values_of(encoded.dictionary)]
            self._metadata = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), distinct
        return self._metadata

    def spans(self, name: str) -> tuple[NDArray[np.int64], Any]:
        """A list column as (offsets per row of the table, all elements): row r has `offsets[r]:offsets[r + 1]`."""
        if name not in self._spans:
            column = self.columns[name]
            lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
            offsets = np.zeros(len(column) + 1, np.int64)
            np.cumsum(lengths, out=offsets[1:])
            self._spans[name] = offsets, column.flatten()
        return self._spans[name]

    def source_spans(self) -> tuple[NDArray[np.int64], pa.StructArray]:
        """`spans` of the sources."""
        return self.spans("sources")

    def entity_spans(self) -> tuple[NDArray[np.int64], pa.Array]:
        """`spans` of the entities."""
        return self.spans("entities")

    def link_spans(self) -> tuple[NDArray[np.int64], pa.StructArray]:
        """`spans` of the links."""
        return self.spans("links")

    def unpacked(self, appended: Sequence[JournalRow]) -> pa.Table:
        """`UNPACKED` of the table's rows and of `appended`, which came after them. May run in a thread."""
        loaded = pa.table([self.columns[name] for name in UNPACKED.names], schema=UNPACKED)
        return pa.concat_tables([loaded, rows_to_table(appended).select(UNPACKED.names).cast(UNPACKED)])

    def to_table(self) -> pa.Table:
        """All rows, in seq order, as `rows.SCHEMA`."""
        loaded = pa.table([self.columns[name] for name in SCHEMA.names], schema=SCHEMA)
        return pa.concat_tables([loaded, rows_to_table(self.appended)])

    def digest(self, r: int) -> str:
        """The digest of the request that made row `r`."""
        return (
            str(self.columns["digest"][r].as_py()) if r < self.base else self.appended[r - self.base].digest
        )

    def payloads(self) -> list[tuple[int, Mapping[str, Any]]]:
        """Rows of the table that have a payload, and it."""
        column = self.columns["payload"]
        rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
        return [(int(r), json.loads(x)) for r, x in zip(rows, self.take("payload", rows), strict=True)]


def _python_values(column: pa.Array) -> list[Any]:
    if pa.types.is_string(column.type):
        return values_of(column)
    if pa.types.is_timestamp(column.type):
        return [from_us(t) for t in times_us(column).tolist()]
    values: list[Any] = column.to_pylist()
    return values
