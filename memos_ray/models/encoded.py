"""What an embedder makes of texts: a vector for each, and the vectors of its tokens where the model has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
TokenRows = tuple[NDArray[np.int32], NDArray[Any]]
"""(k,) token ids and (k, d) their vectors: one text's tokens."""


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """The tokens of n texts, one text after the other. Text i has the rows `offsets[i]` to `offsets[i + 1]`.

    `offsets` (n + 1,) int64, `ids` (m,) int32 in the model's vocabulary, `vectors` (m, d): float32 as the model
    gives them, or int8 of fewer dimensions (`token_vectors.compress`). Special tokens and mere punctuation are left
    out, so a text may have none.
    """

    offsets: NDArray[np.int64]
    ids: NDArray[np.int32]
    vectors: NDArray[Any]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, i: int) -> TokenRows:
        """Views of text i's tokens."""
        rows = slice(self.offsets[i], self.offsets[i + 1])
        return self.ids[rows], self.vectors[rows]

    @staticmethod
    def join(texts: Sequence[TokenRows], dim: int) -> Tokens:
        """The tokens of each text, in order. `dim` is d where there are no texts at all."""
        offsets = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(ids) for ids, _ in texts], out=offsets[1:])
        if not texts:
            return Tokens(offsets, np.empty(0, np.int32), np.empty((0, dim), np.float32))
        ids, vectors = (np.concatenate(column) for column in zip(*texts, strict=True))
        return Tokens(offsets, ids, vectors)


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """`vectors` (n, dim) float32, rows of length 1. `tokens` is None if not asked for, or if the model has none."""

    vectors: Vectors
    tokens: Tokens | None = None

    def rows(self) -> Iterable[tuple[Vectors, TokenRows | None]]:
        """Each text's vector and tokens, as views."""
        for i, vector in enumerate(self.vectors):
            yield vector, None if self.tokens is None else self.tokens.of(i)

    @staticmethod
    def join(texts: Sequence[tuple[Vectors, TokenRows | None]], dim: int, token_dim: int) -> Encoded:
        """Of texts one by one; tokens only if each has them. `token_dim` 0: the model has none."""
        vectors = np.empty((len(texts), dim), np.float32)
        for vector, (row, _) in zip(vectors, texts, strict=True):
            vector[:] = row
        tokens = [rows for _, rows in texts if rows is not None]
        whole = token_dim > 0 and len(tokens) == len(texts)
        return Encoded(vectors, Tokens.join(tokens, token_dim) if whole else None)
