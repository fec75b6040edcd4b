"""The arms of one cube's search: each ranks slots with raw scores. Knows nothing of fusion or packing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from memos_ray.protocols import TokenCounter
from memos_ray.retrieval import graph_arm
from memos_ray.retrieval.arrays import Mask, Scores, Slots, best, fit_mask
from memos_ray.retrieval.bm25 import TextIndex
from memos_ray.retrieval.budget import approximate_tokens
from memos_ray.retrieval.dense import DenseIndex
from memos_ray.retrieval.fuse import fuse
from memos_ray.retrieval.graph_arm import Ranker
from memos_ray.retrieval.neighbours import SessionOrder
from memos_ray.retrieval.query import ParsedQuery
from memos_ray.retrieval.speakers import SpeakerIndex

DENSE, TEXT, GRAPH = "dense", "text", "graph"
DENSE_SPEAKER, TEXT_SPEAKER = "dense of speaker", "text of speaker"

Rankings = dict[str, tuple[Slots, Scores]]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How arms are weighed and fused. An arm with weight 0 is not asked.

    `context` is the share of its score that a message lends to the one after it: an answer is often found by
    the words of the question before it. `depth` is how many hits an arm ranks.

    Recall in the first 10 on LoCoMo, MiniLM: text 57.0, dense 58.0, both fused 62.2, with context 67.4, with
    k = 20 instead of 60 68.6, with the speakers' rankings 73.0.
    """

    weights: Mapping[str, float] = field(
        default_factory=lambda: {DENSE: 1.0, TEXT: 1.0, DENSE_SPEAKER: 1.0, TEXT_SPEAKER: 1.0, GRAPH: 0.3}
    )
    rrf_k: float = 20.0
    context: Mapping[str, float] = field(default_factory=lambda: {DENSE: 0.3, TEXT: 0.5})
    depth: int = 200

    def asks(self, arm: str) -> bool:
        """Whether `arm` has a say."""
        return self.weights.get(arm, 1.0) > 0


DEFAULT_RECIPE = Recipe()


@dataclass(frozen=True, slots=True)
class CubeIndexes:
    """What one cube is searched with; all of it speaks of slots.

    `rendered(slot)` is the text a reader gets (needed for `budget_tokens`); `entities_of(slot)` names
    a memory's entities (for explanations).
    """

    text: TextIndex
    dense: DenseIndex | None = None
    graph: Ranker | None = None
    order: SessionOrder | None = None
    speakers: SpeakerIndex | None = None
    rendered: Callable[[int], str] | None = None
    entities_of: Callable[[int], Collection[str]] | None = None
    count_tokens: TokenCounter = approximate_tokens


def rank_arms(
    indexes: CubeIndexes,
    query: ParsedQuery,
    query_vector: NDArray[np.float32] | None,
    mask: Mask,
    recipe: Recipe,
    depth: int,
) -> Rankings:
    """The first `depth` slots under `mask` and their raw scores, for every arm that could be asked."""
    rankings: Rankings = {}
    before = None
    if indexes.order is not None and any(recipe.context.values()):
        before = indexes.order.previous(mask)
    spoken = None
    if indexes.speakers is not None and query.speakers:
        spoken = indexes.speakers.spoken_by(query.speakers)

    if indexes.dense is not None and query_vector is not None and recipe.asks(DENSE):
        cosines = indexes.dense.scores(query_vector, mask)
        scores = _with_context(cosines, before, mask, recipe.context.get(DENSE, 0.0))
        rankings[DENSE] = best(scores, depth)
        if spoken is not None and recipe.asks(DENSE_SPEAKER):
            own = np.where(fit_mask(spoken, len(scores)), scores, np.float32(-np.inf))
            rankings[DENSE_SPEAKER] = best(own, depth)
    if query.terms and recipe.asks(TEXT):
        scores = _with_context(
            indexes.text.scores(query.terms, mask), before, mask, recipe.context.get(TEXT, 0.0)
        )
        rankings[TEXT] = best(scores, depth, above=0.0)
        if spoken is not None and recipe.asks(TEXT_SPEAKER):
            own = np.where(fit_mask(spoken, len(scores)), scores, np.float32(0))
            rankings[TEXT_SPEAKER] = best(own, depth, above=0.0)
    if indexes.graph is not None and recipe.asks(GRAPH):
        # The first few of each are enough to say which few come first of all.
        heads = {name: ranked[0][: 2 * graph_arm.SEEDS] for name, ranked in rankings.items()}
        first, _ = fuse(heads, recipe.weights, recipe.rrf_k)
        rankings[GRAPH] = graph_arm.rank(indexes.graph, first, query.entities, mask, depth)
    return rankings


def _with_context(scores: Scores, before: Slots | None, mask: Mask, share: float) -> Scores:
    """`scores` plus `share` of the score of the message before. Slots without one (-inf), or that `mask` hides,
    stay without."""
    if before is None or not share or not len(before):
        return scores
    size = min(len(scores), len(before))
    before = before[:size]
    # Neither -inf (no vector) nor a negative cosine says anything against the next message.
    lent = np.maximum(scores, 0).take(before, mode="clip")
    lent *= (before >= 0) & (before < len(scores)) & fit_mask(mask, size)
    lent *= np.float32(share)
    result = scores.copy()
    result[:size] += lent
    return result
