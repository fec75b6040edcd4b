"""One cube's search: the arms are asked, their first hits ranked by all signals, and the result cut. No storage, no
clock.

    dense, text, window, graph -> candidates -> signals -> ranker -> neighbours -> top_k / budget_tokens

What an arm ranks beyond the candidates follows behind them, in the order of reciprocal rank fusion. Any arm may be
missing: no vectors yet, no graph. What a search may see is the mask it is given.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from memos_ray import telemetry
from memos_ray.arguments import check_flag, check_number, check_whole
from memos_ray.errors import Invalid
from memos_ray.retrieval.arms import (
    DENSE,
    RRF_K,
    TEXT,
    WEIGHTS,
    CubeIndexes,
    EmbeddedQuery,
    Rankings,
    ask_arms,
)
from memos_ray.retrieval.arrays import Mask
from memos_ray.retrieval.budget import approximate_tokens, pack
from memos_ray.retrieval.fuse import fuse
from memos_ray.retrieval.neighbours import SessionOrder
from memos_ray.retrieval.passages import normal
from memos_ray.retrieval.query import ParsedQuery
from memos_ray.retrieval.rank import RankedPool, make_pool, rank
from memos_ray.retrieval.ranker import load_ranker
from memos_ray.retrieval.recipe import DEFAULT_RECIPE, Recipe
from memos_ray.types import ArmScore, SignalScore

_BUDGET_DEPTH = 200  # hits that a token budget is filled from
_SPARE = 2  # times the budget that the hits for it may have: those who count and lay them out have a choice
_SPARE_HITS = 50  # beyond `top_k`, as some may say the same or be too long
_FUSED_DEPTH = 100  # hits of each arm whose ranks are fused


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """What the caller wants back.

    `neighbours`: so many messages before and after each hit come right behind it. `threshold`: hits that
    score lower are left out. `budget_tokens`: enough hits to fill it, whoever counts (`packing.pack_hits` then lays out
    those that fit).
    """

    top_k: int = 20
    budget_tokens: int | None = None
    neighbours: int = 0
    explain: bool = False
    threshold: float | None = None
    recipe: Recipe = DEFAULT_RECIPE

    def __post_init__(self) -> None:
        check_whole(self.top_k, "top_k", 1)
        check_whole(self.neighbours, "neighbours", 0)
        if self.budget_tokens is not None:
            check_whole(self.budget_tokens, "budget_tokens", 1)
        if self.threshold is not None:
            check_number(self.threshold, "threshold")
        check_flag(self.explain, "explain")


@dataclass(frozen=True, slots=True)
class Ranked:
    """One hit. `score` is the chance that it is evidence, 0..1, comparable across queries and cubes.

    `arms`, `signals`, `matched_terms` and `matched_entities` are filled for `explain`. `neighbour_of` is the slot of
    the hit that brought this one in, if it is here for that alone.
    """

    slot: int
    score: float
    arms: Mapping[str, ArmScore] = field(default_factory=dict)
    signals: Mapping[str, SignalScore] = field(default_factory=dict)
    neighbour_of: int | None = None
    matched_terms: tuple[str, ...] = ()
    matched_entities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Placed:
    """Scores of slots that a reranker has put in order; every other slot scores `rest` at most (see `rerank`)."""

    scores: Mapping[int, float]
    rest: float


def search(
    indexes: CubeIndexes,
    query: ParsedQuery,
    vectors: EmbeddedQuery | None,
    mask: Mask,
    options: SearchOptions | None = None,
    placed: Placed | None = None,
) -> list[Ranked]:
    """The hits for `query` among the slots that `mask` shows, best first.

    `vectors` are those of the embedded `query.dense_text`; None leaves what is dense or late out. `placed` slots have
    been reranked.
    """
    options = options or SearchOptions()
    recipe = options.recipe
    wanted = options.top_k if options.budget_tokens is None else _BUDGET_DEPTH
    depth = max(recipe.candidates, wanted, _FUSED_DEPTH)
    asked = ask_arms(indexes, query, vectors, mask, depth, windows=recipe.weights is not None)
    found = None
    hits: list[Ranked] = []
    if recipe.weights is not None:
        pool = make_pool(indexes, query, vectors, mask, asked, recipe)
        stages = telemetry.Stages()
        found = rank(indexes, pool, mask, load_ranker(recipe.weights), second=recipe.second)
        order = np.argsort(-found.scores, kind="stable")[:wanted]
        best = zip(pool.slots[order].tolist(), found.chances[order].tolist(), strict=True)
        hits = [Ranked(slot, score) for slot, score in best]
        stages.done("ranking")
    if len(hits) < wanted:
        highest = 0.5 * hits[-1].score if hits else _nearness(indexes, query, asked.rankings)
        hits += _fused(asked.rankings, {hit.slot for hit in hits}, highest)
    if placed is not None:
        hits = _placed(hits, placed)
    if options.threshold is not None:
        hits = [hit for hit in hits if hit.score >= options.threshold]
    # Under a budget, a hit that does not fit leaves room for one further down.
    if options.budget_tokens is None:
        hits = hits[: options.top_k]
    if options.neighbours and indexes.order is not None:
        hits = _with_neighbours(hits, indexes.order, mask, options.neighbours)
    hits = _cut(hits, indexes, options)
    if not options.explain:
        return hits
    return [_explained(hit, indexes, query, asked.rankings, found) for hit in hits]


def _fused(rankings: Rankings, known: Collection[int], highest: float) -> list[Ranked]:
    """What the arms ranked beside the `known` slots, by reciprocal rank fusion; the first one scores `highest`."""
    slots, fused = fuse({name: r[0] for name, r in rankings.items()}, WEIGHTS, RRF_K)
    if not len(slots):
        return []
    scores = fused * (highest / float(fused[0]))
    return [
        Ranked(slot, score)
        for slot, score in zip(slots.tolist(), scores.tolist(), strict=True)
        if slot not in known
    ]


def _placed(hits: list[Ranked], placed: Placed) -> list[Ranked]:
    """The placed slots by their scores, then the other `hits`."""
    first = [Ranked(slot, score) for slot, score in sorted(placed.scores.items(), key=lambda p: -p[1])]
    others = [
        replace(hit, score=min(hit.score, placed.rest)) for hit in hits if hit.slot not in placed.scores
    ]
    return first + others


def _nearness(indexes: CubeIndexes, query: ParsedQuery, rankings: Rankings) -> float:
    """How near this cube comes to the query at all, 0..1: the cosine of its nearest memory.

    Without vectors, the share of the query's terms that the best text hit holds. Scores of fused ranks are scaled
    by it, as they alone are just as high in a cube that knows nothing of the matter.
    """
    if DENSE in rankings and len(rankings[DENSE][1]):
        return min(1.0, max(0.0, float(rankings[DENSE][1][0])))
    if TEXT not in rankings or not len(rankings[TEXT][0]):
        return 0.0
    slots = rankings[TEXT][0]
    return len(indexes.text.matched_terms(int(slots[0]), query.terms)) / len(query.terms)


def _with_neighbours(hits: list[Ranked], order: SessionOrder, mask: Mask, reach: int) -> list[Ranked]:
    """`hits`, each followed by the messages around it that are not hits themselves, in order of time."""
    seen = {hit.slot for hit in hits}
    result = []
    for hit in hits:
        result.append(hit)
        around = order.around(hit.slot, mask, reach)
        new = [slot for slot in around if slot not in seen]
        seen.update(new)
        result += [Ranked(slot, hit.score, neighbour_of=hit.slot) for slot in new]
    return result


def _cut(hits: list[Ranked], indexes: CubeIndexes, options: SearchOptions) -> list[Ranked]:
    """`top_k` of `hits`; under a budget, those that would fit one `_SPARE` times as large.

    Counted without a tokenizer and without what stands around a text: that is done where the hits of all cubes come
    together, by the model's own tokenizer. This only keeps what travels there small.
    """
    if options.budget_tokens is None:
        return hits[: options.top_k]
    if indexes.texts is None:
        raise Invalid("budget_tokens needs indexes with `texts`", argument="budget_tokens")
    texts = indexes.texts([hit.slot for hit in hits])
    # What says the same as a better hit is shown once, if at all: it must not use up what others need.
    said = [normal(text) for text in texts]
    first = {text: i for i, text in reversed([*enumerate(said)])}
    costs = ((i, approximate_tokens(text) if first[said[i]] == i else 0) for i, text in enumerate(texts))
    most = options.top_k + _SPARE_HITS
    return [hits[i] for i in pack(costs, _SPARE * options.budget_tokens, most=most)]


def _explained(
    hit: Ranked, indexes: CubeIndexes, query: ParsedQuery, rankings: Rankings, found: RankedPool | None
) -> Ranked:
    arms = {}
    for name, (slots, scores) in rankings.items():
        at = np.flatnonzero(slots == hit.slot)
        if len(at):
            arms[name] = ArmScore(float(scores[at[0]]), int(at[0]) + 1)
    own = frozenset(indexes.entities_of(hit.slot)) if indexes.entities_of is not None else frozenset()
    return replace(
        hit,
        arms=arms,
        signals=_signals(hit.slot, found) if found is not None else {},
        matched_terms=indexes.text.matched_terms(hit.slot, query.terms),
        matched_entities=tuple(name for name in query.entities if name in own),
    )


def _signals(slot: int, found: RankedPool) -> dict[str, SignalScore]:
    """Every signal of a candidate, the largest contribution first."""
    at = np.flatnonzero(found.pool.slots == slot)
    if not len(at):
        return {}
    i = int(at[0])
    scores = {
        name: SignalScore(
            value=float(values[i]),
            rank=1 + int(np.count_nonzero(values > values[i])),
            contribution=float(values[i]) * found.weights.get(name, 0.0),
        )
        for name, values in found.signals.items()
    }
    return dict(sorted(scores.items(), key=lambda item: -abs(item[1].contribution)))
