"""Exact, incremental BM25 over slots, under any mask.

    score(q, d) = sum over terms t of q:  idf(t) * tf * (k1 + 1) / (tf + k1 * (1 - b + b * |d| / avg))
    idf(t)      = ln(1 + (N - df + 0.5) / (df + 0.5))

(Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009; the idf is Lucene's, never negative.)
N, df and the average length count what the mask shows and nothing else: a search in the past scores as it
would have then, and hidden memories leave no trace in the ranking.

Slots are added once and never removed; masks hide them. New texts wait in plain lists until somebody asks,
then become a segment; segments of similar size are merged, so that there are few, and adding n texts
costs O(n log n) whatever happens between the additions (the logarithmic method of Bentley and Saxe).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memos_ray.retrieval.arrays import (
    NO_SCORES,
    NO_SLOTS,
    Mask,
    Saved,
    Scores,
    Slots,
    array_of,
    best,
    fit_mask,
    strings,
)
from memos_ray.retrieval.postings import Segment, build, merge
from memos_ray.retrieval.tokens import Vocabulary

K1 = 1.2
B = 0.75
_SMALL_SEGMENT = 8_192  # postings; below this a merge costs less than one more segment in every query
_SEGMENT: dict[str, type] = {"terms": np.int64, "starts": np.int64, "slots": np.intp, "counts": np.float32}
_MERGE_RATIO = 4  # segments are kept at least this much smaller than the one before


def idf(frequencies: NDArray[np.number], shown: int) -> NDArray[np.float32]:
    """The formula above, for terms that so many of `shown` texts hold."""
    rarity: NDArray[np.float32] = np.log1p((shown - frequencies + 0.5) / (frequencies + 0.5)).astype(
        np.float32
    )
    return rarity


class TextIndex:
    """Terms of texts by slot. Not safe for use by several threads at once (a query may merge segments)."""

    def __init__(self) -> None:
        self.vocabulary = Vocabulary()
        self._segments: list[Segment] = []
        self._lengths = np.zeros(256, np.float32)  # terms per slot; 0 where nothing was added
        self._size = 0
        self._waiting_terms: list[int] = []
        self._waiting_slots: list[int] = []
        self._waiting_counts: list[int] = []

    def saved(self) -> Saved:
        """What `restored` takes. Segments are never changed, so only the rest is copied."""
        self._settle()
        terms, languages = self.vocabulary.saved()
        found: Saved = {
            "terms": terms,
            "languages": languages,
            "lengths": self._lengths[: self._size].copy(),
            "segments": np.array([len(self._segments)], np.int64),
        }
        for i, segment in enumerate(self._segments):
            for name in _SEGMENT:
                found[f"{name} {i}"] = getattr(segment, name)
        return found

    @classmethod
    def restored(cls, saved: Saved) -> TextIndex:
        """The index that was `saved`. `KeyError`, `TypeError` or `ValueError` for what is none."""
        this = cls()
        this.vocabulary = Vocabulary.restored(strings(saved, "terms"), strings(saved, "languages"))
        this._lengths = array_of(saved, "lengths", np.float32)
        this._size = len(this._lengths)
        for i in range(int(array_of(saved, "segments", np.int64)[0])):
            terms, starts, slots, counts = (
                array_of(saved, f"{name} {i}", kind) for name, kind in _SEGMENT.items()
            )
            this._segments.append(Segment(terms, starts, slots, counts))
        return this

    def __len__(self) -> int:
        """One more than the highest slot."""
        return self._size

    def add(self, slot: int, text: str) -> None:
        """Adds one text; see `add_many`."""
        self.add_many((slot,), (text,))

    def add_many(self, slots: Sequence[int], texts: Sequence[str]) -> None:
        """Adds `texts` at `slots`, each of which is new to this index."""
        number, terms, counts = self.vocabulary.number, self._waiting_terms, self._waiting_counts
        for text in texts:
            numbers = number(text)
            terms += numbers
            counts.append(len(numbers))
        self._waiting_slots += slots
        self._size = max(self._size, max(slots, default=-1) + 1)

    def query_terms(self, text: str) -> list[str]:
        """The terms that a query with `text` should look for."""
        return self.vocabulary.query_terms(text)

    def scores(self, terms: Sequence[str], mask: Mask) -> Scores:
        """(len(self),) BM25 of every slot that `mask` shows, 0 for others. A repeated term counts again."""
        self._settle()
        mask = fit_mask(mask, self._size)
        pieces = self._find(terms)
        if not pieces:
            return np.zeros(self._size, np.float32)
        slots = np.concatenate([s.slots[start:end] for s, _, start, end in pieces])
        counts = np.concatenate([s.counts[start:end] for s, _, start, end in pieces])
        term = np.array([position for _, position, _, _ in pieces])
        sizes = np.array([end - start for _, _, start, end in pieces])

        lengths = self._lengths[: self._size]
        shown = max(1, int(np.count_nonzero(mask)))
        average = max(1.0, float(lengths @ mask.astype(np.float32)) / shown)
        live = mask.take(slots)
        found = np.add.reduceat(live, np.cumsum(sizes) - sizes, dtype=np.intp)
        rarity = idf(np.bincount(term, found, len(terms)), shown)

        norm = lengths.take(slots)
        norm *= K1 * B / average
        norm += K1 * (1 - B)
        norm += counts
        weight = np.repeat((rarity * np.float32(K1 + 1))[term], sizes)
        weight *= counts
        weight /= norm
        weight *= live
        return np.bincount(slots, weight, self._size).astype(np.float32)

    def frequencies(self, terms: Sequence[str], mask: Mask) -> NDArray[np.intp]:
        """(len(terms),) how many of the slots that `mask` shows hold each term."""
        self._settle()
        mask = fit_mask(mask, self._size)
        found = np.zeros(len(terms), np.intp)
        for segment, position, start, end in self._find(terms):
            found[position] += np.count_nonzero(mask[segment.slots[start:end]])
        return found

    def found(self, terms: Sequence[str], mask: Mask) -> tuple[Slots, NDArray[np.float32]]:
        """(slots that `mask` shows and that hold any of `terms`, ascending; (terms, slots) how often they do)."""
        self._settle()
        pieces = self._find(terms)
        holds = np.zeros(self._size, np.bool_)
        for segment, _, start, end in pieces:
            holds[segment.slots[start:end]] = True
        holds &= fit_mask(mask, self._size)
        slots = np.flatnonzero(holds)
        place = np.full(self._size, -1, np.intp)
        place[slots] = np.arange(len(slots))
        counts = np.zeros((len(terms), len(slots) + 1), np.float32)  # hidden ones fall into the last column
        for segment, position, start, end in pieces:
            counts[position, place[segment.slots[start:end]]] = segment.counts[start:end]
        return slots, np.ascontiguousarray(counts[:, :-1])

    def lengths(self, mask: Mask) -> Scores:
        """(len(self),) terms per slot; 0 for hidden ones."""
        self._settle()
        lengths: Scores = self._lengths[: self._size] * fit_mask(mask, self._size)
        return lengths

    def idf(self, terms: Sequence[str], mask: Mask) -> NDArray[np.float32]:
        """(len(terms),) `idf` under `mask`; a term that no text holds has the highest."""
        shown = max(1, int(np.count_nonzero(fit_mask(mask, self._size))))
        return idf(self.frequencies(terms, mask), shown)

    def score(self, terms: Sequence[str], mask: Mask, k: int) -> tuple[Slots, Scores]:
        """The `k` best slots that hold any of `terms`, best first, and their BM25."""
        if not terms or not self._size:
            return NO_SLOTS, NO_SCORES
        return best(self.scores(terms, mask), k, above=0.0)

    def matched_terms(self, slot: int, terms: Sequence[str]) -> tuple[str, ...]:
        """Those of `terms` that the text at `slot` holds."""
        self._settle()
        get = self.vocabulary.get
        known = [(n, term) for term in dict.fromkeys(terms) if (n := get(term)) is not None]
        numbers = np.array([number for number, _ in known], np.int64)
        found = set()
        for segment in self._segments:
            for position, start, end in segment.find(numbers):
                at = start + int(segment.slots[start:end].searchsorted(slot))
                if at < end and segment.slots[at] == slot:
                    found.add(known[position][1])
        return tuple(term for _, term in known if term in found)

    def _find(self, terms: Sequence[str]) -> list[tuple[Segment, int, int, int]]:
        """(segment, position in `terms`, start, end) of all postings of `terms`."""
        numbers = np.array([-1 if (n := self.vocabulary.get(t)) is None else n for t in terms], np.int64)
        return [(segment, *found) for segment in self._segments for found in segment.find(numbers)]

    def _settle(self) -> None:
        """Makes a segment of what waits, and merges segments of similar size."""
        if not self._waiting_slots:
            return
        terms = np.array(self._waiting_terms, np.int64)
        slots = np.array(self._waiting_slots, np.intp)
        per_text = np.array(self._waiting_counts, np.intp)
        self._waiting_terms, self._waiting_slots, self._waiting_counts = [], [], []

        if self._size > len(self._lengths):
            grown = np.zeros(2 * self._size, np.float32)
            grown[: len(self._lengths)] = self._lengths
            self._lengths = grown
        owner = np.repeat(slots, per_text)
        if (dropped := terms < 0).any():
            terms, owner = terms[~dropped], owner[~dropped]
            per_text = np.bincount(owner, minlength=self._size)[slots]
        self._lengths[slots] = per_text
        newest = build(terms, owner)
        while self._segments and (
            len(self._segments[-1].slots) < max(_SMALL_SEGMENT, _MERGE_RATIO * len(newest.slots))
        ):
            newest = merge(self._segments.pop(), newest)
        self._segments.append(newest)
