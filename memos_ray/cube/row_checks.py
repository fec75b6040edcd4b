"""Whether a cube can be made of a table of rows that came from outside.

The journal trusts its own rows; those of a file, or of another process, are checked here before they become an
incarnation that no process could ever activate. Knows rows and the fold, not where the rows came from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memos_ray.cube.columns import one_chunk
from memos_ray.cube.indexes import Indexes
from memos_ray.cube.packing import PACKED, readable
from memos_ray.cube.results import result_of
from memos_ray.cube.rows import SCHEMA, JournalRow, Op
from memos_ray.cube.rowstore import KINDS, OPS, STATUSES
from memos_ray.cube.scribe import INTO
from memos_ray.cube.state import CubeState, resolve
from memos_ray.errors import Corrupt, MemosError
from memos_ray.types import Status

_NEVER_NULL = (
    "epoch", "seq", "op", "op_id", "principal", "digest", "version", "text", "kind", "valid_from", "recorded_at",
    "status",
)  # fmt: skip
_NAMED = {"op": OPS, "kind": KINDS, "status": STATUSES}
_ABOUT_MEMORIES = tuple(op.value for op in (Op.ADD, Op.UPDATE, Op.DELETE, Op.ARCHIVE, Op.RESTORE, Op.MERGE))
_OF_OWNERS = (Op.CLAIM, Op.OPEN)
_AT_ONCE = 10_000  # rows decoded together


def check_rows(table: pa.Table, path: str = "") -> None:
    """Raises `Corrupt`, saying what is wrong, unless the rows fold, decode and answer like a cube's own.

    They may be in either form, stored or readable. `path` says in the error where they came from. Some 60 µs a
    row: call it in a thread.
    """
    where = path or "the table"
    try:
        table.validate(full=True)
        if PACKED in table.column_names:
            table = readable(table)
        problem = next(_problems(table), None)
        if problem is None:
            _fold(table)
    except (
        MemosError, pa.ArrowException, AssertionError, AttributeError, ArithmeticError, LookupError, RecursionError,
        TypeError, ValueError,
    ) as error:  # fmt: skip
        raise Corrupt(f"{where}: its rows cannot be read: {error!r}", path=path) from error
    if problem is not None:
        raise Corrupt(f"{where}: {problem}", path=path)


def _problems(table: pa.Table) -> Iterator[str]:
    """What can be told by column, before anything is decoded."""
    if not table.schema.equals(SCHEMA, check_metadata=False):
        yield "it does not have the journal's columns"
        return
    columns = {name: one_chunk(table.column(name)) for name in SCHEMA.names}
    for name in _NEVER_NULL:
        if columns[name].null_count:
            yield f"{columns[name].null_count} rows have no {name}"
    for name, known in _NAMED.items():
        values = pc.unique(columns[name])
        unknown = values.filter(pc.invert(pc.is_in(values, pa.array([k.value for k in known])))).to_pylist()
        if unknown:
            yield f"unknown {name} {unknown[:3]!r}"
    seq = columns["seq"].to_numpy(zero_copy_only=False)
    if len(seq) and (seq[0] < 1 or (np.diff(seq) < 1).any()):
        yield "seq does not grow from row to row, from 1 or more"
    about = pc.is_in(columns["op"], pa.array(_ABOUT_MEMORIES)).to_numpy(zero_copy_only=False)
    named = columns["memory_id"].is_valid().to_numpy(zero_copy_only=False)
    if (about != named).any():
        yield f"row {int(np.flatnonzero(about != named)[0])} has a memory_id where its op has none, or the other way"
    if (columns["version"].to_numpy(zero_copy_only=False)[named] < 1).any():
        yield "a memory has a version below 1"
    for name in ("entities", "links", "times"):
        flat = columns[name].flatten()
        parts = flat.flatten() if pa.types.is_struct(flat.type) else [flat]
        if flat.null_count or any(part.null_count for part in parts):
            yield f"{name} holds an empty element"
    if columns["sources"].flatten().null_count:
        yield "sources holds an empty element"
    for name in ("metadata", "payload"):
        for text in pc.unique(columns[name].drop_null()).to_pylist():
            if text and not isinstance(json.loads(text), dict):
                yield f"{name} {text[:40]!r} is no JSON object"


def _fold(table: pa.Table) -> None:
    """Does with the rows what a cube does with its own: folds, decodes and indexes them, and answers from them."""
    state = CubeState.from_table("check", table)
    indexes = Indexes(state)
    indexes.warm()
    _ = indexes.sessions
    rows: list[JournalRow] = []
    for start in range(0, len(state.store), _AT_ONCE):
        rows += state.store.rows(range(start, min(start + _AT_ONCE, len(state.store))))
    for row in rows:
        if row.status is Status.MERGED and not isinstance(row.payload[INTO], str):
            raise TypeError(f"memory {row.memory_id} was merged into {row.payload[INTO]!r}")
    newest = {row.memory_id: row for row in rows if row.memory_id is not None}
    for memory_id, row in newest.items():
        if row.status is Status.MERGED:
            resolve(newest.get, memory_id)
    mine = (row for row in rows if row.op not in _OF_OWNERS)
    for _, operation in groupby(mine, key=lambda row: (row.principal, row.op_id)):
        result_of(list(operation), lambda _memory_id, _version: "")
