"""What retrieval's signals want to know of a slot beside its vectors: made when first asked for, then kept.

A search asks for its candidates only, so an activation costs nothing here.
"""

from __future__ import annotations

import numpy as np

from memos_ray.cube.columns import to_us
from memos_ray.cube.state import CubeState
from memos_ray.retrieval.arrays import Slots
from memos_ray.retrieval.pool import Facts
from memos_ray.retrieval.question import Span
from memos_ray.retrieval.traits import TRAITS, traits
from memos_ray.types import Kind, MemoryItem

_SESSION_FIELDS = ("session", "conversation", "document")


class SlotFacts:
    """`Facts` of slots of one state."""

    def __init__(self, state: CubeState) -> None:
        self._state = state
        self._known = np.zeros(0, np.bool_)
        self._said_at = np.zeros(0, np.int64)
        self._traits = np.zeros((0, len(TRAITS)), np.float32)
        self._message = np.zeros(0, np.bool_)
        self._mentions: dict[int, tuple[Span, ...]] = {}  # of the few that tell of a time

    def of(self, slots: Slots) -> Facts:
        """The facts of `slots`, in their order."""
        self._grow(self._state.n_slots)
        missing = np.unique(slots[~self._known[slots]])
        if len(missing):
            for slot, item in zip(missing.tolist(), self._state.items(missing.tolist()), strict=True):
                self._note(slot, item)
        return Facts(
            said_at=self._said_at[slots],
            traits=self._traits[slots],
            session=self._sessions(slots),
            mentions=tuple(self._mentions.get(slot, ()) for slot in slots.tolist()),
            message=self._message[slots],
        )

    def _note(self, slot: int, item: MemoryItem) -> None:
        self._known[slot] = True
        self._said_at[slot] = to_us(item.source.said_at or item.valid_from)
        if item.times:
            self._mentions[slot] = tuple((to_us(t.start), to_us(t.end)) for t in item.times)
        if item.kind is Kind.MESSAGE:
            self._message[slot] = True
            self._traits[slot] = traits(item.text)

    def _sessions(self, slots: Slots) -> np.typing.NDArray[np.int64]:
        """One number for each session of a conversation, or document; -1 for what is in neither."""
        number = np.zeros(len(slots), np.int64)
        named = np.zeros(len(slots), np.bool_)
        for field in _SESSION_FIELDS:
            column = self._state.fields.column(field)
            codes = column.codes.view[slots]
            number = number * (len(column.cells) + 1) + codes
            filled = np.array([bool(values) for _, values in column.cells], np.bool_)
            named |= filled[codes]
        return np.where(named, number, -1)

    def _grow(self, size: int) -> None:
        if size <= len(self._known):
            return
        size = max(size, 2 * len(self._known), 64)
        for name in ("_known", "_said_at", "_traits", "_message"):
            old = getattr(self, name)
            grown = np.zeros((size, *old.shape[1:]), old.dtype)
            grown[: len(old)] = old
            setattr(self, name, grown)
