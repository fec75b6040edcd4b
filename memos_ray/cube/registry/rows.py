"""Records as the rows of a registry table and back. A table holds one row for each change; the highest revision counts.

`grants` is a text, a JSON list of [principal, role], "" for none: Lance reads and commits each column at a price.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from memos_ray.cube.registry.records import CubeRecord, Grant

SCHEMA_VERSION = 1
SCHEMA_VERSION_KEY = b"memos_ray.registry"
SCHEMA = pa.schema(
    [
        ("cube_id", pa.string()),
        ("incarnation", pa.string()),
        ("embedder", pa.string()),
        ("state", pa.string()),
        ("created_at", pa.timestamp("us", tz="UTC")),
        ("revision", pa.int64()),
        ("owner", pa.string()),
        ("grants", pa.string()),
    ],
    metadata={SCHEMA_VERSION_KEY: str(SCHEMA_VERSION).encode()},
)


def first_rows() -> pa.Table:
    """What a new table is made of: one row that is no cube's (no id is empty), for the first change to replace."""
    row = {**dict.fromkeys(SCHEMA.names, ""), "created_at": None, "revision": 0}
    return pa.Table.from_pylist([row], schema=SCHEMA)


def to_rows(records: Sequence[CubeRecord]) -> pa.Table:
    """A row a record, in their order."""
    columns: dict[str, list[Any]] = {
        name: [getattr(record, name) for record in records] for name in SCHEMA.names if name != "grants"
    }
    columns["grants"] = [grants_text(record.grants) for record in records]
    return pa.table(columns, schema=SCHEMA)


def to_records(rows: pa.Table) -> list[CubeRecord]:
    """The inverse of `to_rows`; leaves out the row that is no cube's."""
    return [_record(row) for row in rows.to_pylist() if row["cube_id"]]


def _record(row: dict[str, Any]) -> CubeRecord:
    row["created_at"] = row["created_at"].replace(tzinfo=UTC)
    row["grants"] = grants_of(row["grants"])
    return CubeRecord(**row)


def grants_text(grants: tuple[Grant, ...]) -> str:
    """Grants as they are stored."""
    if not grants:
        return ""
    return json.dumps([[g.principal, g.role] for g in grants], ensure_ascii=False, separators=(",", ":"))


def grants_of(text: str) -> tuple[Grant, ...]:
    """The inverse of `grants_text`."""
    return tuple(Grant(principal, role) for principal, role in json.loads(text)) if text else ()


def principal_needle(principal: str) -> str:
    """What `grants_text` holds if, and only if, there is a grant to the principal: inside its JSON strings no quotation
    mark stands without a backslash."""
    return f"[{json.dumps(principal, ensure_ascii=False)},"


def folded(rows: pa.Table) -> pa.Table:
    """The row of the highest revision of every cube, by id (UTF-8 bytes have the order of code points)."""
    if not _in_order(rows):
        order = pc.sort_indices(rows, [("cube_id", "ascending"), ("revision", "descending")])
        rows = rows.take(order)
        ids = rows["cube_id"].combine_chunks()
        if len(ids) > 1:
            first = pc.not_equal(ids[1:], ids[:-1])
            rows = rows.filter(pa.concat_arrays([pa.array([True]), first]))
    return rows.slice(1) if len(rows) and rows["cube_id"][0].as_py() == "" else rows


def _in_order(rows: pa.Table) -> bool:
    ids = rows["cube_id"].combine_chunks()
    return len(ids) < 2 or bool(pc.all(pc.less(ids[:-1], ids[1:])).as_py())
