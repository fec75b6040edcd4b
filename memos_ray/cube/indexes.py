"""What the planner looks things up in: hints from keys to memories, built when first asked for.

An entry is a hint, never removed: the memory named may have changed since, so whoever looks up checks the
newest row. That is what makes it cheap to keep a draft of a group on top (see `draft`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memos_ray.cube.keys import KEY_FIELD, Key, delivery_key, holder_key, same_text_key, scope_of, session_key
from memos_ray.cube.rows import JournalRow, Op
from memos_ray.cube.rowstore import KINDS, OPS, from_us
from memos_ray.cube.state import KIND_CODE, CubeState
from memos_ray.types import Kind, Source

T = TypeVar("T")
Hints = dict[Hashable, list[str]]
Operations = dict[tuple[str, str], int]
_SOURCE_KEYS = ("conversation", "session", "turn", "speaker", "role")
_MESSAGE = KIND_CODE[Kind.MESSAGE]


def add_hint(hints: Hints, key: Key | None, memory_id: str) -> None:
    """Notes that `memory_id` has (had) `key`."""
    if key is None:
        return
    ids = hints.setdefault(key, [])
    if not ids or ids[-1] != memory_id:
        ids.append(memory_id)


@dataclass(frozen=True, slots=True)
class LoadedHints:
    """What `Indexes` says of the rows of the loaded table."""

    operations: Operations
    same_text: Hints
    messages: tuple[Hints, Hints]
    holders: Hints


class Indexes:
    """Hints over everything that was applied. `warm` builds them all; `update` keeps the built ones current."""

    def __init__(self, state: CubeState) -> None:
        self._state = state

    def warm(self) -> None:
        """Builds all indexes now (100k rows: some 0.5 s), so that the first write need not."""
        _ = self.operations, self.same_text, self.deliveries, self.holders

    def loaded(self) -> LoadedHints:
        """What takes long in `warm`. May run in a thread, beside everything else."""
        return LoadedHints(
            self._loaded_operations(), self._loaded_texts(), self._loaded_messages(), self._loaded_holders()
        )

    def take(self, loaded: LoadedHints) -> None:
        """Takes over what `loaded` returned, as far as it was not asked for meanwhile."""
        built = self.__dict__
        if "operations" not in built:
            built["operations"] = self._with_appended(loaded.operations, _note_operation)
        if "same_text" not in built:
            built["same_text"] = self._with_appended(loaded.same_text, _note_text)
        if "_messages" not in built:
            built["_messages"] = self._with_appended(loaded.messages, _note_message)
        if "holders" not in built:
            built["holders"] = self._with_appended(loaded.holders, _note_holder)

    def update(self, first_row: int) -> None:
        """Takes in the rows appended from number `first_row` on."""
        built = self.__dict__
        for r, row in self._state.store.since(first_row):
            if "operations" in built:
                _note_operation(self.operations, r, row)
            if "same_text" in built:
                _note_text(self.same_text, r, row)
            if "_messages" in built:
                _note_message(self._messages, r, row)
            if "holders" in built:
                _note_holder(self.holders, r, row)

    @cached_property
    def operations(self) -> Operations:
        """(principal, op_id) -> the number of the operation's first row; its other rows follow that one."""
        return self._with_appended(self._loaded_operations(), _note_operation)

    @cached_property
    def same_text(self) -> Hints:
        """Key of kind, text and start -> memories; messages are left out."""
        return self._with_appended(self._loaded_texts(), _note_text)

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
        return self._with_appended(self._loaded_messages(), _note_message)

    @cached_property
    def holders(self) -> Hints:
        """(subject, relation) -> the functional triples that say something of it."""
        return self._with_appended(self._loaded_holders(), _note_holder)

    def _with_appended(self, found: T, note: Callable[[T, int, JournalRow], None]) -> T:
        for r, row in self._state.store.since(0):
            note(found, r, row)
        return found

    # -- the loaded table, by column --------------------------------------------------------------------------

    def _loaded_slots(self) -> NDArray[np.intp]:
        rows = self._state.slot_row.view
        return np.arange(int(np.searchsorted(rows, self._state.store.base)))

    def _loaded_operations(self) -> Operations:
        store = self._state.store
        rows = np.flatnonzero(~np.isin(store.op, [OPS.index(Op.CLAIM), OPS.index(Op.OPEN)]))
        names = zip(store.take("principal", rows), store.take("op_id", rows), strict=True)
        # reversed: the first one stays
        return dict(zip(list(names)[::-1], rows.tolist()[::-1], strict=True))

    def _loaded_texts(self) -> Hints:
        state, hints, slots = self._state, Hints(), self._loaded_slots()
        slots = slots[state.slot_kind.view[slots] != _MESSAGE]
        for slot, text, metadata in zip(
            slots.tolist(), state.texts(slots), self._metadata(slots), strict=True
        ):
            valid_from = from_us(int(state.slot_valid_from.view[slot]))
            assert valid_from is not None
            key = same_text_key(KINDS[state.slot_kind.view[slot]], text, valid_from, metadata)
            add_hint(hints, key, state.ids[state.slot_memory.view[slot]])
        return hints

    def _loaded_messages(self) -> tuple[Hints, Hints]:
        state, store = self._state, self._state.store
        deliveries, sessions = Hints(), Hints()
        slots = self._loaded_slots()
        slots = slots[state.slot_kind.view[slots] == _MESSAGE]
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
        return deliveries, sessions

    def _loaded_holders(self) -> Hints:
        store, hints = self._state.store, Hints()
        for r, payload in store.payloads():
            if KEY_FIELD in payload:
                row = store.row(r)
                if row.memory_id is not None:
                    add_hint(hints, holder_key(payload[KEY_FIELD], row.metadata), row.memory_id)
        return hints

    def _metadata(self, slots: NDArray[np.intp]) -> Iterable[dict[str, object]]:
        numbers, distinct = self._state.store.metadata()
        for r in self._state.slot_row.view[slots].tolist():
            yield distinct[numbers[r]]


def _note_operation(operations: Operations, r: int, row: JournalRow) -> None:
    if row.op_id:
        operations.setdefault((row.principal, row.op_id), r)


def _note_text(hints: Hints, _: int, row: JournalRow) -> None:
    if row.memory_id is not None and row.text:
        key = same_text_key(row.kind, row.text, row.valid_from, row.metadata)
        add_hint(hints, key, row.memory_id)


def _note_message(hints: tuple[Hints, Hints], _: int, row: JournalRow) -> None:
    if row.memory_id is None or not row.text or row.kind is not Kind.MESSAGE:
        return
    source = row.sources[0] if row.sources else Source()
    add_hint(hints[0], delivery_key(source, row.metadata), row.memory_id)
    key = session_key(source, row.metadata)
    # an edit comes after other messages of its session, but the message keeps its place
    if key is not None and row.version == 1:
        add_hint(hints[1], key, row.memory_id)


def _note_holder(hints: Hints, _: int, row: JournalRow) -> None:
    if row.memory_id is not None and row.text:
        add_hint(hints, holder_key(row.payload.get(KEY_FIELD), row.metadata), row.memory_id)
