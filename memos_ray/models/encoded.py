"""What an embedder makes of texts: a vector for each, and the vectors of its tokens where the model has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memos_ray.retrieval.query_vectors import QueryVectors
from memos_ray.retrieval.sketch import Sketches, sketcher

Vectors = NDArray[np.float32]


class TokenRows(NamedTuple):
    """One text's k tokens. `spans` is None if the model does not tell where they are."""

    ids: NDArray[np.int32]  # (k,)
    vectors: Vectors  # (k, d)
    spans: NDArray[np.int32] | None = None  # (k, 2)


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """The tokens of n texts, one text after the other. Text i has the rows `offsets[i]` to `offsets[i + 1]`.

    `offsets` (n + 1,) int64, `ids` (m,) int32 in the model's vocabulary, `vectors` (m, d) float32 as the model gives
    them, `spans` (m, 2) int32: where in its text each begins and ends, in characters. Special tokens and mere
    punctuation are left out, so a text may have none.
    """

    offsets: NDArray[np.int64]
    ids: NDArray[np.int32]
    vectors: Vectors
    spans: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, i: int) -> TokenRows:
        """Views of text i's tokens."""
        rows = slice(self.offsets[i], self.offsets[i + 1])
        return TokenRows(self.ids[rows], self.vectors[rows], None if self.spans is None else self.spans[rows])

    @staticmethod
    def join(texts: Sequence[TokenRows], dim: int) -> Tokens:
        """The tokens of each text, in order. `dim` is d where there are no texts at all."""
        offsets = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(rows.ids) for rows in texts], out=offsets[1:])
        if not texts:
            none = np.empty((0, 2), np.int32)
            return Tokens(offsets, np.empty(0, np.int32), np.empty((0, dim), np.float32), none)
        spans = [rows.spans for rows in texts if rows.spans is not None]
        return Tokens(
            offsets,
            np.concatenate([rows.ids for rows in texts]),
            np.concatenate([rows.vectors for rows in texts]),
            np.concatenate(spans) if len(spans) == len(texts) else None,
        )


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


@dataclass(frozen=True, slots=True, eq=False)
class Documents:
    """What a cube keeps of n texts: `vectors` (n, dim) float32, rows of length 1, and their tokens as sketches, None
    if the model has no vectors of tokens."""

    vectors: Vectors
    tokens: Sketches | None = None


def as_documents(found: Encoded) -> Documents:
    """Leaves of each token one bit a dimension. Takes about 10 µs a token."""
    tokens = found.tokens
    if tokens is None:
        return Documents(found.vectors)
    codes, scales = sketcher(tokens.vectors.shape[1]).sketch(tokens.vectors)
    return Documents(found.vectors, Sketches(np.diff(tokens.offsets), codes, scales))


def as_query(found: Encoded) -> QueryVectors:
    """The first text as a question; it must have been encoded with its tokens, if the model has any."""
    tokens = found.tokens
    if tokens is None:
        return QueryVectors(found.vectors[0])
    rows = tokens.of(0)
    return QueryVectors(found.vectors[0], sketcher(rows.vectors.shape[1]).rotate(rows.vectors), rows.spans)
