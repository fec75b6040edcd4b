"""Retrieval metrics over provenance: does what a search returned hold the evidence?

An item covers the gold turns among the sources that it names. Pure functions; no data set is known here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

KS = (5, 10, 20, 50)


def covered(items: Sequence[Collection[str]], gold: Collection[str], k: int) -> int:
    """How many gold ids the sources of the first `k` items cover."""
    seen = set(gold)
    for sources in items[:k]:
        seen -= set(sources)
    return len(set(gold)) - len(seen)


def recall(items: Sequence[Collection[str]], gold: Collection[str], k: int) -> float:
    """Share of `gold` (not empty) covered by the first `k` items."""
    return covered(items, gold, k) / len(set(gold))


def ndcg(items: Sequence[Collection[str]], gold: Collection[str], k: int = 10) -> float:
    """Gain of an item = gold ids it covers that no earlier one did; ideally one an item; capped at 1.

    Discounts are log2(rank + 1), as in Järvelin & Kekäläinen (2002).
    """
    left, gained = set(gold), 0.0
    for rank, sources in enumerate(items[:k], 1):
        new = left & set(sources)
        left -= new
        gained += len(new) / math.log2(rank + 1)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(set(gold))) + 1))
    return min(1.0, gained / ideal)


def reciprocal_rank(items: Sequence[Collection[str]], gold: Collection[str]) -> float:
    """1 / rank of the first item that covers any of `gold`; 0 if none does."""
    wanted = set(gold)
    return next((1 / rank for rank, sources in enumerate(items, 1) if wanted & set(sources)), 0.0)


def scores(items: Sequence[Collection[str]], gold: Collection[str]) -> dict[str, float]:
    """All metrics of one question."""
    found = {f"recall@{k}": recall(items, gold, k) for k in KS}
    found["all@10"] = float(recall(items, gold, 10) == 1.0)
    found["ndcg@10"] = ndcg(items, gold)
    found["mrr"] = reciprocal_rank(items, gold)
    return found


def means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of every metric over questions; {} for none."""
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]} if rows else {}
