"""Checkpoint files: named arrays in one Arrow IPC file, and where they lie.

A file has a record batch for each array, uncompressed, so that of a mapped file nothing is copied before it is used.
Its schema's metadata says what the file is, and names, types, shapes and checksums of the arrays. An array is checked
when it is first asked for. Knows nothing of cubes.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memos_ray.errors import NotFound
from memos_ray.retrieval.arrays import Saved
from memos_ray.storage.files import Bytes, Files

FORMAT = 1
"""Of the file. A file of another format counts as absent."""

_HEADER = b"memos_ray.checkpoint"
_SCHEMA = pa.schema([("data", pa.large_binary())])
_BLOCK = 2_048  # words summed before their order counts again
_ENDS = "/ends"  # of a list of strings: where each ends in the bytes beside it
_TYPES = frozenset(["|b1", "|u1", "|i1", "<i2", "<i4", "<i8", "<u4", "<u8", "<f2", "<f4", "<f8"])


class Damaged(Exception):
    """A checkpoint that does not hold what it says: it counts as absent."""


class CheckpointFile:
    """An opened file. `about` is what its writer said of it. Threads may share it."""

    def __init__(self, reader: pa.ipc.RecordBatchFileReader) -> None:
        """Raises `Damaged` for a file of another format, or none of this project's."""
        try:
            crc, text = (reader.schema.metadata or {})[_HEADER].split(b" ", 1)
            if int(crc) != zlib.crc32(text):
                raise Damaged("its header has another checksum")
            header = json.loads(text)
            if header["format"] != FORMAT:
                raise Damaged(f"format {header['format']}, not {FORMAT}")
            self.about: Mapping[str, Any] = dict(header["about"])
            self._arrays: dict[str, tuple[int, str, list[int], int]] = {
                name: (i, kind, shape, crc) for i, (name, kind, shape, crc) in enumerate(header["arrays"])
            }
        except (KeyError, ValueError, TypeError) as error:
            raise Damaged(f"unreadable header: {error!r}") from error
        if reader.num_record_batches != len(self._arrays):
            raise Damaged(f"{reader.num_record_batches} arrays, not {len(self._arrays)}")
        self._reader = reader

    def part(self, name: str) -> Saved:
        """The arrays of one part, read-only, without copies of a mapped file. Raises `Damaged`."""
        found: Saved = {}
        prefix = f"{name}/"
        for full in self._arrays:
            if full.startswith(prefix) and not full.endswith(_ENDS):
                short = full.removeprefix(prefix)
                array = self._array(full)
                found[short] = (
                    _strings(array, self._array(full + _ENDS)) if full + _ENDS in self._arrays else array
                )
        if not found:
            raise Damaged(f"there is no part {name!r}")
        return found

    def _array(self, name: str) -> NDArray[Any]:
        i, kind, shape, crc = self._arrays[name]
        try:
            if kind not in _TYPES:
                raise Damaged(f"{name} is of the type {kind!r}")
            # The buffer itself, whose bounds Arrow checks; damaged offsets into it would lead anywhere.
            buffer = self._reader.get_batch(i).column(0).buffers()[2]
            size = math.prod(shape) * np.dtype(kind).itemsize
            data = np.frombuffer(buffer if buffer is not None else b"", np.uint8)[:size]
            if len(data) != size or _checksum(data) != crc:
                raise Damaged(f"{name} has another checksum")
            return data.view(kind).reshape(shape)
        except (pa.ArrowException, OSError, ValueError, TypeError, IndexError) as error:
            raise Damaged(f"{name} cannot be read: {error}") from error


