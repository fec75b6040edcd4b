"""What is planned but not committed: a layer over the state, in which later requests of a group see earlier ones.

Two layers are in use: the group's, and on top of it that of the request being planned, which is dropped if the
request turns out to be refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from memos_ray.cube.indexes import Hints, Indexes, add_hint
from memos_ray.cube.keys import KEY_FIELD, Key, delivery_key, holder_key, same_text_key, session_key
from memos_ray.cube.rows import JournalRow, Op
from memos_ray.cube.state import CubeState, resolve
from memos_ray.types import Kind, Source, Status

_HINTS = ("_same_text", "_deliveries", "_sessions", "_holders")


class Draft:
    """Rows planned so far, and look-ups that see them. `below` is the layer under this one."""

    def __init__(self, state: CubeState, indexes: Indexes, below: Draft | None = None) -> None:
        self._state, self._indexes, self._below = state, indexes, below
        self.rows: list[JournalRow] = []
        self.touched: dict[str, JournalRow] = {}
        self.operations: dict[tuple[str, str], str] = {}  # -> digest
        self.snapshots: dict[str, int] = {}  # name -> how many rows of this layer it holds
        self._same_text, self._deliveries, self._sessions, self._holders = Hints(), Hints(), Hints(), Hints()

    def emit(self, row: JournalRow) -> None:
        """Plans a row."""
        if row.op is Op.SNAPSHOT:
            self.snapshots[str(row.payload["name"])] = len(self.rows)
        self.rows.append(row)
        memory_id = row.memory_id
        if memory_id is None:
            return
        self.touched[memory_id] = row
        if not row.text:
            return
        source = row.sources[0] if row.sources else Source()
        if row.kind is Kind.MESSAGE:
            add_hint(self._deliveries, delivery_key(source, row.metadata), memory_id)
            if row.version == 1:
                add_hint(self._sessions, session_key(source, row.metadata), memory_id)
        add_hint(self._same_text, same_text_key(row.kind, row.text, row.valid_from, row.metadata), memory_id)
        add_hint(self._holders, holder_key(row.payload.get(KEY_FIELD), row.metadata), memory_id)

    def absorb(self, request: Draft) -> None:
        """Takes over what a request's layer, on top of this one, planned."""
        self.snapshots.update((name, len(self.rows) + at) for name, at in request.snapshots.items())
        self.rows += request.rows
        self.touched.update(request.touched)
        self.operations.update(request.operations)
        for name in _HINTS:
            own: Hints = getattr(self, name)
            for key, ids in getattr(request, name).items():
                own.setdefault(key, []).extend(ids)

    def newest(self, memory_id: str) -> JournalRow | None:
        """The newest row of a memory, planned or committed."""
        row = self.touched.get(memory_id)
        if row is not None:
            return row
        return self._below.newest(memory_id) if self._below else self._state.newest(memory_id)

    def resolve(self, memory_id: str) -> str:
        """Follows merges; `NotFound` for an unknown id."""
        return resolve(self.newest, memory_id)

    def all_touched(self) -> dict[str, JournalRow]:
        """The newest planned row of every memory that has one."""
        return {**self._below.all_touched(), **self.touched} if self._below else dict(self.touched)

    def same_text(self, key: Key | None) -> Iterator[JournalRow]:
        """Newest rows of memories that may have this `same_text_key`, latest first."""
        return self._newest_of("_same_text", "same_text", key)

    def deliveries(self, key: Key | None) -> Iterator[JournalRow]:
        """The same for a `delivery_key`."""
        return self._newest_of("_deliveries", "deliveries", key)

    def session(self, key: Key | None) -> Iterator[JournalRow]:
        """The same for a `session_key`: its messages, latest first."""
        return self._newest_of("_sessions", "sessions", key)

    def holders(self, key: Key | None) -> Iterator[JournalRow]:
        """The same for a `holder_key`."""
        return self._newest_of("_holders", "holders", key)

    def _newest_of(self, own: str, below: str, key: Key | None) -> Iterator[JournalRow]:
        if key is None:
            return
        seen: set[str] = set()
        for memory_id in self._ids(own, below, key):
            if memory_id in seen:
                continue
            seen.add(memory_id)
            row = self.newest(memory_id)
            if row is not None and row.status not in (Status.DELETED, Status.MERGED):
                yield row

    def _ids(self, own: str, below: str, key: Key) -> Iterator[str]:
        yield from reversed(getattr(self, own).get(key, ()))
        if self._below:
            yield from self._below._ids(own, below, key)
        else:
            yield from reversed(getattr(self._indexes, below).get(key, ()))

    def planned_before(self, name: str) -> dict[str, JournalRow] | None:
        """For a snapshot planned in this group: the newest row by then of every memory the group had touched."""
        if name not in self.snapshots:
            return self._below.planned_before(name) if self._below else None
        return {r.memory_id: r for r in self.rows[: self.snapshots[name]] if r.memory_id is not None}

    def planned_digest(self, principal: str, op_id: str) -> str | None:
        """The digest of an operation planned in this group."""
        found = self.operations.get((principal, op_id))
        return self._below.planned_digest(principal, op_id) if found is None and self._below else found
