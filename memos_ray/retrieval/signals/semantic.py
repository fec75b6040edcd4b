"""Meaning, by one vector a memory: the cosine of the query with the memory, which was read with what came before it.

dense = cos(q, m)
"""

from __future__ import annotations

from memos_ray.retrieval.pool import Pool
from memos_ray.retrieval.signals import Signals


def semantic(pool: Pool) -> Signals:
    """`dense`; nothing without vectors."""
    return {} if pool.dense is None else {"dense": pool.at(pool.dense)}
