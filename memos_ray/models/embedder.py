"""What all embedders share, and one that needs no model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from memos_ray.errors import Invalid
from memos_ray.models.encoded import Encoded, Vectors


def check_texts(texts: Sequence[str], argument: str = "texts") -> None:
    """Raises `Invalid` unless `texts` is a sequence of strings that can be written as UTF-8."""
    if isinstance(texts, (str, bytes)) or not isinstance(texts, Sequence):
        raise Invalid(f"{argument} must be a list of strings, not {type(texts).__name__}", argument=argument)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise Invalid(f"{argument}[{i}] must be a string, not {type(text).__name__}", argument=argument)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            message = f"{argument}[{i}] holds a lone surrogate at character {error.start}"
            raise Invalid(message, argument=argument) from error


def check_contexts(contexts: Sequence[str] | None, texts: Sequence[str]) -> None:
    """Raises `Invalid` unless there is one string for each text, or None for all."""
    if contexts is None:
        return
    check_texts(contexts, "contexts")
    if len(contexts) != len(texts):
        message = f"there are {len(contexts)} contexts for {len(texts)} texts"
        raise Invalid(message, argument="contexts")


def unit_rows(vectors: NDArray[np.floating]) -> Vectors:
    """(n, dim) vectors -> the same directions in float32, of length 1. A zero row becomes (1, 0, 0, …)."""
    vectors = np.array(vectors, np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    zero = lengths[:, 0] == 0
    vectors[zero, 0] = 1.0
    lengths[zero] = 1.0
    vectors /= lengths
    return vectors


def file_safe(name: str) -> str:
    """`name` as part of a file name: letters, digits, `.`, `-`; lower case, at most 60 characters."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[-60:] or "model"


class HashEmbedder:
    """Words and their letter trigrams, hashed into a vector. For tests, and for benchmarks of storage.

    Deterministic on every machine. Texts that share words are near one another; it knows no meanings.
    """

    def __init__(self, dim: int = 384) -> None:
        if dim < 1:
            raise Invalid(f"dim must be at least 1, not {dim}", argument="dim")
        self._dim = dim

    @property
    def fingerprint(self) -> str:
        """`hash-v1-<dim>`."""
        return f"hash-v1-{self._dim}"

    @property
    def dim(self) -> int:
        """As given."""
        return self._dim

    @property
    def token_dim(self) -> int:
        """0: it has no token vectors."""
        return 0

    async def encode(
        self, texts: Sequence[str], *, contexts: Sequence[str] | None = None, tokens: bool = False
    ) -> Encoded:
        """Vectors alone; contexts change nothing. Raises `Invalid` for anything but strings."""
        check_contexts(contexts, texts)
        return Encoded(await self.embed(texts))

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """(len(texts), dim) float32 unit vectors. Raises `Invalid` for anything but strings."""
        check_texts(texts)
        vectors = np.zeros((len(texts), self._dim), np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            for word in re.findall(r"\w+", text.casefold()):
                for feature, weight in _features(word):
                    vector[(feature >> 1) % self._dim] += weight if feature & 1 else -weight
        return unit_rows(vectors)


@lru_cache(maxsize=65_536)
def _features(word: str) -> tuple[tuple[int, float], ...]:
    padded = f"<{word}>"
    grams = {padded[i : i + 3] for i in range(len(padded) - 2)}
    return ((crc32(word.encode()), 1.0), *((crc32(f"#{g}".encode()), 0.3) for g in sorted(grams)))
