"""Search by brute force, written from the definitions: what the indexes of a cube are checked against.

Shares with them the tokenizer and the formula's constants; nothing else. Slow on purpose.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from memos_ray.retrieval.arms import TEXT
from memos_ray.retrieval.bm25 import K1, B
from memos_ray.retrieval.tokens import query_terms, tokenize
from memos_ray.types import MemoryItem, SearchHit

_TOLERANCE = 1e-4  # the indexes add float32


def dense_scores(
    items: Sequence[MemoryItem], vectors: NDArray[np.float32], query: NDArray[np.float32]
) -> dict[str, float]:
    """Memory id -> cosine."""
    cosines = vectors.astype(np.float64) @ query.astype(np.float64)
    return {item.id: float(c) for item, c in zip(items, cosines, strict=True)}


def text_scores(items: Sequence[MemoryItem], query: str) -> dict[str, float]:
    """Memory id -> BM25 (formula: `retrieval.bm25`)."""
    terms = query_terms(query)
    documents = [Counter(tokenize(item.text)) for item in items]
    lengths = [sum(d.values()) for d in documents]
    average = max(1.0, sum(lengths) / max(1, len(lengths)))
    idf = {}
    for term in terms:
        holding = sum(term in d for d in documents)
        idf[term] = math.log1p((len(documents) - holding + 0.5) / (holding + 0.5))
    own = {}
    for item, document, length in zip(items, documents, lengths, strict=True):
        norm = K1 * (1 - B + B * length / average)
        own[item.id] = sum(idf[t] * document[t] * (K1 + 1) / (document[t] + norm) for t in terms)
    return own


def difference(arm: str, expected: Mapping[str, float], hits: Sequence[SearchHit], k: int = 10) -> str | None:
    """What is wrong with the first `k` ranks of an arm, as `hits` explain them; None if they are exact.

    Equal scores may come in any order, so scores are compared rank by rank, and each with its own memory's.
    """
    found = {}
    for hit in hits:
        said = hit.explanation.arms.get(arm) if hit.explanation is not None else None
        if said is not None and said.rank <= k:
            found[said.rank] = (hit.item.id, said.score)
    best = sorted((s for s in expected.values() if arm != TEXT or s > 0), reverse=True)[:k]
    for rank, score in enumerate(best, 1):
        if rank not in found:
            return f"{arm}: nothing at rank {rank}, brute force has {score:.4f}"
        memory_id, got = found[rank]
        if abs(got - score) > _TOLERANCE * max(1.0, abs(score)):
            return f"{arm}: {got:.4f} at rank {rank}, brute force has {score:.4f}"
        if abs(got - expected[memory_id]) > _TOLERANCE * max(1.0, abs(got)):
            return f"{arm}: {memory_id} scores {got:.4f}, by brute force {expected[memory_id]:.4f}"
    return None
