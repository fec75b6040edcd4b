"""Rows of one operation -> its answer. The answer to a repeated call is made from the same rows, so it is the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast, get_args

from memos_ray.cube.requests import EventName, SnapshotResult, WriteEvent, WriteResult
from memos_ray.cube.rows import JournalRow, Op

UNCHANGED = "none"  # of a noop row's payload: [position among the events, memory id, version], ascending
EVENT = "event"  # of a row's payload: the event's name where the op does not say it
ALONG = "SUPERSEDE"  # the event of memories that changed along with a draft; these come last
_EVENT_OF = {
    Op.ADD: "ADD", Op.UPDATE: "UPDATE", Op.DELETE: "DELETE", Op.ARCHIVE: "ARCHIVE", Op.RESTORE: "RESTORE",
    Op.MERGE: "MERGE",
}  # fmt: skip
_NAMES = frozenset(get_args(EventName))


def result_of(rows: Sequence[JournalRow], text_of: Callable[[str, int], str]) -> WriteResult | SnapshotResult:
    """The answer that these stamped rows, all those of one operation, stand for.

    `text_of(memory_id, version)` gives the text of memories that the operation found unchanged.
    """
    first = rows[0]
    if first.op is Op.SNAPSHOT:
        return SnapshotResult(first.op_id, str(first.payload["name"]), first.seq, first.recorded_at)
    changed = [_event(row) for row in rows if row.memory_id is not None]
    events = [e for e in changed if e.event != ALONG]
    for row in rows:
        if row.op is Op.NOOP:
            for position, memory_id, version in _unchanged(row.payload):
                events.insert(position, WriteEvent(memory_id, "NONE", version, text_of(memory_id, version)))
    return WriteResult(first.op_id, (*events, *(e for e in changed if e.event == ALONG)))


def _event(row: JournalRow) -> WriteEvent:
    assert row.memory_id is not None
    name = str(row.payload.get(EVENT) or _EVENT_OF[row.op])
    assert name in _NAMES
    return WriteEvent(row.memory_id, cast(EventName, name), row.version, row.text)


def _unchanged(payload: Mapping[str, Any]) -> list[tuple[int, str, int]]:
    return [(int(p), str(m), int(v)) for p, m, v in payload.get(UNCHANGED, ())]
