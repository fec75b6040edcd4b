"""The arms of one cube's search: each ranks slots with raw scores, and its first ones become candidates.

    dense    cosine with the query's vector          window   BM25, together with the message before
    text     BM25                                    graph    PageRank from the first hits and the query's entities
    dense and window once more among what the speakers named in the query said

Knows nothing of the ranker or of packing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memos_ray import telemetry
from memos_ray.retrieval import graph_arm
from memos_ray.retrieval.arrays import Mask, Scores, Slots, best, fit_mask
from memos_ray.retrieval.bm25 import TextIndex
from memos_ray.retrieval.dense import DenseIndex
from memos_ray.retrieval.fuse import fuse
from memos_ray.retrieval.graph_arm import Ranker
from memos_ray.retrieval.lexical import Lexical, lexical
from memos_ray.retrieval.neighbours import SessionOrder
from memos_ray.retrieval.pool import Facts
from memos_ray.retrieval.query import ParsedQuery
from memos_ray.retrieval.signals import Signal
from memos_ray.retrieval.speakers import SpeakerIndex
from memos_ray.retrieval.token_index import TokenIndex

DENSE, TEXT, WINDOW, GRAPH = "dense", "text", "window", "graph"
DENSE_SPEAKER, WINDOW_SPEAKER = "dense of speaker", "window of speaker"
WEIGHTS = {GRAPH: 0.3}  # in the fusion that orders what comes after the candidates; others weigh 1
RRF_K = 20.0

Rankings = dict[str, tuple[Slots, Scores]]


@dataclass(frozen=True, slots=True)
class EmbeddedQuery:
    """The embedded query: `vector` (dim,), and of its tokens `tokens` (t, dim) and `weights` (t,), or None."""

    vector: NDArray[np.float32]
    tokens: NDArray[np.float32] | None = None
    weights: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class CubeIndexes:
    """What one cube is searched with; all of it speaks of slots.

    `facts(slots)` says what they are, `texts(slots)` what they hold (needed for `budget_tokens`); `entities_of(slot)`
    names a memory's entities (for explanations); `shared` is `signals.hop.SharedWords` without
    the given terms, under a mask.
    """

    text: TextIndex
    facts: Callable[[Slots], Facts]
    dense: DenseIndex | None = None
    tokens: TokenIndex | None = None
    graph: Ranker | None = None
    order: SessionOrder | None = None
    speakers: SpeakerIndex | None = None
    texts: Callable[[Sequence[int]], Sequence[str]] | None = None
    entities_of: Callable[[int], Collection[str]] | None = None
    shared: Callable[[Slots, Slots, Sequence[str], Mask], Signal] | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What the arms found: their rankings, and the scores of all slots behind these; no `lexical` without windows."""

    rankings: Rankings
    lexical: Lexical | None
    dense: Scores | None
    before: Slots | None
    spoken: Mask | None


def ask_arms(
    indexes: CubeIndexes,
    query: ParsedQuery,
    vectors: EmbeddedQuery | None,
    mask: Mask,
    depth: int,
    *,
    windows: bool = True,
) -> Asked:
    """The first `depth` slots under `mask` and their raw scores, for every arm that could be asked."""
    rankings: Rankings = {}
    stages = telemetry.Stages()
    before = indexes.order.previous(mask) if indexes.order is not None and windows else None
    spoken = None
    if indexes.speakers is not None and query.speakers:
        spoken = indexes.speakers.spoken_by(query.speakers)

    dense = None
    if indexes.dense is not None and vectors is not None:
        dense = indexes.dense.scores(vectors.vector, mask)
        rankings[DENSE] = best(dense, depth)
        if spoken is not None:
            own = np.where(fit_mask(spoken, len(dense)), dense, np.float32(-np.inf))
            rankings[DENSE_SPEAKER] = best(own, depth)
        stages.done("dense")
    answers = before if before is None or indexes.speakers is None else indexes.speakers.answers(before)
    found = lexical(indexes.text, query.terms, query.names, mask, answers) if windows else None
    if query.terms and found is None:
        rankings[TEXT] = indexes.text.score(query.terms, mask, depth)
    elif query.terms and found is not None:
        rankings[TEXT] = best(found.alone, depth, above=0.0)
        rankings[WINDOW] = best(found.window, depth, above=0.0)
        if spoken is not None:
            own = np.where(fit_mask(spoken, len(found.window)), found.window, np.float32(0))
            rankings[WINDOW_SPEAKER] = best(own, depth, above=0.0)
    stages.done("text")
    if indexes.graph is not None:
        # The first few of each are enough to say which few come first of all.
        heads = {name: ranked[0][: 2 * graph_arm.SEEDS] for name, ranked in rankings.items()}
        first, _ = fuse(heads, WEIGHTS, RRF_K)
        rankings[GRAPH] = graph_arm.rank(indexes.graph, first, query.entities, mask, depth)
        stages.done("graph")
    return Asked(rankings, found, dense, before, spoken)


def candidates(rankings: Rankings, each: int) -> Slots:
    """The first `each` of every arm, ascending and distinct."""
    heads: Sequence[Slots] = [slots[:each] for slots, _ in rankings.values()]
    return np.unique(np.concatenate(heads)) if heads else np.empty(0, np.intp)
