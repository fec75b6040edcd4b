"""Rank fusion: one ranking out of several, by rank alone. Knows neither arms nor memories."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from memos_ray.retrieval.arrays import NO_SCORES, NO_SLOTS, Scores, Slots

RRF_K = 60.0


def fuse(
    rankings: Mapping[str, Slots], weights: Mapping[str, float] | None = None, k: float = RRF_K
) -> tuple[Slots, Scores]:
    """Weighted reciprocal rank fusion of rankings of distinct slots (best first).

        score(d) = sum over rankings r that hold d:  weight(r) / (k + rank of d in r),  ranks from 1

    Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual rank learning
    methods", SIGIR 2009; k = 60 is theirs. A weight that is not given is 1. Raw scores are left out on
    purpose: adding cosines to BM25 needs weights that hold for one corpus and fail on the next.

    Returns all slots of any ranking, best first (equal ones by slot), and their fused scores.
    """
    weights = weights or {}
    parts = [(slots, weights.get(name, 1.0)) for name, slots in rankings.items()]
    parts = [(slots, weight) for slots, weight in parts if len(slots) and weight > 0]
    if not parts:
        return NO_SLOTS, NO_SCORES
    slots = np.concatenate([s for s, _ in parts])
    gains = np.concatenate([weight / (k + np.arange(1, len(s) + 1)) for s, weight in parts])
    found, at = np.unique(slots, return_inverse=True)
    totals = np.bincount(at, gains)
    order = np.argsort(-totals, kind="stable")
    return found[order], totals[order].astype(np.float32)
