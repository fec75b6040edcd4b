"""Vectors of a cube, one Lance table per embedder fingerprint. Derived: it may be deleted and is rebuilt.

Needs no fence: a row says which text its vectors belong to, and after which context it was read, so that what a
superseded owner wrote for a version that never came to be is not taken for another text's. A version may have
several rows, one for each context that it was embedded with; of equal ones the last counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memos_ray.cube.storage_errors import is_storage_failure, storage_failures
from memos_ray.models.encoded import Documents
from memos_ray.retrieval.sketch import FORM, Sketches, code_width

Hashes = NDArray[np.int64]

_TOKENS = f"tokens_{FORM.replace('-', '_')}"  # a table with codes of another form has no such column
_COLUMNS = ("memory_id", "version", "text_hash", "context_hash", "vector", _TOKENS)
_SCALE = 2  # bytes of a scale, behind each code: in one column, as each one more costs a load 10 ms


@dataclass(frozen=True, slots=True, eq=False)
class VectorKeys:
    """What n rows belong to: memories, their versions, and hashes of texts and of contexts."""

    ids: list[str]
    versions: NDArray[np.int32]
    texts: Hashes
    contexts: Hashes

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def none() -> VectorKeys:
        """Of no rows."""
        return VectorKeys([], np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int64))


def hashes(texts: Iterable[str]) -> Hashes:
    """64 bits of SHA-256 of each text, as signed integers (what Arrow's int64 holds)."""
    digests = b"".join([hashlib.sha256(text.encode()).digest()[:8] for text in texts])
    return np.frombuffer(digests, ">i8").astype(np.int64)


class VectorStore(Protocol):
    """Where vectors are kept between activations."""

    def load(self, skip: int = 0) -> tuple[VectorKeys, Documents]:
        """The rows after the first `skip`, in the order in which they were added."""
        ...

    def count(self) -> int:
        """How many rows there are after what was loaded and appended last."""
        ...

    def append(self, keys: VectorKeys, rows: Documents) -> None:
        """Adds rows. Raises `Unavailable` if storage refuses."""
        ...


class MemoryVectorStore:
    """Keeps nothing: for tests and for measuring without storage."""

    def count(self) -> int:
        """None."""
        return 0

    def load(self, skip: int = 0) -> tuple[VectorKeys, Documents]:
        """Nothing was kept."""
        return VectorKeys.none(), Documents(np.zeros((0, 0), np.float32))

    def append(self, keys: VectorKeys, rows: Documents) -> None:
        """Forgets them."""


class LanceVectorStore:
    """`uri` is the table's folder or URI; it is created by the first append. Not thread-safe: one caller."""

    def __init__(
        self,
        uri: str,
        dim: int,
        token_dim: int = 0,
        storage_options: Mapping[str, str] | None = None,
        compact_every: int = 64,
    ):
        """`token_dim`: of the vectors that were sketched; 0 if the embedder has none of tokens."""
        self.uri = uri
        self._dim = dim
        self._width = code_width(token_dim)
        self._options = dict(storage_options) if storage_options else None
        self._compact_every = compact_every
        self._appends = 0
        self._dataset: lance.LanceDataset | None = None
        self._unusable = False  # it opens, but cannot be read

    def load(self, skip: int = 0) -> tuple[VectorKeys, Documents]:
        """The rows after the first `skip`. A table that cannot be read, or of another form, counts as empty: it is
        made again."""
        dataset = self._open()
        if dataset is not None:
            try:
                if not skip:
                    return self._read(dataset.to_table())
                if skip < dataset.count_rows():
                    return self._read(dataset.to_table(offset=skip))
            except BaseException as error:
                if not is_storage_failure(error) and not isinstance(error, (KeyError, ValueError)):
                    raise
                self._unusable = True
        return VectorKeys.none(), Documents(np.zeros((0, self._dim), np.float32))

    def count(self) -> int:
        """Of the version that was read or written last; 0 if it cannot be read."""
        return 0 if self._dataset is None or self._unusable else int(self._dataset.count_rows())

    def append(self, keys: VectorKeys, rows: Documents) -> None:
        """Adds rows; every `compact_every` appends small files are merged and old versions dropped."""
        table = self._table(keys, rows)
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

    def _table(self, keys: VectorKeys, rows: Documents) -> pa.Table:
        flat = pa.array(np.ascontiguousarray(rows.vectors, np.float32).reshape(-1))
        tokens = rows.tokens
        if tokens is None:
            none = np.zeros(len(keys), np.int64)
            tokens = Sketches(none, np.empty((0, self._width), np.uint8), np.empty(0, np.float16))
        columns = (
            pa.array(keys.ids, pa.string()),
            pa.array(keys.versions, pa.int32()),
            pa.array(keys.texts, pa.int64()),
            pa.array(keys.contexts, pa.int64()),
            pa.FixedSizeListArray.from_arrays(flat, self._dim),
            _binary(tokens, self._width),
        )
        return pa.table(dict(zip(_COLUMNS, columns, strict=True)))

    def _read(self, table: pa.Table) -> tuple[VectorKeys, Documents]:
        """Raises `KeyError` for a missing column, `ValueError` for values that do not fit together."""
        ids, versions, texts, contexts, vectors, tokens = (table[name] for name in _COLUMNS)
        keys = VectorKeys(ids.to_numpy().tolist(), versions.to_numpy(), texts.to_numpy(), contexts.to_numpy())
        flat = vectors.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        matrix = flat.reshape(len(keys), self._dim)
        if not self._width:
            return keys, Documents(matrix)
        return keys, Documents(matrix, _sketches(tokens, self._width))

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


def _binary(tokens: Sketches, width: int) -> pa.Array:
    """A binary value for each text: its tokens one after the other, each its code and its scale."""
    packed = np.empty((len(tokens.codes), width + _SCALE), np.uint8)
    packed[:, :width] = tokens.codes
    packed[:, width:] = tokens.scales.astype("<f2")[:, None].view(np.uint8)
    offsets = np.zeros(len(tokens) + 1, np.int32)
    np.cumsum(tokens.counts * packed.shape[1], out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(packed)]
    return pa.Array.from_buffers(pa.binary(), len(tokens), buffers)


def _sketches(column: pa.ChunkedArray, width: int) -> Sketches:
    """The reverse of `_binary`. Raises `ValueError` for what it cannot have made."""
    if column.null_count or column.type != pa.binary():
        raise ValueError("a row without tokens has an empty value, not none")
    sizes, parts = [np.zeros(0, np.int64)], [np.zeros(0, np.uint8)]
    for chunk in column.chunks:
        _, offsets, data = chunk.buffers()
        if len(chunk) and data is not None:
            places = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
            sizes.append(np.diff(places).astype(np.int64))
            parts.append(np.frombuffer(data, np.uint8)[places[0] : places[-1]])
        else:
            sizes.append(np.zeros(len(chunk), np.int64))
    size = np.concatenate(sizes)
    counts = size // (width + _SCALE)
    if (size != counts * (width + _SCALE)).any():
        raise ValueError("a row ends within a token")
    packed = np.concatenate(parts).reshape(-1, width + _SCALE)
    scales = np.ascontiguousarray(packed[:, width:]).view("<f2")[:, 0].astype(np.float16, copy=False)
    return Sketches(counts, packed[:, :width], scales)
