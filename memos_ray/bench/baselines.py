"""Exact baselines over a fixed list of texts, written from the definitions: BM25 over given terms, and cosine.

Neither shares code with the indexes of a cube.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Terms = Callable[[str], Sequence[str]]
K1, B = 1.2, 0.75  # Robertson & Zaragoza (2009), the usual values


class Bm25:
    """BM25 with idf = ln(1 + (N - n + 0.5) / (n + 0.5))."""

    def __init__(self, texts: Sequence[str], terms: Terms, query_terms: Terms | None = None) -> None:
        self._query_terms = query_terms or terms
        counted = [Counter(terms(text)) for text in texts]
        lengths = [sum(c.values()) for c in counted]
        average = sum(lengths) / max(1, len(lengths))
        self._norms = [K1 * (1 - B + B * length / average) for length in lengths]
        self._postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, counts in enumerate(counted):
            for term, n in counts.items():
                self._postings[term].append((number, n))

    def ranks(self, queries: Sequence[str], k: int) -> list[list[int]]:
        """For every query, `rank`."""
        return [self.rank(query, k) for query in queries]

    def rank(self, query: str, k: int) -> list[int]:
        """Numbers of the best `k` texts that share a term with the query, best first; ties by number."""
        scores: dict[int, float] = defaultdict(float)
        for term in self._query_terms(query):
            posted = self._postings.get(term, ())
            idf = math.log1p((len(self._norms) - len(posted) + 0.5) / (len(posted) + 0.5))
            for number, n in posted:
                scores[number] += idf * n * (K1 + 1) / (n + self._norms[number])
        return sorted(scores, key=lambda number: (-scores[number], number))[:k]


class Dense:
    """Cosine over vectors of a sentence-transformers model, which are computed here, on one core."""

    def __init__(self, texts: Sequence[str], model: Any) -> None:
        import torch

        torch.set_num_threads(1)  # a second thread that waits for a busy core costs more than it brings
        self._model = model
        self._matrix = self._embed(texts)

    def ranks(self, queries: Sequence[str], k: int) -> list[list[int]]:
        """For every query, the numbers of the best `k` texts, best first."""
        order = np.argsort(-(self._embed(queries) @ self._matrix.T), axis=1, kind="stable")
        return [[int(number) for number in row[:k]] for row in order]

    def _embed(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        found = self._model.encode(
            list(texts), batch_size=32, show_progress_bar=False, normalize_embeddings=True
        )
        return np.asarray(found, np.float32)


def bigrams(text: str) -> list[str]:
    """Pairs of neighbouring characters, without white space and punctuation between them."""
    runs = "".join(c if c.isalnum() else " " for c in text.lower()).split()
    return [run[i : i + 2] for run in runs for i in range(max(1, len(run) - 1))]
