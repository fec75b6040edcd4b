"""Who said what, by slot: to rank once more among what the speakers named in a query said.

As a ranking of its own rather than as a filter: what others say about somebody counts too, only less.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np

from memos_ray.retrieval.arrays import Mask, Saved, Slots, array_of, strings
from memos_ray.retrieval.query import NameIndex


class SpeakerIndex:
    """The speaker of every slot; `names` finds them in queries."""

    def __init__(self) -> None:
        self.names = NameIndex()
        self._numbers: dict[str, int] = {}
        self._roles: dict[str, int] = {}
        self._speaker = array("i")  # by slot; 0: nobody who has a name
        self._role = array("i")  # by slot, of those without a name; 0: none

    def saved(self) -> Saved:
        """What `restored` takes: copies."""
        return {
            "speakers": list(self._numbers),
            "roles": list(self._roles),
            "speaker": np.array(self._speaker, np.int32),
            "role": np.array(self._role, np.int32),
        }

    @classmethod
    def restored(cls, saved: Saved) -> SpeakerIndex:
        """The index that was `saved`. `KeyError` or `TypeError` for what is none."""
        this = cls()
        for found, name in ((this._numbers, "speakers"), (this._roles, "roles")):
            for number, value in enumerate(strings(saved, name), 1):
                found[value] = number
        for value in this._numbers:
            this.names.add(value)
        this._speaker.frombytes(array_of(saved, "speaker", np.int32).astype(np.intc).tobytes())
        this._role.frombytes(array_of(saved, "role", np.int32).astype(np.intc).tobytes())
        return this

    def add(self, slot: int, speaker: str | None, role: str | None = None) -> None:
        """`speaker`, or somebody without a name in that `role`, said what is at `slot`. Call once per slot at most."""
        while len(self._speaker) <= slot:
            self._speaker.append(0)
            self._role.append(0)
        if speaker:
            number = self._numbers.get(speaker)
            if number is None:
                number = self._numbers[speaker] = len(self._numbers) + 1
                self.names.add(speaker)
            self._speaker[slot] = number
        elif role:
            self._role[slot] = self._roles.setdefault(role, len(self._roles) + 1)

    def answers(self, before: Slots) -> Slots:
        """`before`, (n,) the slot before each or -1, with -1 also where the same one goes on talking.

        Who answers takes up the words of who asked. Who writes one note after another does not: on notes in Chinese,
        made by rule, BM25 found 64 % of the evidence in the first 20, and 45 % together with the note before.
        """
        who = np.zeros((2, len(before) + 1), np.intc)  # the last entry stands for slot -1
        n = min(len(before), len(self._speaker))
        who[0, :n], who[1, :n] = self._speaker[:n], self._role[:n]
        same: Mask = (who[:, :-1] == who[:, before]).all(0)
        return np.where(same, -1, before)

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
