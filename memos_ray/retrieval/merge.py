"""Hits of several cubes -> one list. Knows hits only, not where the cubes are."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from memos_ray.types import SearchHit


def merge_hits(per_cube: Sequence[Sequence[SearchHit]]) -> list[SearchHit]:
    """The hits of all cubes by `score`, best first.

    Scores are chances, comparable across cubes. Fused ranks alone would say nothing (every cube has a first hit,
    however poor), so a search without the ranker scales its scores by how near its best hit is to the query. Order
    within a cube is kept. Equal scores rank by the cubes' order in `per_cube`.
    """
    ordered = sorted((hit for hits in per_cube for hit in hits), key=attrgetter("score"), reverse=True)
    distinct: dict[tuple[str, str], SearchHit] = {}
    for hit in ordered:
        distinct.setdefault((hit.cube_id, hit.item.id), hit)
    return list(distinct.values())
