"""The journal's row as it lies in storage: few columns, because each one costs every commit a tenth of a millisecond.

What storage or the fence must read by itself has a column of its own. The rest of a row is one binary value: a
fixed head of numbers, then a JSON object of what is not empty. Both are read in bulk, the heads with numpy when
the table is taken over, the objects with Arrow's JSON reader when the first of their columns is asked for.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
from numpy.typing import NDArray

from memos_ray.cube.columns import FOREVER, one_chunk, to_us
from memos_ray.cube.rows import SCHEMA, SCHEMA_VERSION, SCHEMA_VERSION_KEY, JournalRow, to_json
from memos_ray.types import Source

PACKED = "packed"
_OWN = ("epoch", "seq", "op", "op_id", "memory_id", "recorded_at", "text", "payload")
STORED = pa.schema(
    [*(SCHEMA.field(name) for name in _OWN), (PACKED, pa.binary())],
    metadata={SCHEMA_VERSION_KEY: str(SCHEMA_VERSION).encode()},
)

# A row stores positions in these. New names go at the end; none is ever taken out or moved.
KIND_NAMES = ("message", "fact", "preference", "event", "document", "summary", "tool", "triple")
STATUS_NAMES = ("active", "superseded", "archived", "merged", "deleted")
_KIND_CODES = {name: i for i, name in enumerate(KIND_NAMES)}
_STATUS_CODES = {name: i for i, name in enumerate(STATUS_NAMES)}

_TIMES = (
    "valid_from",
    "valid_to",
    "created_at",
    "expires_at",
)  # microseconds since 1970; none: the largest int64
_HEAD = np.dtype([("version", "<i4"), ("kind", "u1"), ("status", "u1"), *((name, "<i8") for name in _TIMES)])
_PACK_HEAD = struct.Struct("<iBBqqqq").pack
_LISTS = ("entities", "links", "times", "sources")
_TEXTS = ("principal", "digest")
_SOURCE_FIELDS = tuple(field.name for field in fields(Source) if field.name != "said_at")
_MIN_BLOCK = 1 << 20  # bytes that Arrow reads at a time; a row must fit


def _as_numbers(kind: pa.DataType) -> pa.DataType:
    """The type with times as int64: Arrow reads a timestamp in JSON from a string only."""
    if pa.types.is_timestamp(kind):
        return pa.int64()
    if pa.types.is_list(kind):
        return pa.list_(_as_numbers(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _as_numbers(field.type)) for field in kind])
    return kind


_JSON = pa.schema([(name, _as_numbers(SCHEMA.field(name).type)) for name in (*_TEXTS, *_LISTS, "metadata")])


UNPACKED = pa.schema([SCHEMA.field(name) for name in _JSON.names])
"""The columns of `SCHEMA` that are read from packed values, and cost most of reading a table."""


def stored_table(rows: Sequence[JournalRow]) -> pa.Table:
    """Rows -> a table with `STORED`. Raises `UnicodeEncodeError` for lone surrogates (callers check)."""
    columns: list[list[Any]] = [[getattr(row, name) for row in rows] for name in _OWN[:-1]]
    columns.append([to_json(row.payload) if row.payload else None for row in rows])
    columns.append([_packed(row) for row in rows])
    return pa.table(
        [pa.array(values, field.type) for values, field in zip(columns, STORED, strict=True)], schema=STORED
    )


def _packed(row: JournalRow) -> bytes:
    head = _PACK_HEAD(
        row.version, _KIND_CODES[row.kind], _STATUS_CODES[row.status],
        to_us(row.valid_from), to_us(row.valid_to), to_us(row.created_at), to_us(row.expires_at),
    )  # fmt: skip
    rest: dict[str, Any] = {}
    if row.principal:
        rest["principal"] = row.principal
    if row.digest:
        rest["digest"] = row.digest
    if row.entities:
        rest["entities"] = row.entities
    if row.links:
        rest["links"] = [{"type": x.type, "target": x.target, "weight": x.weight} for x in row.links]
    if row.times:
        rest["times"] = [{"text": x.text, "start": to_us(x.start), "end": to_us(x.end)} for x in row.times]
    if row.sources:
        rest["sources"] = [_source(x) for x in row.sources]
    if row.metadata:
        rest["metadata"] = to_json(row.metadata)
    return head + to_json(rest).encode()


def _source(source: Source) -> dict[str, Any]:
    found = {name: value for name in _SOURCE_FIELDS if (value := getattr(source, name)) is not None}
    if source.said_at is not None:
        found["said_at"] = to_us(source.said_at)
    return found


Known = Callable[[], pa.Table | None]
"""Gives `UNPACKED` of the first rows of a table, as somebody has kept it; None if it cannot."""


def columns_of(table: pa.Table, known: Known | None = None) -> Mapping[str, pa.Array]:
    """The columns of `SCHEMA`, each as one array, of rows in either form: `STORED` or `SCHEMA`.

    What `known` gives is not read from packed values again; it is asked when the first such column is. Raises
    `ValueError` for packed values that are none; some only when a column is asked for.
    """
    if PACKED in table.column_names:
        return _Unpacked(table, known)
    wide = table.select(SCHEMA.names).cast(SCHEMA)
    return {name: one_chunk(wide.column(name)) for name in SCHEMA.names}


def readable(table: pa.Table) -> pa.Table:
    """Rows in either form -> `SCHEMA`. Raises `ValueError` for packed values that are none."""
    columns = columns_of(table)
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


class _Unpacked(Mapping[str, pa.Array]):
    """Columns of a stored table. May be used from several threads."""

    def __init__(self, table: pa.Table, known: Known | None = None) -> None:
        self._known = known
        self._columns = {name: one_chunk(table.column(name)) for name in _OWN}
        self._offsets, self._bytes = _buffers(one_chunk(table.column(PACKED)))
        self._columns.update(_head_columns(self._offsets, self._bytes))
        self._unpacking = threading.Lock()

    def __getitem__(self, name: str) -> pa.Array:
        found = self._columns.get(name)
        if found is None:
            if name not in SCHEMA.names:
                raise KeyError(name)
            with self._unpacking:
                if name not in self._columns:
                    self._columns.update(self._unpacked())
                    self._offsets, self._bytes = self._offsets[:0], self._bytes[:0]
            found = self._columns[name]
        return found

    def _unpacked(self) -> dict[str, pa.Array]:
        known, self._known = self._known() if self._known else None, None
        offsets = self._offsets
        if known is None or known.num_rows >= len(offsets):
            return _json_columns(offsets, self._bytes)
        k = known.num_rows
        first = {name: one_chunk(known.column(name)) for name in UNPACKED.names}
        if k == len(offsets) - 1:
            return first
        rest = _json_columns(offsets[k:] - offsets[k], self._bytes[offsets[k] :])
        return {name: pa.concat_arrays([first[name], rest[name]]) for name in UNPACKED.names}

    def __iter__(self) -> Iterator[str]:
        return iter(SCHEMA.names)

    def __len__(self) -> int:
        return len(SCHEMA.names)


def _buffers(packed: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """(where each value starts, and where the last one ends; the bytes of all)."""
    n = len(packed)
    if not n:
        return np.zeros(1, np.int64), np.zeros(0, np.uint8)
    _, offsets, data = packed.buffers()
    places = np.frombuffer(offsets, np.int32)[packed.offset : packed.offset + n + 1].astype(np.int64)
    if packed.null_count or (np.diff(places) <= _HEAD.itemsize).any():
        raise ValueError("a row has no packed value, or one that is cut short")
    return places - places[0], np.frombuffer(data, np.uint8)[places[0] : places[-1]]


def _head_columns(offsets: NDArray[np.int64], data: NDArray[np.uint8]) -> dict[str, pa.Array]:
    size = _HEAD.itemsize
    heads = data[offsets[:-1, None] + np.arange(size)].reshape(-1).view(_HEAD)
    columns = {name: _times(heads[name]) for name in _TIMES}
    columns["version"] = pa.array(np.ascontiguousarray(heads["version"]))
    for name, names in (("kind", KIND_NAMES), ("status", STATUS_NAMES)):
        codes = np.ascontiguousarray(heads[name])
        if len(codes) and int(codes.max()) >= len(names):
            raise ValueError(f"unknown {name} number {int(codes.max())}; known are {list(names)}")
        columns[name] = pa.array(names, pa.string()).take(pa.array(codes))
    return columns


def _times(values: NDArray[np.int64]) -> pa.Array:
    return pa.array(np.ascontiguousarray(values), mask=values == FOREVER).cast(
        SCHEMA.field("valid_from").type
    )


def _json_columns(offsets: NDArray[np.int64], data: NDArray[np.uint8]) -> dict[str, pa.Array]:
    n = len(offsets) - 1
    if not n:
        return {name: pa.array([], SCHEMA.field(name).type) for name in _JSON.names}
    lines = data.copy()  # heads become blanks that begin with a line feed: one JSON object a line
    lines[offsets[:-1, None] + np.arange(_HEAD.itemsize)] = ord(" ")
    lines[offsets[:-1]] = ord("\n")
    table = pj.read_json(
        pa.BufferReader(pa.py_buffer(lines)),
        read_options=pj.ReadOptions(block_size=max(_MIN_BLOCK, 2 * int(np.diff(offsets).max()))),
        parse_options=pj.ParseOptions(explicit_schema=_JSON, unexpected_field_behavior="error"),
    )
    if table.num_rows != n:
        raise ValueError(f"{n} packed values hold {table.num_rows} objects")
    return {name: _as_in_schema(name, one_chunk(table.column(name))) for name in _JSON.names}


def _as_in_schema(name: str, column: pa.Array) -> pa.Array:
    """What was left out is empty; times are times again."""
    if name in _TEXTS:
        return column.fill_null("")
    if name not in _LISTS:
        return column
    kind = SCHEMA.field(name).type
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(column) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), column.flatten().cast(kind.value_type), type=kind)
