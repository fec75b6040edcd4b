"""Who said what, by slot: to rank once more among what the speakers named in a query said.

As a ranking of its own rather than as a filter: what others say about somebody counts too, only less.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np

from memos_ray.retrieval.arrays import Mask
from memos_ray.retrieval.query import NameIndex


class SpeakerIndex:
    """The speaker of every slot; `names` finds them in queries."""

    def __init__(self) -> None:
        self.names = NameIndex()
        self._numbers: dict[str, int] = {}
        self._speaker = array("i")  # by slot; 0: nobody

    def add(self, slot: int, speaker: str) -> None:
        """`speaker` said what is at `slot`. Call once per slot that has a speaker."""
        while len(self._speaker) <= slot:
            self._speaker.append(0)
        number = self._numbers.get(speaker)
        if number is None:
            number = self._numbers[speaker] = len(self._numbers) + 1
            self.names.add(speaker)
        self._speaker[slot] = number

    def spoken_by(self, speakers: Iterable[str]) -> Mask | None:
        """Which slots any of `speakers` said; None if these are all speakers there are, or none of them."""
        numbers = [n for s in speakers if (n := self._numbers.get(s)) is not None]
        if not numbers or len(numbers) == len(self._numbers):
            return None
        speaker = np.frombuffer(self._speaker, np.intc)
        mask: Mask = speaker == numbers[0]
        for number in numbers[1:]:
            mask |= speaker == number
        return mask
