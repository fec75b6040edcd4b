"""Order within sessions: which message came before and after which, under any view.

A memory has one slot per version, and a view shows at most one of them. So "the message before" is asked of
memories, and answered with the slot that the view shows. Knows ids and slots, no texts and no times.
"""

from __future__ import annotations

from array import array

import numpy as np

from memos_ray.retrieval.arrays import Mask, Saved, Slots, array_of, fit_mask, strings

_NONE = -1
_COLUMNS = ("newest", "before", "after", "memory", "older", "previous")


class SessionOrder:
    """Previous and next of every memory, kept up as versions appear. Call `add` once per slot, ascending."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # memory ids
        self._newest: list[int] = []  # memory -> its last slot
        self._before: list[int] = []  # memory -> memory
        self._after: list[int] = []
        # By slot. Arrays of machine integers that numpy reads in place, and that take an append in 50 ns.
        self._memory = array("q")
        self._older = array("q")  # the slot of the version before
        self._previous = array("q")  # the newest slot of the memory before

    def __len__(self) -> int:
        """One more than the highest slot."""
        return len(self._memory)

    def saved(self) -> Saved:
        """What `restored` takes: copies."""
        found: Saved = {name: np.array(getattr(self, f"_{name}"), np.int64) for name in _COLUMNS}
        return {**found, "ids": list(self._numbers)}

    @classmethod
    def restored(cls, saved: Saved) -> SessionOrder:
        """The order that was `saved`. `KeyError`, `TypeError` or `ValueError` for what is none."""
        this = cls()
        for name in _COLUMNS:
            column, values = getattr(this, f"_{name}"), array_of(saved, name, np.int64)
            if isinstance(column, array):
                column.frombytes(values.tobytes())
            else:
                column += values.tolist()
        ids = strings(saved, "ids")
        this._numbers = dict(zip(ids, range(len(this._newest)), strict=True))
        return this

    def add(self, slot: int, memory_id: str, follows: str | None = None) -> None:
        """`slot` is a version of `memory_id`, which comes after the memory `follows`."""
        while len(self._memory) <= slot:
            self._memory.append(_NONE)
            self._older.append(_NONE)
            self._previous.append(_NONE)
        memory = self._number(memory_id)
        self._memory[slot] = memory
        self._older[slot] = self._newest[memory]
        self._newest[memory] = slot
        if follows is not None and follows != memory_id:
            before = self._number(follows)
            self._before[memory] = before
            self._after[before] = memory
        if (before := self._before[memory]) != _NONE:
            self._previous[slot] = self._newest[before]
        if (after := self._after[memory]) != _NONE:
            later = self._newest[after]
            while later != _NONE:
                self._previous[later] = slot
                later = self._older[later]

    def place(self, slot: int) -> int:
        """The number of the memory at `slot`: memories that came to be later have higher ones."""
        return self._memory[slot]

    def around(self, slot: int, mask: Mask, reach: int) -> list[int]:
        """Up to `reach` slots under `mask` before and after that at `slot`, in order of time, without it."""
        before: list[int] = []
        after: list[int] = []
        for way, found in ((self._before, before), (self._after, after)):
            at: int | None = slot
            while len(found) < reach and at is not None and (at := self._shown(way, at, mask)) is not None:
                found.append(at)
        return [*reversed(before), *after]

    def previous(self, mask: Mask) -> Slots:
        """(len(self),) for every slot under `mask` the slot under it that came before, or -1.

        Entries of slots that `mask` hides mean nothing.
        """
        if not len(self):
            return np.empty(0, np.intp)
        mask = fit_mask(mask, len(self))
        result = np.frombuffer(self._previous, np.int64).astype(np.intp)
        hidden = np.flatnonzero(~mask.take(result, mode="wrap") & (result >= 0))
        older = np.frombuffer(self._older, np.int64)
        while len(hidden):  # as often as the most edited message was edited
            at = older[result[hidden]]
            result[hidden] = at
            hidden = hidden[(at >= 0) & ~mask[at]]
        return result

    def _number(self, memory_id: str) -> int:
        number = self._numbers.setdefault(memory_id, len(self._newest))
        if number == len(self._newest):
            self._newest.append(_NONE)
            self._before.append(_NONE)
            self._after.append(_NONE)
        return number

    def _shown(self, way: list[int], slot: int, mask: Mask) -> int | None:
        memory = self._memory[slot] if slot < len(self) else _NONE
        other = way[memory] if memory != _NONE else _NONE
        at = self._newest[other] if other != _NONE else _NONE
        while at != _NONE and not (at < len(mask) and mask[at]):
            at = self._older[at]
        return at if at != _NONE else None
