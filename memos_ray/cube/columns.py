"""Growable numpy columns, and Arrow columns read into numpy once. Knows nothing of memories."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

FOREVER = np.iinfo(np.int64).max  # stands for None in a column of times
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_us(value: datetime | None) -> int:
    """Microseconds since 1970, UTC; `FOREVER` for None."""
    return FOREVER if value is None else (value - _EPOCH) // _MICROSECOND


class Growable:
    """A 1-d array that grows at its end, by doubling. `view` is its filled part, without a copy."""

    __slots__ = ("_data", "size")

    def __init__(self, values: NDArray[Any]) -> None:
        self._data = values
        self.size = len(values)

    @property
    def view(self) -> NDArray[Any]:
        """The filled part. It is the live memory: copy it to keep it."""
        return self._data[: self.size]

    def extend(self, values: Sequence[Any] | NDArray[Any]) -> None:
        """Appends `values`."""
        need = self.size + len(values)
        if need > len(self._data):
            grown = np.empty(max(need, 2 * len(self._data), 64), self._data.dtype)
            grown[: self.size] = self.view
            self._data = grown
        self._data[self.size : need] = values
        self.size = need

    def append(self, value: Any) -> None:
        """Appends one value."""
        if self.size == len(self._data):
            self.extend((value,))
        else:
            self._data[self.size] = value
            self.size += 1


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array; without a copy if it is one already."""
    if column.num_chunks == 1:
        return column.chunk(0)
    combined = column.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):
        return combined.chunk(0) if combined.num_chunks else pa.array([], combined.type)
    return combined


def values_of(column: pa.Array) -> list[Any]:
    """A flat column as Python values; several times as fast as `to_pylist`, but only for columns of strings."""
    values: list[Any] = column.to_numpy(zero_copy_only=False).tolist()
    return values


def times_us(column: pa.Array) -> NDArray[np.int64]:
    """A timestamp column -> microseconds, null as `FOREVER`."""
    ints = column.cast(pa.timestamp("us", tz="UTC")).view(pa.int64())
    out: NDArray[np.int64] = pc.fill_null(ints, FOREVER).to_numpy(zero_copy_only=False)
    return out


def ints(column: pa.Array, dtype: Any = np.int64) -> NDArray[Any]:
    """An integer column without nulls -> numpy."""
    return column.to_numpy(zero_copy_only=False).astype(dtype, copy=False)  # type: ignore[no-any-return]


def codes(column: pa.Array, names: Sequence[str]) -> NDArray[np.int8]:
    """A string column -> positions in `names`. Raises `ValueError` for a value that is not among them."""
    found = pc.index_in(column, value_set=pa.array(names, pa.string()))
    if found.null_count:
        unknown = sorted({str(x) for x in column.filter(found.is_null()).unique().to_pylist()})
        raise ValueError(f"unknown values {unknown}; known are {list(names)}")
    return found.to_numpy(zero_copy_only=False).astype(np.int8)  # type: ignore[no-any-return]


def numbered(column: pa.Array) -> tuple[NDArray[np.int64], list[str]]:
    """A string column without nulls -> (a number per row, the distinct values), by first appearance."""
    encoded = column.dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), values_of(encoded.dictionary)


def ragged(
    owners: NDArray[Any], rows: NDArray[Any], offsets: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """(owner of each element, its position) for the elements `offsets[r]:offsets[r + 1]` of every row."""
    counts = offsets[rows + 1] - offsets[rows]
    before = np.cumsum(counts) - counts
    positions = np.arange(int(counts.sum())) + np.repeat(offsets[rows] - before, counts)
    return np.repeat(owners, counts), positions
