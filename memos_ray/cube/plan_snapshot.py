"""Snapshots: naming a state, and bringing it back by new versions. Nothing is taken from history."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from memos_ray.cube.requests import CreateSnapshot, RestoreSnapshot
from memos_ray.cube.rows import JournalRow, Op
from memos_ray.cube.scribe import INTO, Scribe
from memos_ray.cube.state import CubeState
from memos_ray.errors import Conflict, NotFound
from memos_ray.types import Status

_BOOKKEEPING = frozenset(
    {"op", "op_id", "principal", "digest", "version", "created_at", "payload", "epoch", "seq", "recorded_at"}
)
_CONTENT = tuple(f.name for f in fields(JournalRow) if f.name not in _BOOKKEEPING)
_PAYLOAD_OF_THE_STEP = frozenset({"event"})  # says how a version came about, not what it is


def create(request: CreateSnapshot, state: CubeState, scribe: Scribe) -> None:
    """A snapshot row: its seq is what the name stands for. `Conflict` if the name is taken."""
    if request.name in state.snapshots or scribe.draft.planned_before(request.name) is not None:
        raise Conflict(
            f"there is a snapshot named {request.name!r} already; choose another name", id=request.name
        )
    scribe.row(Op.SNAPSHOT, payload={"name": request.name})


def restore(request: RestoreSnapshot, state: CubeState, scribe: Scribe) -> None:
    """Brings every memory back to its state at the snapshot: later ones are deleted, deleted ones return."""
    for target, current in _differences(request.name, state, scribe):
        if target is None or target.status is Status.DELETED:
            if current.status is not Status.DELETED:
                scribe.hide(current, Op.DELETE, Status.DELETED)
        elif not _same(target, current):
            if target.status is Status.MERGED:
                scribe.hide(current, Op.MERGE, Status.MERGED, {INTO: target.payload[INTO]})
            else:
                _bring_back(target, current, scribe)


def _bring_back(target: JournalRow, current: JournalRow, scribe: Scribe) -> None:
    payload = {k: v for k, v in current.payload.items() if k not in target.payload}
    cleared = dict.fromkeys(payload)
    kept = {k: v for k, v in target.payload.items() if k not in _PAYLOAD_OF_THE_STEP}
    content = {name: getattr(target, name) for name in _CONTENT}
    scribe.version(current, Op.RESTORE, content, payload={**cleared, **kept})


def _differences(name: str, state: CubeState, scribe: Scribe) -> list[tuple[JournalRow | None, JournalRow]]:
    """(row at the snapshot or None, newest row) of every memory that changed since the snapshot."""
    planned = scribe.draft.planned_before(name)
    if planned is None:
        snapshot = state.snapshots.get(name)
        if snapshot is None:
            known = ", ".join(sorted(state.snapshots)) or "none"
            raise NotFound(
                f"there is no snapshot named {name!r}; there are: {known}", what="snapshot", id=name
            )
        seq = snapshot.seq
    else:
        seq = int(state.event_seq.view[-1]) if state.event_seq.size else 0
    prefix = int(np.searchsorted(state.event_seq.view, seq, side="right"))
    last = np.full(state.n_memories, -1)
    last[state.event_memory.view[:prefix]] = np.arange(prefix)
    changed = {state.ids[m]: None for m in state.event_memory.view[prefix:].tolist()}
    changed.update(dict.fromkeys(scribe.draft.all_touched()))
    out = []
    for memory_id in changed:
        m = state.number(memory_id)
        event = -1 if m is None else int(last[m])
        target = state.store.row(int(state.event_row.view[event])) if event >= 0 else None
        current = scribe.draft.newest(memory_id)
        assert current is not None
        out.append(((planned or {}).get(memory_id, target), current))
    return out


def _same(a: JournalRow, b: JournalRow) -> bool:
    if a.status is Status.MERGED and b.status is Status.MERGED:
        return bool(a.payload[INTO] == b.payload[INTO])
    if any(getattr(a, name) != getattr(b, name) for name in _CONTENT):
        return False
    relevant = [{k: v for k, v in r.payload.items() if k not in _PAYLOAD_OF_THE_STEP} for r in (a, b)]
    return relevant[0] == relevant[1]
