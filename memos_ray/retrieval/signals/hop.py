"""The second hop: what the first ranking found says about the rest. For questions whose answer is spread out.

With p the softmax of the first ranking's scores over its best 30, and o its order:

    first        the first ranking's score, from the best one's
    chance       p
    hop_x        mean cosine with the best 1 / 3 candidates (weighted by p), and the highest with the best 5
    shared       part of the idf of the best 3 candidates' rare words, those that the query lacks, that it holds
    near         p of the candidates among the best 10 that stand within two messages
    session_rest p of the rest of its session
    leads        1 if it is its session's best
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from memos_ray.retrieval.arrays import Slots
from memos_ray.retrieval.pool import Pool
from memos_ray.retrieval.signals import Signal, Signals
from memos_ray.retrieval.signals.ranks import reciprocal

_BEST, _NEAR, _SEEDS = 30, 10, 3
SharedWords = Callable[[Slots, Slots], Signal]
"""(slots of the seeds, slots of the candidates) -> `shared`."""


def hop(pool: Pool, scores: Signal, shared: SharedWords | None) -> Signals:
    """All of the above, from the first ranking's `scores`."""
    n, listing = len(pool), float(pool.query.question.listing)
    order = np.argsort(-scores, kind="stable")
    top = order[:_BEST]
    raised = np.exp(scores[top] - scores[top[0]])
    chance = np.zeros(n, np.float32)
    chance[top] = raised / raised.sum()
    first = (scores - scores[order[0]]).astype(np.float32)
    result: dict[str, Signal] = {"first": first, "chance": chance, "rank_first": reciprocal(scores)}

    if pool.vectors is not None:
        near = pool.vectors @ pool.vectors[order[:5]].T  # (n, up to 5)
        weights = chance[order[:_SEEDS]] / max(1e-9, float(chance[order[:_SEEDS]].sum()))
        result["hop_first"] = near[:, 0]
        result["hop_mean"] = near[:, : len(weights)] @ weights
        result["hop_best"] = near.max(1)
        result["listing*hop_mean"] = result["hop_mean"] * listing
    session = pool.facts.session
    group = np.unique(session, return_inverse=True)[1]
    alone = session < 0
    mass = np.bincount(group, chance)[group]
    result["session_rest"] = np.where(alone, 0, mass - chance).astype(np.float32)
    leads = np.zeros(n, np.float32)
    leads[order[np.unique(group[order], return_index=True)[1]]] = 1
    leads[alone] = 0
    result["leads"] = leads
    result["near"] = _near(pool, order[:_NEAR], chance)
    if shared is not None:
        result["shared"] = shared(pool.slots[order[:_SEEDS]], pool.slots)
    result["listing*first"] = first * listing
    return result


def _near(pool: Pool, best: Slots, chance: Signal) -> Signal:
    """Chance of the `best` that stand one or two messages away, by way of the candidates' own neighbours."""
    position = {int(slot): i for i, slot in enumerate(pool.slots)}
    found = np.zeros(len(pool), np.float32)
    for i in best.tolist():
        for way in (pool.before, pool.after):
            at, steps = i, 0
            while steps < 2 and (slot := int(way[at])) >= 0 and (other := position.get(slot)) is not None:
                found[other] += chance[i]
                at, steps = other, steps + 1
    return found
