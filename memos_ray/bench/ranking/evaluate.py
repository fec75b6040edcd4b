"""Leave one conversation out: what the ranker finds in conversations that it was not fitted on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from fnmatch import fnmatchcase

import numpy as np

from memos_ray.bench import metrics
from memos_ray.bench.locomo_data import CATEGORIES
from memos_ray.bench.ranking.fit import L2, Lists, fit
from memos_ray.bench.ranking.material import Asked
from memos_ray.retrieval.ranker import Family, Linear
from memos_ray.retrieval.signals import Signal

Drop = Collection[str]
"""Patterns of signals that are left out."""
Row = tuple[Asked, dict[str, float]]
"""A question and its metrics."""
_DEPTH = 50


def kept(found: dict[str, Signal], drop: Drop) -> dict[str, Signal]:
    """`found` without what matches a pattern."""
    return {n: v for n, v in found.items() if not any(fnmatchcase(n, pattern) for pattern in drop)}


def fit_family(material: Sequence[Asked], drop: Drop = (), l2: float = L2) -> Family:
    """Both rankings. The second one learns from first scores of a ranker that has not seen the conversation."""
    groups = sorted({a.conversation for a in material})
    second = []
    for held in groups if len(groups) > 1 else ():
        first = fit(_first([a for a in material if a.conversation != held], drop), l2)
        second += [
            (kept(a.second(first.score(a.first, len(a.pool))), drop), a.evidence)
            for a in material
            if a.conversation == held and len(a.pool)
        ]
    first = fit(_first(material, drop), l2)
    if not second:
        second = [(kept(a.second(first.score(a.first, len(a.pool))), drop), a.evidence) for a in material]
    return Family(first, fit(Lists.join(second), l2))


def _first(material: Sequence[Asked], drop: Drop) -> Lists:
    return Lists.join([(kept(a.first, drop), a.evidence) for a in material if len(a.pool)])


def ranked(asked: Asked, family: Family, *, second: bool) -> list[str]:
    """The turns of one question's candidates, best first."""
    scores = family.first.score(asked.first, len(asked.pool))
    if second and family.second is not None and len(asked.pool):
        scores = family.second.score(asked.second(scores), len(asked.pool))
    return [asked.turns[i] for i in np.argsort(-scores, kind="stable")[:_DEPTH].tolist()]


def asked_of(material: Sequence[Asked], family: Family, *, second: bool) -> list[Row]:
    """Metrics of every question, ranked by `family`."""
    return [
        (
            asked,
            metrics.scores([[turn] for turn in ranked(asked, family, second=second)], asked.question.gold),
        )
        for asked in material
    ]


def leave_one_out(
    material: Sequence[Asked],
    *,
    drop: Drop = (),
    l2: float = L2,
    step: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[dict[bool, list[Row]], list[Family]]:
    """({second ranking or not: metrics of every question}, the family fitted for each fold)."""
    groups = sorted({a.conversation for a in material})
    rows: dict[bool, list[Row]] = {False: [], True: []}
    families = []
    for n, held in enumerate(groups):
        step(n, len(groups))
        family = fit_family([a for a in material if a.conversation != held], drop, l2)
        families.append(family)
        left_out = [a for a in material if a.conversation == held]
        for second in rows:
            rows[second] += asked_of(left_out, family, second=second)
    return rows, families


def summary(rows: Sequence[Row]) -> dict[str, float]:
    """Mean metrics, and recall in the first 10 by category ("multi-hop@10")."""
    means = metrics.means([row for _, row in rows])
    for category, name in CATEGORIES.items():
        of = [row["recall@10"] for asked, row in rows if asked.question.category == category]
        if of:
            means[f"{name}@10"] = float(np.mean(of))
    return means


def stability(rankings: Sequence[Linear]) -> dict[str, tuple[float, float]]:
    """Of every weight: mean and standard deviation over folds."""
    names = rankings[0].weights
    return {
        n: (
            float(np.mean([r.weights[n] for r in rankings])),
            float(np.std([r.weights[n] for r in rankings])),
        )
        for n in names
    }
