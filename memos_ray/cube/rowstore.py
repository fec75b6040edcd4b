"""The rows of a cube in memory: an Arrow table as it was loaded, and what was appended since.

Rows are numbered in seq order. Rows of the table become `JournalRow`s one at a time and only when asked for;
what the fold and the filters need of all of them is read by column. Knows nothing of versions or memories.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from memos_ray.cube.columns import FOREVER, codes, ints, one_chunk, times_us
from memos_ray.cube.rows import JournalRow, Op, row_from_dict
from memos_ray.types import Kind, Status

OPS = tuple(Op)
KINDS = tuple(Kind)
STATUSES = tuple(Status)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = ("valid_from", "valid_to", "recorded_at", "created_at", "expires_at")
_NUMBERS = ("epoch", "seq", "version")
_PLAIN = (
    "op_id",
    "principal",
    "digest",
    "memory_id",
    "text",
    "entities",
    "links",
    "sources",
    "metadata",
    "payload",
)


def from_us(value: int) -> datetime | None:
    """The inverse of `to_us`."""
    return None if value == FOREVER else _EPOCH + timedelta(microseconds=value)


class RowStore:
    """Rows by number: `0 … base-1` lie in the table, the others are objects."""

    def __init__(self, table: pa.Table) -> None:
        self.base = table.num_rows
        self.columns: dict[str, pa.Array] = {n: one_chunk(table.column(n)) for n in table.column_names}
        self.op = codes(self.columns["op"], OPS)
        self.kind = codes(self.columns["kind"], KINDS)
        self.status = codes(self.columns["status"], STATUSES)
        self.times: dict[str, NDArray[np.int64]] = {n: times_us(self.columns[n]) for n in _TIMES}
        self.numbers: dict[str, NDArray[np.int64]] = {n: ints(self.columns[n]) for n in _NUMBERS}
        self.appended: list[JournalRow] = []
        self._metadata: tuple[NDArray[np.int64], list[dict[str, Any]]] | None = None

    def __len__(self) -> int:
        return self.base + len(self.appended)

    def row(self, r: int) -> JournalRow:
        """Row number `r`. About 40 µs for a row of the table; callers cache what they make of it."""
        if r >= self.base:
            return self.appended[r - self.base]
        d: dict[str, Any] = {n: self.columns[n][r].as_py() for n in _PLAIN}
        d.update((n, int(v[r])) for n, v in self.numbers.items())
        d.update((n, from_us(int(v[r]))) for n, v in self.times.items())
        mentions = self.columns["times"][r]
        d["times"] = mentions.as_py() if mentions.is_valid and len(mentions) else ()
        d["op"], d["kind"], d["status"] = OPS[self.op[r]], KINDS[self.kind[r]], STATUSES[self.status[r]]
        return row_from_dict(d)

    def digest(self, r: int) -> str:
        """The digest of the request that made row `r`."""
        return (
            str(self.columns["digest"][r].as_py()) if r < self.base else self.appended[r - self.base].digest
        )

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
        inside = wanted < self.base
        loaded = iter(self.take("text", wanted[inside]))
        return [
            next(loaded) if i else self.appended[r - self.base].text
            for i, r in zip(inside, wanted, strict=True)
        ]

    def take(self, column: str, rows: NDArray[np.int64]) -> list[Any]:
        """Values of a flat column for rows of the table."""
        values: list[Any] = self.columns[column].take(pa.array(rows)).to_numpy(zero_copy_only=False).tolist()
        return values

    def metadata(self) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
        """(a number per row of the table, the distinct metadata by number); each is parsed once, when asked for."""
        if self._metadata is None:
            encoded = self.columns["metadata"].fill_null("").dictionary_encode()
            distinct = [json.loads(x) if x else {} for x in encoded.dictionary.to_pylist()]
            self._metadata = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), distinct
        return self._metadata

    def source_spans(self) -> tuple[NDArray[np.int64], pa.StructArray]:
        """(offsets per row of the table, all sources flat): row r has sources `offsets[r]:offsets[r + 1]`."""
        return _spans(self.columns["sources"])

    def entity_spans(self) -> tuple[NDArray[np.int64], pa.Array]:
        """The same for entities."""
        return _spans(self.columns["entities"])

    def link_spans(self) -> tuple[NDArray[np.int64], pa.StructArray]:
        """The same for links."""
        return _spans(self.columns["links"])

    def payloads(self) -> list[tuple[int, Mapping[str, Any]]]:
        """Rows of the table that have a payload, and it."""
        column = self.columns["payload"]
        rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
        return [(int(r), json.loads(x)) for r, x in zip(rows, self.take("payload", rows), strict=True)]


def _spans(column: pa.Array) -> tuple[NDArray[np.int64], Any]:
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(column) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets, column.flatten()
