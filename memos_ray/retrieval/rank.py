"""One query's candidates -> signals -> scores: the ranking proper, without packing.

    arms -> candidates -> signals -> first ranking -> second hop -> second ranking

Everything that is ranked is known before the first signal is computed (`pool.Pool`), so each signal is a pure function
of arrays, and the trainer sees exactly what a search sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from memos_ray import telemetry
from memos_ray.retrieval.arms import Asked, CubeIndexes, EmbeddedQuery, candidates
from memos_ray.retrieval.arrays import Mask, Slots, fit_mask
from memos_ray.retrieval.pool import Pool
from memos_ray.retrieval.query import ParsedQuery
from memos_ray.retrieval.ranker import Ranker
from memos_ray.retrieval.recipe import Recipe
from memos_ray.retrieval.signals import Signal
from memos_ray.retrieval.signals.agreement import agreement
from memos_ray.retrieval.signals.around import around
from memos_ray.retrieval.signals.crossed import crossed
from memos_ray.retrieval.signals.form import form
from memos_ray.retrieval.signals.hop import SharedWords, hop
from memos_ray.retrieval.signals.late import late
from memos_ray.retrieval.signals.ranks import ranks
from memos_ray.retrieval.signals.semantic import semantic
from memos_ray.retrieval.signals.when import when
from memos_ray.retrieval.signals.who import who
from memos_ray.retrieval.signals.words import words


@dataclass(frozen=True, slots=True)
class RankedPool:
    """The candidates in the order of `pool.slots`: what the signals said, the last score, and its chance."""

    pool: Pool
    signals: dict[str, Signal]
    scores: Signal
    chances: Signal
    weights: Mapping[str, float]


def make_pool(
    indexes: CubeIndexes,
    query: ParsedQuery,
    vectors: EmbeddedQuery | None,
    mask: Mask,
    asked: Asked,
    recipe: Recipe,
) -> Pool:
    """The candidates and what the signals need of them; `asked` with windows."""
    assert asked.lexical is not None
    slots = candidates(asked.rankings, recipe.candidates)
    before, after = _around(asked.before, slots, mask)
    tokens = indexes.tokens if recipe.late else None
    found = None
    if tokens is not None and vectors is not None and vectors.tokens is not None and len(vectors.tokens):
        stages = telemetry.Stages()
        found = tokens.maxsim(vectors.tokens, slots)
        stages.done("tokens")
    embedded = None
    if indexes.dense is not None and asked.dense is not None:
        embedded = np.zeros((len(slots), indexes.dense.dim), np.float32)
        there = slots < len(indexes.dense)
        there[there] = indexes.dense.embedded[slots[there]]
        embedded[there] = indexes.dense.vectors(slots[there])
    spoken = None
    if asked.spoken is not None:
        spoken = np.zeros(len(slots), np.bool_)
        inside = slots < len(asked.spoken)
        spoken[inside] = asked.spoken[slots[inside]]
    return Pool(
        query=query,
        slots=slots,
        lexical=asked.lexical,
        facts=indexes.facts(slots),
        facts_before=indexes.facts(np.where(before >= 0, before, slots)),
        before=before,
        after=after,
        dense=asked.dense,
        vectors=embedded,
        late=found,
        weights=vectors.weights if found is not None and vectors is not None else None,
        spoken=spoken,
    )


def first_signals(pool: Pool) -> dict[str, Signal]:
    """Everything that the first ranking reads."""
    found: dict[str, Signal] = {**semantic(pool), **late(pool), **words(pool), **who(pool), **when(pool)}
    found |= around(pool, found)
    found |= agreement(pool, found)
    found |= ranks(found)
    found |= form(pool)
    found |= crossed(pool, found)
    return found


def second_signals(
    indexes: CubeIndexes, pool: Pool, mask: Mask, found: dict[str, Signal], scores: Signal
) -> dict[str, Signal]:
    """`found` and what the first ranking's `scores` add."""
    return found | dict(hop(pool, scores, _shared(indexes, pool, mask)))


def rank(indexes: CubeIndexes, pool: Pool, mask: Mask, ranker: Ranker, *, second: bool) -> RankedPool:
    """Scores of all candidates. An empty pool stays empty."""
    n = len(pool)
    if not n:
        empty = np.empty(0, np.float32)
        return RankedPool(pool, {}, empty, empty, {})
    found = first_signals(pool)
    family = ranker.family(found)
    stage = family.first
    scores = stage.score(found, n)
    if second and family.second is not None:
        found = second_signals(indexes, pool, mask, found, scores)
        stage = family.second
        scores = stage.score(found, n)
    return RankedPool(pool, found, scores, stage.chance(scores), stage.weights)


def _shared(indexes: CubeIndexes, pool: Pool, mask: Mask) -> SharedWords | None:
    shared, terms = indexes.shared, pool.query.terms
    return None if shared is None else lambda seeds, slots: shared(seeds, slots, terms, mask)


def _around(before: Slots | None, slots: Slots, mask: Mask) -> tuple[Slots, Slots]:
    """The slots before and after each of `slots` in its session, -1 where there is none."""
    previous = np.full(len(slots), -1, np.intp)
    following = np.full(len(slots), -1, np.intp)
    if before is None or not len(before):
        return previous, following
    inside = slots < len(before)
    previous[inside] = before[slots[inside]]
    after = np.full(len(before), -1, np.intp)
    there = np.flatnonzero((before >= 0) & fit_mask(mask, len(before)))
    after[before[there]] = there
    following[inside] = after[slots[inside]]
    return previous, following