class CheckpointFolder:
    """The checkpoints of one incarnation: a folder, or a place in an object store (`storage.roots`)."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._files = Files(uri)

    def open(self, name: str) -> CheckpointFile | None:
        """The file of that name; None if there is none. Raises `Damaged`, or `Unavailable` if storage fails."""
        try:
            data = self._files.view(f"{name}.arrow")
        except NotFound:
            return None
        try:
            return CheckpointFile(pa.ipc.open_file(_aligned(pa.py_buffer(data))))
        except (pa.ArrowException, OSError) as error:
            raise Damaged(str(error)) from error

    def write(self, name: str, about: Mapping[str, Any], parts: Mapping[str, Saved]) -> int:
        """Puts the file in the place of what was there, as a whole or not at all. Returns its size in bytes.

        Raises `Unavailable`.
        """
        arrays = dict(_flat(parts))
        listed = [(n, _type(a), list(a.shape), _checksum(_bytes(a))) for n, a in arrays.items()]
        header = json.dumps({"format": FORMAT, "about": dict(about), "arrays": listed}).encode()
        schema = _SCHEMA.with_metadata({_HEADER: b"%d %s" % (zlib.crc32(header), header)})
        # What power is lost in the middle of has other checksums: there is no need to wait for the disk.
        with self._files.writer(f"{name}.arrow", durable=False) as file:
            out = _Sink(file)
            with pa.ipc.new_file(pa.PythonFile(out, mode="w"), schema) as writer:
                for array in arrays.values():
                    writer.write_batch(pa.record_batch([_value(array)], schema=schema))
        return out.bytes

    def remove(self, name: str) -> None:
        """Deletes the file, if there is one, and what a writer that died left of it. Raises `Unavailable`."""
        self._files.delete(f"{name}.arrow")


class _Sink:
    """A file as Arrow writes it. Counts."""

    closed = False

    def __init__(self, file: Bytes) -> None:
        self._file = file
        self.bytes = 0

    def write(self, data: bytes) -> int:
        """Appends."""
        self.bytes += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Whoever opened the file closes it."""


def _aligned(data: pa.Buffer) -> pa.Buffer:
    """What came over a network may begin anywhere; numbers are read fastest, and by some only, from whole words."""
    if data.address % 8 == 0:
        return data
    copy = pa.allocate_buffer(len(data))
    np.frombuffer(copy, np.uint8)[:] = np.frombuffer(data, np.uint8)
    return copy


def table_bytes(table: pa.Table) -> NDArray[np.uint8]:
    """An Arrow table as an array of bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return np.frombuffer(sink.getvalue(), np.uint8)


def table_of(data: NDArray[np.uint8]) -> pa.Table:
    """The inverse of `table_bytes`, without copying. Raises `Damaged`."""
    try:
        return pa.ipc.open_stream(pa.py_buffer(data)).read_all()
    except pa.ArrowException as error:
        raise Damaged(str(error)) from error


def _flat(parts: Mapping[str, Saved]) -> list[tuple[str, NDArray[Any]]]:
    found: list[tuple[str, NDArray[Any]]] = []
    for part, arrays in parts.items():
        for name, array in arrays.items():
            full = f"{part}/{name}"
            if isinstance(array, list):
                encoded = [s.encode() for s in array]
                found.append((full, np.frombuffer(b"".join(encoded), np.uint8)))
                found.append((full + _ENDS, np.cumsum([len(e) for e in encoded], dtype=np.int64)))
            else:
                found.append((full, np.ascontiguousarray(array)))
    return found


def _strings(data: NDArray[Any], ends: NDArray[Any]) -> list[str]:
    """Raises `Damaged`."""
    offsets = np.concatenate((np.zeros(1, np.int64), ends))
    if (len(ends) and int(ends[-1]) != len(data)) or (np.diff(offsets) < 0).any():
        raise Damaged("strings that do not fit their ends")
    array = pa.Array.from_buffers(
        pa.large_string(), len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )
    strings: list[str] = array.to_numpy(zero_copy_only=False).tolist()
    return strings


def _checksum(data: NDArray[np.uint8]) -> int:
    """CRC-32 of the sums of blocks, and of the bytes that are left: finds what storage does to a file (zeroed pages,
    flipped bits, a part of another version) in a tenth of the time that the CRC of all bytes takes."""
    whole = len(data) // 8 * 8
    words = data[:whole].view(np.uint64)
    sums = np.add.reduceat(words, np.arange(0, len(words), _BLOCK)) if whole else words
    return zlib.crc32(data[whole:].tobytes(), zlib.crc32(sums.tobytes(), len(data)))


def _type(array: NDArray[Any]) -> str:
    kind = array.dtype.str
    if kind not in _TYPES:
        raise TypeError(f"arrays of {array.dtype} are not kept")
    return kind


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    return array.reshape(-1).view(np.uint8)


def _value(array: NDArray[Any]) -> pa.Array:
    data = _bytes(array)
    ends = np.array([0, len(data)], np.int64)
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, pa.py_buffer(ends), pa.py_buffer(data)])
