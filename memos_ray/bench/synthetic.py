"""Conversations of any length that load the indexes as real ones do. Deterministic by seed.

About 45 % of the tokens are English function words; the rest is drawn from 30,000 pseudo-words with the
Zipf-Mandelbrot law p(rank) ~ 1 / (rank + 50), so that the commonest content word stands in about 3 % of the
texts, as in the example conversation. Every fifth text names somebody. For timings only: it means nothing.
The embedder that goes with it costs next to nothing and gives every text a direction of its own.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memos_ray.models.encoded import Documents
from memos_ray.retrieval.query_vectors import QueryVectors
from memos_ray.retrieval.sketch import Sketches, code_width

_FUNCTION_WORDS = re.findall(
    r"\S+", "the a and to of in it is was that for on with I you my at we but so have had not"
)
_TOKEN = re.compile(r"\w+")
_ONSETS = re.findall(r"\S+", "b br c d dr f g gr h j k l m n p pr r s st t tr v w")
_VOWELS = re.findall(r"\S+", "a e i o u ai ea oo")
_CODAS = re.findall(r"\S+", "b ck d g l m n nd p r rk sh st t")
_WORDS = 30_000
_SHIFT = 50.0
_LENGTH = (18, 42)  # tokens of a text: about 30, as in the storage measurements
_SESSION = 20  # turns
_START = datetime(2020, 1, 1, 9, tzinfo=UTC)


class Synthetic:
    """A source of turns and of queries about them."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self._words = _vocabulary()
        weights = 1.0 / (np.arange(len(self._words)) + _SHIFT)
        self._cumulative = np.cumsum(weights / weights.sum())
        self._names = [word.capitalize() for word in self._words[-200:]]

    def text(self) -> str:
        """One turn."""
        n = int(self._random.integers(*_LENGTH))
        picked = np.searchsorted(self._cumulative, self._random.random(n))
        function = self._random.random(n) < 0.45
        glue = self._random.integers(len(_FUNCTION_WORDS), size=n)
        words = [
            _FUNCTION_WORDS[g] if f else self._words[min(int(p), _WORDS - 1)]
            for p, f, g in zip(picked, function, glue, strict=True)
        ]
        if self._random.random() < 0.2:
            words.insert(n // 2, self._names[int(self._random.integers(len(self._names)))])
        return " ".join(words).capitalize() + "."

    def sessions(self, n_turns: int, first: int = 0) -> Iterator[dict[str, Any]]:
        """Arguments of `add`, a session each, `n_turns` turns in all; sessions are numbered from `first`."""
        made = 0
        number = first
        while made < n_turns:
            size = min(_SESSION, n_turns - made)
            yield {
                "messages": [
                    {
                        "role": "user",
                        "content": self.text(),
                        "speaker": ("Ada", "Ben")[i % 2],
                        "turn": f"{number}:{i + 1}",
                    }
                    for i in range(size)
                ],
                "timestamp": _START + timedelta(hours=7 * number),
                "conversation": "synthetic",
                "session": str(number),
            }
            made += size
            number += 1

    def query_about(self, text: str) -> str:
        """A question of eight words: five of the text's, three function words."""
        words = text.rstrip(".").split()
        chosen = self._random.choice(len(words), size=min(5, len(words)), replace=False)
        return "what about " + " ".join(words[int(i)] for i in chosen) + " then"


def _vocabulary() -> list[str]:
    """30,000 distinct pronounceable words, the short ones first."""
    syllables = [o + v for o in _ONSETS for v in _VOWELS]
    words = [s + c for s in syllables for c in _CODAS]
    for second in syllables:
        if len(words) >= _WORDS:
            break
        words += [first + second + _CODAS[(len(first) + len(second)) % len(_CODAS)] for first in syllables]
    return list(dict.fromkeys(words))[:_WORDS]


class SyntheticEmbedder:
    """Random unit vectors, the same for the same text, and random tokens, one a word. Remembers its last query."""

    fingerprint = "synthetic-384"
    dim = 384
    token_dim = 384

    def __init__(self) -> None:
        self.last_query = ""
        self._queries: dict[str, QueryVectors] = {}  # as the shared embedder remembers repeated queries

    async def ready(self) -> object:
        """At once."""
        return None

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(len(texts), 384) float32 unit vectors."""
        rows = [
            np.random.default_rng(zlib.crc32(t.encode())).standard_normal(self.dim, np.float32) for t in texts
        ]
        matrix = np.array(rows, np.float32).reshape(len(texts), self.dim)
        matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
        return matrix

    async def encode_documents(self, texts: Sequence[str], contexts: Sequence[str]) -> Documents:
        """Contexts change nothing."""
        counts = np.array([len(_TOKEN.findall(text)) for text in texts], np.int64)
        width, total = code_width(self.token_dim), int(counts.sum())
        bits = b"".join(
            hashlib.shake_256(text.encode()).digest(count * width)
            for text, count in zip(texts, counts.tolist(), strict=True)
        )
        codes = np.frombuffer(bits, np.uint8).reshape(total, width)
        scales = np.full(total, (2 / np.pi / self.token_dim) ** 0.5, np.float16)  # as of normal numbers
        return Documents(await self.embed(texts), Sketches(counts, codes, scales))

    async def encode_query(self, text: str) -> QueryVectors:
        """A vector for the text, and one for each word."""
        self.last_query = text
        if (known := self._queries.get(text)) is None:
            words = list(_TOKEN.finditer(text))
            spans = np.array([word.span() for word in words], np.int32).reshape(-1, 2)
            tokens = await self.embed([word.group() for word in words])
            known = self._queries[text] = QueryVectors((await self.embed([text]))[0], tokens, spans)
        return known
