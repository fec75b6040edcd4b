"""BM25 over two views of every memory: by itself, and together with the message before it.

An answer is often found by the words of the question before it ("Which one?" "The blue one"). The second view is
not an index of its own: its counts are the sums of two messages' counts, so it holds under any mask at any moment,
and what is deleted is gone from both views at once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memos_ray.retrieval.arrays import Mask, Scores, Slots, fit_mask
from memos_ray.retrieval.bm25 import K1, B, TextIndex


@dataclass(frozen=True, slots=True)
class Lexical:
    """(slots,) each, 0 where hidden: `alone` and `window` are BM25 (see `bm25`); `share` and `window_share` the part of
    the query's idf that the words found have; `rarest`: holds the query's rarest known word; `names`: `share` over the
    names in the query only."""

    alone: Scores
    window: Scores
    share: Scores
    window_share: Scores
    rarest: Scores
    names: Scores


def lexical(
    index: TextIndex, terms: Sequence[str], names: Collection[str], mask: Mask, before: Slots | None
) -> Lexical:
    """Scores of all slots of `index` under `mask`. `names` are those of `terms` that stand in names; `before` holds the
    slot of the message before each, or -1 (`SessionOrder.previous`)."""
    size = len(index)
    mask = fit_mask(mask, size)
    lengths = index.lengths(mask)
    shown = max(1, int(np.count_nonzero(mask)))
    at, counts = index.found(terms, mask)  # only slots that hold a term: most hold none
    idf = _idf(counts, shown)
    average = _average(lengths, shown)

    def spread(slots: Slots, values: NDArray[np.float32]) -> Scores:
        everywhere = np.zeros(size, np.float32)
        everywhere[slots] = values
        return everywhere

    known = np.flatnonzero(counts.any(1))
    rarest = counts[known[np.argmax(idf[known])]] > 0 if len(known) else np.zeros(len(at), np.bool_)
    wanted = [i for i in known.tolist() if terms[i] in names]
    both_at, both, both_lengths = _windows(at, counts, lengths, mask, before)
    both_idf = _idf(both, shown)
    both_average = max(1.0, average + float(_lent(lengths, mask, before).sum()) / shown)
    return Lexical(
        alone=spread(at, _bm25(counts, lengths[at], idf, average)),
        window=spread(both_at, _bm25(both, both_lengths, both_idf, both_average)),
        share=spread(at, _share(counts, idf)),
        window_share=spread(both_at, _share(both, both_idf)),
        rarest=spread(at, rarest.astype(np.float32)),
        names=spread(at, _share(counts[wanted], idf[wanted])),
    )


def _windows(
    at: Slots, counts: NDArray[np.float32], lengths: Scores, mask: Mask, before: Slots | None
) -> tuple[Slots, NDArray[np.float32], Scores]:
    """(slots whose window holds a term, the counts there, the windows' lengths)."""
    if before is None or not len(before):
        return at, counts, lengths[at]
    size = len(lengths)
    previous = _previous(mask, before)
    place = np.full(size + 1, -1, np.intp)  # where a slot's counts are; the last entry stands for slot -1
    place[at] = np.arange(len(at))
    holds = np.zeros(size + 1, np.bool_)
    holds[at] = True
    slots = np.flatnonzero(holds[:size] | holds[previous])
    own, lent = place[slots], place[previous[slots]]
    padded = np.concatenate((counts, np.zeros((len(counts), 1), np.float32)), axis=1)  # -1: no counts
    both = padded[:, own] + padded[:, lent]
    return slots, both, lengths[slots] + np.append(lengths, np.float32(0))[previous[slots]]


def _previous(mask: Mask, before: Slots) -> Slots:
    """(slots,) the slot before under `mask`, -1 for none or for hidden ones."""
    size = len(mask)
    previous = np.full(size, -1, np.intp)
    n = min(size, len(before))
    previous[:n] = before[:n]
    previous[(previous >= size) | ~mask] = -1
    shown = np.append(mask, False)
    previous[~shown[previous]] = -1
    return previous


def _lent(lengths: Scores, mask: Mask, before: Slots | None) -> Scores:
    if before is None or not len(before):
        return np.zeros(1, np.float32)
    return np.append(lengths, np.float32(0))[_previous(mask, before)]


def _average(lengths: Scores, shown: int) -> float:
    return max(1.0, float(lengths.sum()) / shown)


def _idf(counts: NDArray[np.float32], shown: int) -> NDArray[np.float32]:
    found = np.count_nonzero(counts, axis=1)
    idf: NDArray[np.float32] = np.log1p((shown - found + 0.5) / (found + 0.5)).astype(np.float32)
    return idf


def _bm25(
    counts: NDArray[np.float32], lengths: Scores, idf: NDArray[np.float32], average: float
) -> NDArray[np.float32]:
    norm = (K1 * (1 - B + B * lengths / average)).astype(np.float32)
    scores: NDArray[np.float32] = idf @ (counts * np.float32(K1 + 1) / (counts + norm))
    return scores


def _share(counts: NDArray[np.float32], idf: NDArray[np.float32]) -> NDArray[np.float32]:
    total = float(idf.sum())
    if total <= 0:
        return np.zeros(counts.shape[1], np.float32)
    shares: NDArray[np.float32] = (idf / np.float32(total)) @ (counts > 0).astype(np.float32)
    return shares
