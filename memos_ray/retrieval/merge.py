"""Hits of several cubes -> one list. Knows hits only, not where the cubes are."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from memos_ray.protocols import TokenCounter
from memos_ray.retrieval.budget import approximate_tokens, pack
from memos_ray.retrieval.render import render
from memos_ray.types import SearchHit


def merge_hits(
    per_cube: Sequence[Sequence[SearchHit]],
    *,
    top_k: int,
    budget_tokens: int | None = None,
    count_tokens: TokenCounter = approximate_tokens,
) -> list[SearchHit]:
    """The `top_k` best hits of all cubes by `score`, packed into `budget_tokens` if given.

    Fused ranks alone say nothing across cubes (every cube has a first hit, however poor), so a cube's search
    scales its scores by how near its best hit is to the query (see `search.relevance`); that is what is
    compared here. Order within a cube is kept. Equal scores rank by the cubes' order in `per_cube`.
    """
    ordered = sorted((hit for hits in per_cube for hit in hits), key=attrgetter("score"), reverse=True)
    distinct: dict[tuple[str, str], SearchHit] = {}
    for hit in ordered:
        distinct.setdefault((hit.cube_id, hit.item.id), hit)
    hits = list(distinct.values())
    if budget_tokens is not None:
        texts = [render(hit.item) for hit in hits]
        tokens = [
            hit.tokens if hit.tokens is not None else count_tokens(text)
            for hit, text in zip(hits, texts, strict=True)
        ]
        hits = [hits[i] for i in pack(zip(texts, tokens, strict=True), budget_tokens, most=top_k)]
    return hits[:top_k]
