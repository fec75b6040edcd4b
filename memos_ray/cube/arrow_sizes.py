"""How large an Arrow IPC stream becomes when it is read: told from its headers, before anything is decompressed.

A compressed buffer begins with its length once decompressed, and Arrow allocates what it says. LZ4 packs zeros
some 255 to 1, so whoever reads a stream from outside must add these lengths up first. The headers are
flatbuffers; the positions are those of Arrow's `Message.fbs`. Knows nothing of what the columns mean.
"""

from __future__ import annotations

import struct

import pyarrow as pa

_HEADER, _BUFFERS, _COMPRESSION = 2, 2, 3  # fields of Message, and of RecordBatch
_NOT_COMPRESSED = -1  # a length that says so, for a buffer that compression would have made larger


def decoded_bytes(stream: bytes) -> int:
    """Bytes of all buffers of all record batches once they are read. Raises `ValueError` for what is no stream of
    a schema and record batches, `OSError` or `pa.ArrowException` for one that is cut short."""
    total = 0
    reader = pa.ipc.MessageReader.open_stream(pa.py_buffer(stream))
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return total
        if message.type == "record batch":
            total += _batch_bytes(memoryview(message.metadata), memoryview(message.body))
        elif message.type != "schema":
            raise ValueError(f"it holds a {message.type}")


def _batch_bytes(header: memoryview, body: memoryview) -> int:
    try:
        (root,) = struct.unpack_from("<I", header, 0)
        batch = _table_at(header, _required(header, root, _HEADER))
        buffers = _table_at(header, _required(header, batch, _BUFFERS))
        compressed = bool(_field(header, batch, _COMPRESSION))
        (count,) = struct.unpack_from("<I", header, buffers)
        total = 0
        for i in range(count):
            offset, length = struct.unpack_from("<qq", header, buffers + 4 + 16 * i)
            if compressed and length:
                (stated,) = struct.unpack_from("<q", body, offset)
                length = length - 8 if stated == _NOT_COMPRESSED else stated
            if offset < 0 or length < 0:
                raise ValueError(f"a buffer of {length} bytes")
            total += length
    except struct.error as error:
        raise ValueError(f"a record batch's header cannot be read: {error}") from error
    return total


def _field(data: memoryview, table: int, number: int) -> int:
    """Where a field of a table lies; 0 if it is left out."""
    (back,) = struct.unpack_from("<i", data, table)
    (size,) = struct.unpack_from("<H", data, table - back)
    if 4 + 2 * number >= size:
        return 0
    (offset,) = struct.unpack_from("<H", data, table - back + 4 + 2 * number)
    return table + offset if offset else 0


def _required(data: memoryview, table: int, number: int) -> int:
    if not (at := _field(data, table, number)):
        raise ValueError(f"a header lacks field {number}")
    return at


def _table_at(data: memoryview, at: int) -> int:
    (offset,) = struct.unpack_from("<I", data, at)
    return at + int(offset)
