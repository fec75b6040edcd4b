"""What the planner looks things up in: hints from keys to memories, built when first asked for.

An entry is a hint, never removed: the memory named may have changed since, so whoever looks up checks the
newest row. That is what makes it cheap to keep a draft of a group on top (see `draft`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from functools import cached_property

import numpy as np
import pyarrow as pa

from memos_ray.cube.keys import KEY_FIELD, Key, delivery_key, holder_key, same_text_key, scope_of, session_key
from memos_ray.cube.rows import JournalRow, Op
from memos_ray.cube.rowstore import KINDS, OPS, from_us
from memos_ray.cube.state import KIND_CODE, CubeState
from memos_ray.types import Kind, Source

Hints = dict[Hashable, list[str]]
_SOURCE_KEYS = ("conversation", "session", "turn", "speaker", "role")
_MESSAGE = KIND_CODE[Kind.MESSAGE]


def add_hint(hints: Hints, key: Key | None, memory_id: str) -> None:
    """Notes that `memory_id` has (had) `key`."""
    if key is None:
        return
    ids = hints.setdefault(key, [])
    if not ids or ids[-1] != memory_id:
        ids.append(memory_id)


class Indexes:
    """Hints over everything that was applied. `warm` builds them all; `update` keeps the built ones current."""

    def __init__(self, state: CubeState) -> None:
        self._state = state

    def warm(self) -> None:
        """Builds all indexes now (100k rows: some 0.5 s), so that the first write need not."""
        _ = self.operations, self.same_text, self.deliveries, self.holders

    def update(self, first_row: int) -> None:
        """Takes in the rows appended from number `first_row` on."""
        built = self.__dict__
        for r, row in self._state.store.since(first_row):
            if row.op_id and "operations" in built:
                self.operations.setdefault((row.principal, row.op_id), r)
            if row.memory_id is None or not row.text:
                continue
            if "same_text" in built:
                add_hint(
                    self.same_text,
                    same_text_key(row.kind, row.text, row.valid_from, row.metadata),
                    row.memory_id,
                )
            if "_messages" in built and row.kind is Kind.MESSAGE:
                _note_message(self._messages, row)
            if "holders" in built:
                add_hint(self.holders, holder_key(row.payload.get(KEY_FIELD), row.metadata), row.memory_id)

    @cached_property
    def operations(self) -> dict[tuple[str, str], int]:
        """(principal, op_id) -> the number of the operation's first row; its other rows follow that one."""
        store = self._state.store
        rows = np.flatnonzero(~np.isin(store.op, [OPS.index(Op.CLAIM), OPS.index(Op.OPEN)]))
        names = zip(store.take("principal", rows), store.take("op_id", rows), strict=True)
        found = dict(
            zip(list(names)[::-1], rows.tolist()[::-1], strict=True)
        )  # reversed: the first one stays
        for r, row in store.since(0):
            found.setdefault((row.principal, row.op_id), r)
        return found

    @cached_property
    def same_text(self) -> Hints:
        """Key of kind, text and start -> memories; messages are left out."""
        state, hints = self._state, Hints()
        slots = np.flatnonzero(state.slot_kind.view != _MESSAGE)
        for slot, text, metadata in zip(
            slots.tolist(), state.texts(slots), self._metadata(slots), strict=True
        ):
            valid_from = from_us(int(state.slot_valid_from.view[slot]))
            assert valid_from is not None
            key = same_text_key(KINDS[state.slot_kind.view[slot]], text, valid_from, metadata)
            add_hint(hints, key, state.ids[state.slot_memory.view[slot]])
        return hints

    @property
    def deliveries(self) -> Hints:
        """Key of conversation, session, turn and speaker -> the messages delivered as such."""
        return self._messages[0]

    @property
    def sessions(self) -> Hints:
        """Key of conversation and session -> its messages, oldest first."""
        return self._messages[1]

    @cached_property
    def _messages(self) -> tuple[Hints, Hints]:
        state, store = self._state, self._state.store
        deliveries, sessions = Hints(), Hints()
        slots = np.flatnonzero((state.slot_kind.view == _MESSAGE) & (state.slot_row.view < store.base))
        rows = state.slot_row.view[slots]
        offsets, flat = store.spans("sources")
        named = offsets[rows + 1] > offsets[rows]
        slots, first = slots[named], pa.array(offsets[rows[named]])
        columns = [flat.field(k).take(first).to_numpy(zero_copy_only=False).tolist() for k in _SOURCE_KEYS]
        memories = state.slot_memory.view[slots].tolist()
        versions = state.slot_version.view[slots].tolist()
        for m, version, metadata, *values in zip(
            memories, versions, self._metadata(slots), *columns, strict=True
        ):
            conversation, session, turn, speaker, role = values
            scope, memory_id = scope_of(metadata), state.ids[m]
            if turn:
                add_hint(deliveries, (conversation, session, turn, speaker or role, scope), memory_id)
            if version == 1 and (conversation is not None or session is not None):
                add_hint(sessions, (conversation, session, scope), memory_id)
        hints = deliveries, sessions
        for _, row in store.since(0):
            if row.memory_id is not None and row.text and row.kind is Kind.MESSAGE:
                _note_message(hints, row)
        return hints

    @cached_property
    def holders(self) -> Hints:
        """(subject, relation) -> the functional triples that say something of it."""
        store, hints = self._state.store, Hints()
        for r, payload in store.payloads():
            if KEY_FIELD in payload:
                row = store.row(r)
                if row.memory_id is not None:
                    add_hint(hints, holder_key(payload[KEY_FIELD], row.metadata), row.memory_id)
        for _, row in store.since(0):
            if row.memory_id is not None and row.text:
                add_hint(hints, holder_key(row.payload.get(KEY_FIELD), row.metadata), row.memory_id)
        return hints

    def _metadata(self, slots: np.typing.NDArray[np.int64]) -> Iterable[dict[str, object]]:
        store = self._state.store
        numbers, distinct = store.metadata()
        for r in self._state.slot_row.view[slots].tolist():
            yield distinct[numbers[r]] if r < store.base else dict(store.appended[r - store.base].metadata)


def _note_message(hints: tuple[Hints, Hints], row: JournalRow) -> None:
    source = row.sources[0] if row.sources else Source()
    assert row.memory_id is not None
    add_hint(hints[0], delivery_key(source, row.metadata), row.memory_id)
    key = session_key(source, row.metadata)
    # an edit comes after other messages of its session, but the message keeps its place
    if key is not None and row.version == 1:
        add_hint(hints[1], key, row.memory_id)
