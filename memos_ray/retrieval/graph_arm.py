"""Ranking by the graph: what is close to the first hits and to the entities that a query names.

Knows that somebody can spread weight over the links of a cube, not how, nor what the links are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from memos_ray.retrieval.arrays import NO_SCORES, NO_SLOTS, Mask, Scores, Slots, best, fit_mask

SEEDS = 20  # first hits that spread; Hindsight's number
ENTITY_SHARE = 0.5  # of all seed weight, when the query names entities


class Ranker(Protocol):
    """The graph of one cube, as retrieval sees it."""

    def ppr(self, seeds: Mapping[int, float], entities: Mapping[str, float]) -> NDArray[np.float32]:
        """Personalised PageRank restarting at `seeds` (slot -> weight) and `entities` (name -> weight).

        Weights are relative. Returns one score per slot (of the current view; others 0). Unknown entities
        are ignored.
        """
        ...


def rank(graph: Ranker, first: Slots, entities: Sequence[str], mask: Mask, k: int) -> tuple[Slots, Scores]:
    """The `k` best slots under `mask` by PageRank from the slots `first` (best first) and from `entities`.

    A first hit's seed weight is 1 / its rank, so that the graph follows what the other arms are surest of.
    """
    seeds = {int(slot): 1.0 / (i + 1) for i, slot in enumerate(first[:SEEDS])}
    share = ENTITY_SHARE if seeds else 1.0
    total = sum(seeds.values()) or 1.0
    each = share / (1 - share) * total / len(entities) if entities and seeds else 1.0
    if not seeds and not entities:
        return NO_SLOTS, NO_SCORES
    scores = graph.ppr(seeds, dict.fromkeys(entities, each))
    return best(np.where(fit_mask(mask, len(scores)), scores, 0.0), k, above=0.0)
