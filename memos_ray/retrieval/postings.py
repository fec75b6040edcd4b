"""Immutable postings of a batch of texts: for every term the slots that hold it, and how often.

Knows term numbers and slots, no texts and no scores. Segments are made from new texts and merged with one
another; `bm25.TextIndex` decides when.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memos_ray.retrieval.arrays import Slots


@dataclass(frozen=True, slots=True)
class Segment:
    """Postings sorted by (term, slot). Those of `terms[i]` lie at `starts[i]:starts[i + 1]`.

    `slots` are machine-sized integers (numpy indexes with nothing else without converting first),
    `counts` float32.
    """

    terms: NDArray[np.int64]
    starts: NDArray[np.int64]
    slots: Slots
    counts: NDArray[np.float32]

    def find(self, terms: NDArray[np.int64]) -> list[tuple[int, int, int]]:
        """(position in `terms`, start, end) for each of `terms` that this segment holds."""
        if not len(self.terms):
            return []
        at = np.minimum(self.terms.searchsorted(terms), len(self.terms) - 1)
        hit = np.flatnonzero(self.terms[at] == terms)
        at = at[hit]
        return list(zip(hit.tolist(), self.starts[at].tolist(), self.starts[at + 1].tolist(), strict=True))


def build(terms: NDArray[np.int64], slots: Slots) -> Segment:
    """Postings from one (term, slot) pair per token, in any order."""
    # One integer per token sorts several times faster than two columns do.
    keys = (terms << 32) | slots
    keys.sort()
    firsts = np.flatnonzero(np.diff(keys, prepend=-1))
    counts = np.diff(firsts, append=len(keys)).astype(np.float32)
    keys = keys[firsts]
    return _segment(keys >> 32, keys & 0xFFFFFFFF, counts)


def merge(older: Segment, newer: Segment) -> Segment:
    """The postings of both, which share no slot."""
    terms = np.concatenate([np.repeat(s.terms, np.diff(s.starts)) for s in (older, newer)])
    slots = np.concatenate((older.slots, newer.slots))
    counts = np.concatenate((older.counts, newer.counts))
    order = np.argsort((terms << 32) | slots, kind="stable")  # two sorted runs: linear time
    return _segment(terms[order], slots[order], counts[order])


def _segment(terms: NDArray[np.int64], slots: NDArray[np.int64], counts: NDArray[np.float32]) -> Segment:
    firsts = np.flatnonzero(np.diff(terms, prepend=-1))
    return Segment(terms[firsts], np.append(firsts, len(terms)), slots.astype(np.intp, copy=False), counts)
