"""What a reranker says of the first hits, joined to the ranker's scores.

The reranker decides who stands where; the scores stay with the places: the hit that it puts first gets the highest of
the chances that the ranker gave, and so on down. Rerankers' own scores are comparable within one call at most, so
nothing could be added to a chance, or compared with a threshold. This way scores fall along the returned order, hits
beyond those that were reranked keep theirs, and a threshold lets as many hits through as without the reranker: it only
says which.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from memos_ray.errors import Unavailable
from memos_ray.types import RerankScore, SearchHit

RERANKED = 50
"""So many of the best hits, of all cubes of a search together, are reranked."""

Key = tuple[str, str]  # (cube id, memory id): ids of memories are distinct within a cube


@dataclass(frozen=True, slots=True)
class Places:
    """What one cube is told: scores by memory id; every other memory of it scores `rest` at most."""

    scores: Mapping[str, float]
    rest: float


@dataclass(frozen=True, slots=True)
class Reranked:
    """The first hits of a search after reranking. `by` is the reranker's fingerprint; `error` says why there is none of
    it: then the ranker's order stays."""

    by: str | None = None
    error: str | None = None
    scores: Mapping[Key, float] = field(default_factory=dict)
    said: Mapping[Key, RerankScore] = field(default_factory=dict)
    rest: float = math.inf

    def places(self, cube_id: str) -> Places | None:
        """For the cube; None if nothing was reranked at all."""
        if not self.scores:
            return None
        return Places({memory: s for (cube, memory), s in self.scores.items() if cube == cube_id}, self.rest)

    def explained(self, hits: Sequence[SearchHit]) -> list[SearchHit]:
        """`hits`, their explanations with what the reranker said of them."""
        return [
            hit
            if hit.explanation is None
            else replace(
                hit, explanation=replace(hit.explanation, rerank=self.said.get((hit.cube_id, hit.item.id)))
            )
            for hit in hits
        ]

    def about(self) -> dict[str, str | int | None]:
        """For the answer: by whom, how many, and what went wrong."""
        return {"by": self.by, "reranked": len(self.scores), "error": self.error}


def reranked(hits: Sequence[SearchHit], said: Sequence[float], by: str) -> Reranked:
    """`hits` as the ranker orders them, and what the reranker said of each (the higher, the better).

    Equal ones stay in the ranker's order. Raises `Unavailable` for scores that are none.
    """
    values = np.asarray(said, np.float64)
    if values.shape != (len(hits),) or not np.isfinite(values).all():
        raise Unavailable(f"{by} gave no finite score for each text", what="reranker")
    order = np.argsort(-values, kind="stable").tolist()
    lowest = min((hit.score for hit in hits), default=math.inf)
    *scores, _ = falling([*(hit.score for hit in hits), lowest])  # all above what others may have at most
    keys = [(hits[i].cube_id, hits[i].item.id) for i in order]
    return Reranked(
        by=by,
        scores=dict(zip(keys, scores, strict=True)),
        said={
            key: RerankScore(float(values[i]), rank, i + 1)
            for rank, (key, i) in enumerate(zip(keys, order, strict=True), 1)
        },
        rest=lowest,
    )


def falling(scores: Sequence[float]) -> list[float]:
    """`scores`, highest first, each strictly above the next one, by a last digit where they are equal: scores alone
    then say the order, also after hits of several cubes have been merged by them. None is lowered, so that none falls
    below a threshold."""
    result: list[float] = []
    for score in sorted(scores):
        result.append(max(score, math.nextafter(result[-1], math.inf)) if result else score)
    return result[::-1]
