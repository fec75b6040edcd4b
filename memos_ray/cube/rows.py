"""The journal's row: its Python form, and the readable Arrow schema in which cubes are exported. Schema version 1.

In storage a row has fewer columns: see `packing`.

Every row that names a `memory_id` holds the whole version that it makes, so that the fold needs no other
row to know it (a `delete` or `merge` row holds no text). Rows are never changed once written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pyarrow as pa

from memos_ray.types import Kind, Link, MemoryItem, Source, Status, TimeMention

SCHEMA_VERSION = 1
SCHEMA_VERSION_KEY = b"memos_ray.schema_version"
EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)


class Op(StrEnum):
    """What a row does."""

    ADD = "add"
    UPDATE = "update"
    DELETE = "delete"
    ARCHIVE = "archive"
    RESTORE = "restore"  # back from the archive, from deletion, or by restore_snapshot
    MERGE = "merge"  # this memory says the same as payload["into"]
    SNAPSHOT = "snapshot"  # payload["name"] names the state up to this row's seq
    NOOP = "noop"  # a call that changed nothing still leaves its op_id
    CLAIM = "claim"  # an owner wants to write with this epoch
    OPEN = "open"  # that owner starts; payload["start"] is its first seq


@dataclass(frozen=True, slots=True)
class JournalRow:
    """One row. `epoch`, `seq` and `recorded_at` are given by the journal when it commits the row."""

    op: Op
    op_id: str = ""
    principal: str = ""
    digest: str = ""  # of the request that `op_id` came with
    memory_id: str | None = None
    version: int = 0
    text: str = ""
    kind: Kind = Kind.MESSAGE
    valid_from: datetime = EPOCH_START
    valid_to: datetime | None = None
    created_at: datetime | None = None  # None: this row's recorded_at
    expires_at: datetime | None = None
    status: Status = Status.ACTIVE
    entities: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    times: tuple[TimeMention, ...] = ()
    sources: tuple[Source, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    payload: Mapping[str, Any] = field(default_factory=dict)
    epoch: int = 0
    seq: int = 0
    recorded_at: datetime = EPOCH_START

    def item(self) -> MemoryItem:
        """The version that this row makes. Only for rows with a `memory_id`."""
        assert self.memory_id is not None
        return MemoryItem(
            id=self.memory_id,
            text=self.text,
            kind=self.kind,
            valid_from=self.valid_from,
            valid_to=self.valid_to,
            recorded_at=self.recorded_at,
            created_at=self.created_at or self.recorded_at,
            status=self.status,
            version=self.version,
            entities=self.entities,
            links=self.links,
            times=self.times,
            sources=self.sources,
            metadata=self.metadata,
            expires_at=self.expires_at,
        )


_TIME = pa.timestamp("us", tz="UTC")
_LINK = pa.struct([("type", pa.string()), ("target", pa.string()), ("weight", pa.float32())])
_MENTION = pa.struct([("text", pa.string()), ("start", _TIME), ("end", _TIME)])
_SOURCE_TYPES = {"span_start": pa.int64(), "span_end": pa.int64(), "said_at": _TIME}
_SOURCE = pa.struct([(f.name, _SOURCE_TYPES.get(f.name, pa.string())) for f in fields(Source)])

SCHEMA = pa.schema(
    [
        ("epoch", pa.int64()),
        ("seq", pa.int64()),
        ("op", pa.string()),
        ("op_id", pa.string()),
        ("principal", pa.string()),
        ("digest", pa.string()),
        ("memory_id", pa.string()),
        ("version", pa.int32()),
        ("text", pa.string()),
        ("kind", pa.string()),
        ("valid_from", _TIME),
        ("valid_to", _TIME),
        ("recorded_at", _TIME),
        ("created_at", _TIME),
        ("expires_at", _TIME),
        ("status", pa.string()),
        ("entities", pa.list_(pa.string())),
        ("links", pa.list_(_LINK)),
        ("times", pa.list_(_MENTION)),
        ("sources", pa.list_(_SOURCE)),
        ("metadata", pa.string()),  # JSON
        ("payload", pa.string()),  # JSON
    ],
    metadata={SCHEMA_VERSION_KEY: str(SCHEMA_VERSION).encode()},
)


to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def rows_to_table(rows: Sequence[JournalRow]) -> pa.Table:
    """Rows -> an Arrow table with `SCHEMA`. Raises `UnicodeEncodeError` for lone surrogates (callers check)."""
    columns: dict[str, list[Any]] = {name: [getattr(r, name) for r in rows] for name in SCHEMA.names}
    columns["links"] = [
        [{"type": x.type, "target": x.target, "weight": x.weight} for x in r.links] for r in rows
    ]
    columns["times"] = [[{"text": x.text, "start": x.start, "end": x.end} for x in r.times] for r in rows]
    columns["sources"] = [[{n: getattr(x, n) for n in _SOURCE_FIELDS} for x in r.sources] for r in rows]
    columns["metadata"] = [to_json(r.metadata) if r.metadata else None for r in rows]
    columns["payload"] = [to_json(r.payload) if r.payload else None for r in rows]
    return pa.table([pa.array(columns[f.name], f.type) for f in SCHEMA], schema=SCHEMA)


_SOURCE_FIELDS = tuple(f.name for f in fields(Source))
