"""One cube's search: the arms are asked, their rankings fused, and the result packed. No storage, no clock.

    dense (cosine) ─┬─ each once more among what the speakers named in the query said
    text (BM25) ────┤
    graph ──────────┴─ reciprocal rank fusion ─ neighbours ─ top_k / budget_tokens

The graph is seeded by the first hits of the others and by the query's entities. Any arm may be missing: no
vectors yet, no graph. What a search may see is the mask it is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from memos_ray.arguments import check_flag, check_number, check_whole
from memos_ray.errors import Invalid
from memos_ray.retrieval.arms import DEFAULT_RECIPE, DENSE, TEXT, CubeIndexes, Rankings, Recipe, rank_arms
from memos_ray.retrieval.arrays import Mask
from memos_ray.retrieval.budget import pack
from memos_ray.retrieval.fuse import fuse
from memos_ray.retrieval.neighbours import SessionOrder
from memos_ray.retrieval.query import ParsedQuery
from memos_ray.types import ArmScore


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """What the caller wants back.

    `neighbours`: so many messages before and after each hit come right behind it. `threshold`: hits that
    score lower are left out. `budget_tokens`: as many hits as fit, `top_k` at most.
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
    """One hit. `score` is in 0..1 and comparable across cubes (see `relevance`).

    `arms`, `matched_terms` and `matched_entities` are filled for `explain`; `tokens` if there is a budget.
    `neighbour_of` is the slot of the hit that brought this one in, if it is here for that alone.
    """

    slot: int
    score: float
    arms: Mapping[str, ArmScore] = field(default_factory=dict)
    fused: float = 0.0
    neighbour_of: int | None = None
    matched_terms: tuple[str, ...] = ()
    matched_entities: tuple[str, ...] = ()
    tokens: int | None = None


def search(
    indexes: CubeIndexes,
    query: ParsedQuery,
    query_vector: NDArray[np.float32] | None,
    mask: Mask,
    options: SearchOptions | None = None,
) -> list[Ranked]:
    """The hits for `query` among the slots that `mask` shows, best first.

    `query_vector` is the embedded `query.dense_text`; None leaves the dense arm out.
    """
    options = options or SearchOptions()
    recipe = options.recipe
    depth = max(recipe.depth, options.top_k)
    rankings = rank_arms(indexes, query, query_vector, mask, recipe, depth)
    slots, fused = fuse({name: r[0] for name, r in rankings.items()}, recipe.weights, recipe.rrf_k)
    if not len(slots):
        return []
    highest = sum(recipe.weights.get(name, 1.0) for name in rankings) / (recipe.rrf_k + 1)
    scores = fused * (relevance(indexes, query, rankings) / highest)
    if options.threshold is not None:
        keep = int(np.count_nonzero(scores >= options.threshold))
        slots, fused, scores = slots[:keep], fused[:keep], scores[:keep]

    # Under a budget, a hit that does not fit leaves room for one further down.
    limit = options.top_k if options.budget_tokens is None else len(slots)
    hits = [
        Ranked(slot, score, fused=value)
        for slot, score, value in zip(
            slots[:limit].tolist(), scores[:limit].tolist(), fused[:limit].tolist(), strict=True
        )
    ]
    if options.neighbours and indexes.order is not None:
        hits = _with_neighbours(hits, indexes.order, mask, options.neighbours)
    hits = _packed(hits, indexes, options)
    return [_explained(hit, indexes, query, rankings) for hit in hits] if options.explain else hits


def relevance(indexes: CubeIndexes, query: ParsedQuery, rankings: Rankings) -> float:
    """How near this cube comes to the query at all, 0..1: the cosine of its nearest memory.

    Without vectors, the share of the query's terms that the best text hit holds. Scores are scaled by it, as
    fused ranks alone are just as high in a cube that knows nothing of the matter.
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


def _packed(hits: list[Ranked], indexes: CubeIndexes, options: SearchOptions) -> list[Ranked]:
    if options.budget_tokens is None:
        return hits[: options.top_k]
    rendered = indexes.rendered
    if rendered is None:
        raise Invalid("budget_tokens needs indexes with `rendered`", argument="budget_tokens")
    costs: list[int] = []

    def measured() -> Iterator[tuple[str, int]]:
        for hit in hits:
            text = rendered(hit.slot)
            costs.append(indexes.count_tokens(text))
            yield text, costs[-1]

    taken = pack(measured(), options.budget_tokens, most=options.top_k)
    return [replace(hits[i], tokens=costs[i]) for i in taken]


def _explained(hit: Ranked, indexes: CubeIndexes, query: ParsedQuery, rankings: Rankings) -> Ranked:
    arms = {}
    for name, (slots, scores) in rankings.items():
        at = np.flatnonzero(slots == hit.slot)
        if len(at):
            arms[name] = ArmScore(float(scores[at[0]]), int(at[0]) + 1)
    own = frozenset(indexes.entities_of(hit.slot)) if indexes.entities_of is not None else frozenset()
    return replace(
        hit,
        arms=arms,
        matched_terms=indexes.text.matched_terms(hit.slot, query.terms),
        matched_entities=tuple(name for name in query.entities if name in own),
    )
