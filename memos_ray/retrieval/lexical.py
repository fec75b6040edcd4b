"""BM25 over two views of every memory: by itself, and together with the message of somebody else before it.

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
from memos_ray.retrieval.bm25 import K1, B, TextIndex, idf


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
    slot of the message before each that it may answer, or -1 (`SpeakerIndex.answers`)."""
    size = len(index)
    mask = fit_mask(mask, size)
    lengths = index.lengths(mask)
    shown = max(1, int(np.count_nonzero(mask)))
    at, counts = index.found(terms, mask)  # only slots that hold a term: most hold none
    weights = idf(np.count_nonzero(counts, axis=1), shown)

    def spread(slots: Slots, values: NDArray[np.float32]) -> Scores:
        everywhere = np.zeros(size, np.float32)
        everywhere[slots] = values
        return everywhere

    known = np.flatnonzero(counts.any(1))
    rarest = counts[known[np.argmax(weights[known])]] > 0 if len(known) else np.zeros(len(at), np.bool_)
    wanted = [i for i in known.tolist() if terms[i] in names]
    previous = _previous(mask, before)
    # The last entry stands for slot -1: no message before.
    both_lengths = lengths + np.append(lengths, np.float32(0))[previous]
    both_at, both = _windows(at, counts, previous)
    both_weights = idf(np.count_nonzero(both, axis=1), shown)
    return Lexical(
        alone=spread(at, _bm25(counts, lengths[at], weights, _average(lengths, shown))),
        window=spread(
            both_at, _bm25(both, both_lengths[both_at], both_weights, _average(both_lengths, shown))
        ),
        share=spread(at, _share(counts, weights)),
        window_share=spread(both_at, _share(both, both_weights)),
        rarest=spread(at, rarest.astype(np.float32)),
        names=spread(at, _share(counts[wanted], weights[wanted])),
    )


def _windows(at: Slots, counts: NDArray[np.float32], previous: Slots) -> tuple[Slots, NDArray[np.float32]]:
    """(slots whose window holds a term, the counts there), from the slots `at` that hold one and their counts."""
    size = len(previous)
    place = np.full(size + 1, -1, np.intp)  # where a slot's counts are; the last entry stands for slot -1
    place[at] = np.arange(len(at))
    slots = np.flatnonzero((place[:size] >= 0) | (place[previous] >= 0))
    padded = np.concatenate((counts, np.zeros((len(counts), 1), np.float32)), axis=1)  # -1: no counts
    return slots, padded[:, place[slots]] + padded[:, place[previous[slots]]]


def _previous(mask: Mask, before: Slots | None) -> Slots:
    """(slots,) the slot before under `mask`, -1 for none or for hidden ones."""
    size = len(mask)
    previous = np.full(size, -1, np.intp)
    if before is None:
        return previous
    n = min(size, len(before))
    previous[:n] = before[:n]
    previous[(previous >= size) | ~mask] = -1
    shown = np.append(mask, False)
    previous[~shown[previous]] = -1
    return previous


def _average(lengths: Scores, shown: int) -> float:
    return max(1.0, float(lengths.sum()) / shown)


def _bm25(
    counts: NDArray[np.float32], lengths: Scores, weights: NDArray[np.float32], average: float
) -> NDArray[np.float32]:
    norm = (K1 * (1 - B + B * lengths / average)).astype(np.float32)
    scores: NDArray[np.float32] = weights @ (counts * np.float32(K1 + 1) / (counts + norm))
    return scores


def _share(counts: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    total = float(weights.sum())
    if total <= 0:
        return np.zeros(counts.shape[1], np.float32)
    shares: NDArray[np.float32] = (weights / np.float32(total)) @ (counts > 0).astype(np.float32)
    return shares
