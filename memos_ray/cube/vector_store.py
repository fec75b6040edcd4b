"""Vectors of a cube, one Lance table per embedder fingerprint. Derived: it may be deleted and is rebuilt.

Needs no fence: a row says which text its vector belongs to, so that a vector which a superseded owner wrote
for a version that never came to be is not taken for another text's. Writers may append twice; the last row
for a (memory_id, version, text_hash) counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol

import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memos_ray.cube.storage_errors import is_storage_failure, storage_failures

VectorKey = tuple[str, int, int]  # memory_id, version, text_hash


def text_hash(text: str) -> int:
    """64 bits of SHA-256 of the text, as a signed integer (what Arrow's int64 holds)."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


class VectorStore(Protocol):
    """Where vectors are kept between activations."""

    def load(self) -> tuple[dict[VectorKey, int], NDArray[np.float32]]:
        """All rows: key -> row number in the (n, dim) matrix."""
        ...

    def append(self, keys: Sequence[VectorKey], vectors: NDArray[np.float32]) -> None:
        """Adds rows. Raises `Unavailable` if storage refuses."""
        ...


class MemoryVectorStore:
    """Keeps nothing: for tests and for measuring without storage."""

    def load(self) -> tuple[dict[VectorKey, int], NDArray[np.float32]]:
        """Nothing was kept."""
        return {}, np.zeros((0, 0), np.float32)

    def append(self, keys: Sequence[VectorKey], vectors: NDArray[np.float32]) -> None:
        """Forgets them."""


class LanceVectorStore:
    """`uri` is the table's folder or URI; it is created by the first append. Not thread-safe: one caller."""

    def __init__(
        self, uri: str, dim: int, storage_options: Mapping[str, str] | None = None, compact_every: int = 64
    ):
        self.uri = uri
        self._dim = dim
        self._options = dict(storage_options) if storage_options else None
        self._compact_every = compact_every
        self._appends = 0
        self._dataset: lance.LanceDataset | None = None
        self._unusable = False  # it opens, but cannot be read

    def load(self) -> tuple[dict[VectorKey, int], NDArray[np.float32]]:
        """All rows. A table that cannot be read counts as empty: its vectors are computed again."""
        nothing: tuple[dict[VectorKey, int], NDArray[np.float32]] = ({}, np.zeros((0, self._dim), np.float32))
        dataset = self._open()
        if dataset is None:
            return nothing
        try:
            table = dataset.to_table()
            keys = zip(
                table["memory_id"].to_pylist(),
                table["version"].to_pylist(),
                table["text_hash"].to_pylist(),
                strict=True,
            )
            flat = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            return {key: row for row, key in enumerate(keys)}, flat.reshape(-1, self._dim)
        except BaseException as error:
            if not is_storage_failure(error) and not isinstance(error, KeyError):
                raise
            self._unusable = True
            return nothing

    def append(self, keys: Sequence[VectorKey], vectors: NDArray[np.float32]) -> None:
        """Adds rows; every `compact_every` appends small files are merged and old versions dropped."""
        flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
        table = pa.table(
            {
                "memory_id": pa.array([k[0] for k in keys], pa.string()),
                "version": pa.array([k[1] for k in keys], pa.int32()),
                "text_hash": pa.array([k[2] for k in keys], pa.int64()),
                "vector": pa.FixedSizeListArray.from_arrays(flat, self._dim),
            }
        )
        with storage_failures(self.uri, "store vectors"):
            known = None if self._unusable else self._open()
            if known is not None:
                self._dataset = lance.write_dataset(
                    table, known, mode="append", storage_options=self._options
                )
            else:
                self._dataset = self._make(table)
            self._unusable = False
            self._appends += 1
            if self._appends % self._compact_every == 0:
                self._dataset.optimize.compact_files()
                self._dataset.cleanup_old_versions(older_than=timedelta(minutes=10))

    def _make(self, table: pa.Table) -> lance.LanceDataset:
        """The table anew. What is there but cannot be read is replaced: it is derived."""
        try:
            return lance.write_dataset(table, self.uri, mode="create", storage_options=self._options)
        except BaseException as error:
            if not is_storage_failure(error):
                raise
            return lance.write_dataset(table, self.uri, mode="overwrite", storage_options=self._options)

    def _open(self) -> lance.LanceDataset | None:
        if self._dataset is None:
            try:
                self._dataset = lance.dataset(self.uri, storage_options=self._options)
            except BaseException as error:
                if not is_storage_failure(error):
                    raise
                return None  # it is not there, or it is damaged
        return self._dataset
