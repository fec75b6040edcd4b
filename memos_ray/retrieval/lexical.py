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
    counts = index.counts(terms, mask)  # (terms, slots)
    lengths = index.lengths(mask)
    shown = max(1, int(np.count_nonzero(mask)))
    idf = _idf(counts, shown)
    previous = _fit(before, size)
    at = np.maximum(previous, 0)
    live = (previous >= 0) & mask & mask[at]
    both = counts + counts[:, at] * live
    both_lengths = lengths + lengths[at] * live

    alone, share = _bm25(counts, lengths, idf), _share(counts, idf)
    window_idf = _idf(both, shown)
    known = np.flatnonzero((counts > 0).any(1))
    rarest = np.zeros(size, np.float32)
    if len(known):
        rarest[counts[known[np.argmax(idf[known])]] > 0] = 1
    wanted = [i for i in known.tolist() if terms[i] in names]
    named = _share(counts[wanted], idf[wanted]) if wanted else np.zeros(size, np.float32)
    return Lexical(
        alone, _bm25(both, both_lengths, window_idf), share, _share(both, window_idf), rarest, named
    )


def _fit(before: Slots | None, size: int) -> Slots:
    fitted = np.full(size, -1, np.intp)
    if before is not None:
        n = min(size, len(before))
        fitted[:n] = before[:n]
        fitted[fitted >= size] = -1
    return fitted


def _idf(counts: NDArray[np.float32], shown: int) -> NDArray[np.float32]:
    found = np.count_nonzero(counts, axis=1)
    idf: NDArray[np.float32] = np.log1p((shown - found + 0.5) / (found + 0.5)).astype(np.float32)
    return idf


def _bm25(counts: NDArray[np.float32], lengths: Scores, idf: NDArray[np.float32]) -> Scores:
    scores = np.zeros(counts.shape[1], np.float32)
    some = np.flatnonzero(counts.any(0))
    if len(some):
        average = max(1.0, float(lengths[lengths > 0].mean()))
        norm = K1 * (1 - B + B * lengths[some] / average)
        tf = counts[:, some]
        scores[some] = idf @ (tf * (K1 + 1) / (tf + norm))
    return scores


def _share(counts: NDArray[np.float32], idf: NDArray[np.float32]) -> Scores:
    total = float(idf.sum())
    if total <= 0:
        return np.zeros(counts.shape[1], np.float32)
    shares: Scores = (idf / total) @ (counts > 0).astype(np.float32)
    return shares
