"""Order within sessions: which message came before and after which, under any view.

Memories are numbered here by their ids; a memory has one slot per version, and a view shows at most one of
them. So "the message before" is asked of memories and answered with the slot that the view shows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memos_ray.retrieval.arrays import Mask, Slots

_NONE = -1


class _Numbers:
    """A growing array of integers, -1 where nothing was set."""

    def __init__(self) -> None:
        self._values: NDArray[np.intp] = np.full(64, _NONE, np.intp)
        self._size = 0

    def __getitem__(self, at: int) -> int:
        return int(self._values[at]) if at < self._size else _NONE

    def __setitem__(self, at: int, value: int) -> None:
        if at >= len(self._values):
            grown = np.full(2 * at, _NONE, np.intp)
            grown[: self._size] = self._values[: self._size]
            self._values = grown
        self._values[at] = value
        self._size = max(self._size, at + 1)

    def take(self, at: Slots) -> Slots:
        """Values at positions all of which are below the array's capacity."""
        return self._values[at]

    def reach(self, size: int) -> None:
        """Makes positions below `size` readable by `take`."""
        if size > self._size:
            self[size - 1] = _NONE


class SessionOrder:
    """previous/next of every memory, kept up as versions appear. Call `add` once per slot, in any order."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._versions: list[list[int]] = []  # memory -> its slots
        self._previous = _Numbers()  # memory -> the memory before
        self._next = _Numbers()
        self._memory = _Numbers()  # slot -> its memory
        self._size = 0

    def __len__(self) -> int:
        """One more than the highest slot."""
        return self._size

    def add(self, slot: int, memory_id: str, follows: str | None = None) -> None:
        """`slot` is a version of `memory_id`, which comes after the memory `follows`."""
        memory = self._number(memory_id)
        self._versions[memory].append(slot)
        self._memory[slot] = memory
        self._size = max(self._size, slot + 1)
        if follows is not None and follows != memory_id:
            before = self._number(follows)
            self._previous[memory] = before
            self._next[before] = memory

    def previous(self, slot: int, mask: Mask) -> int | None:
        """The slot under `mask` of the message before that at `slot`, or None."""
        return self._shown(self._previous, slot, mask)

    def next(self, slot: int, mask: Mask) -> int | None:
        """The slot under `mask` of the message after that at `slot`, or None."""
        return self._shown(self._next, slot, mask)

    def around(self, slot: int, mask: Mask, reach: int) -> list[int]:
        """Up to `reach` slots before and after the message at `slot`, in order of time, without itself."""
        before: list[int] = []
        after: list[int] = []
        for way, found in ((self._previous, before), (self._next, after)):
            at: int | None = slot
            while len(found) < reach and at is not None and (at := self._shown(way, at, mask)) is not None:
                found.append(at)
        return [*reversed(before), *after]

    def previous_of_all(self, mask: Mask) -> Slots:
        """(len(mask),) for every slot under `mask` the slot under it that came before, else -1."""
        shown = np.flatnonzero(mask[: self._size])
        memories = self._memory.take(shown)
        shown, memories = shown[memories >= 0], memories[memories >= 0]
        slot_of = np.full(len(self._versions) + 1, _NONE, np.intp)  # the one more is where -1 points
        slot_of[memories] = shown
        result = np.full(len(mask), _NONE, np.intp)
        result[shown] = slot_of[self._previous.take(memories)]
        return result

    def _number(self, memory_id: str) -> int:
        number = self._ids.setdefault(memory_id, len(self._versions))
        if number == len(self._versions):
            self._versions.append([])
            self._previous.reach(number + 1)
            self._next.reach(number + 1)
        return number

    def _shown(self, way: _Numbers, slot: int, mask: Mask) -> int | None:
        memory = self._memory[slot]
        other = way[memory] if memory != _NONE else _NONE
        if other == _NONE:
            return None
        return next((s for s in reversed(self._versions[other]) if s < len(mask) and mask[s]), None)
