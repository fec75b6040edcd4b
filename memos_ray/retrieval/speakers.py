"""Who said what, by slot: to rank once more among what the speakers named in a query said.

As a ranking of its own rather than as a filter: what others say about somebody counts too, only less.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from memos_ray.retrieval.arrays import Mask
from memos_ray.retrieval.query import NameIndex


class SpeakerIndex:
    """The speaker of every slot, and their names as queries may hold them."""

    def __init__(self) -> None:
        self.names = NameIndex()
        self._numbers: dict[str, int] = {}
        self._speaker = np.zeros(64, np.int32)  # 0: nobody
        self._size = 0

    def add(self, slot: int, speaker: str | None) -> None:
        """`speaker` said what is at `slot`. Call once per slot that has a speaker."""
        if not speaker:
            return
        number = self._numbers.setdefault(speaker, len(self._numbers) + 1)
        if slot >= len(self._speaker):
            grown = np.zeros(2 * slot, np.int32)
            grown[: self._size] = self._speaker[: self._size]
            self._speaker = grown
        self._speaker[slot] = number
        self._size = max(self._size, slot + 1)
        if number == len(self._numbers):
            self.names.add(speaker)

    def spoken_by(self, speakers: Iterable[str]) -> Mask | None:
        """Which slots any of `speakers` said; None if these are all speakers there are, or none of them."""
        numbers = [n for s in speakers if (n := self._numbers.get(s)) is not None]
        if not numbers or len(numbers) == len(self._numbers):
            return None
        return np.isin(self._speaker[: self._size], numbers)
