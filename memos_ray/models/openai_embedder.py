"""Embeddings from an OpenAI-compatible server (`POST <url>/embeddings`): OpenAI, Ollama, vLLM and others."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np

from memos_ray.errors import Invalid, Unavailable
from memos_ray.models.certificates import certificates
from memos_ray.models.embedder import check_contexts, check_texts, file_safe, unit_rows
from memos_ray.models.encoded import Encoded, Vectors

_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})  # worth another attempt
_OUR_FAULT = frozenset({400, 413, 422})  # the texts are not acceptable
_LONGEST_WAIT_S = 20.0


class OpenAIEmbedder:
    """A model behind HTTP. Its dimension is known after the first call."""

    def __init__(
        self,
        model: str,
        *,
        url: str = "https://api.openai.com/v1",
        api_key: str | None = None,
        batch: int = 64,
        attempts: int = 4,
        backoff_s: float = 0.5,
        timeout_s: float = 60.0,
    ) -> None:
        self._model = model
        self._url = url.rstrip("/")
        self._batch = batch
        self._attempts = attempts
        self._backoff_s = backoff_s
        self._dim: int | None = None
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout_s = timeout_s
        self._client: httpx.AsyncClient | None = None

    @property
    def fingerprint(self) -> str:
        """Of the server's address and the model's name: what the server runs cannot be seen from here."""
        digest = hashlib.sha256(f"{self._url}\n{self._model}".encode()).hexdigest()[:16]
        return f"openai-{file_safe(self._model)}-{digest}"

    @property
    def dim(self) -> int:
        """Length of the vectors. Raises `Unavailable` before the first successful `embed`."""
        if self._dim is None:
            raise Unavailable("the dimension is known after the first embed()", what="embedder")
        return self._dim

    @property
    def token_dim(self) -> int:
        """0: such servers answer with one vector for each text."""
        return 0

    async def encode(
        self, texts: Sequence[str], *, contexts: Sequence[str] | None = None, tokens: bool = False
    ) -> Encoded:
        """Vectors alone; contexts change nothing. See `embed` for what it raises."""
        check_texts(texts)
        check_contexts(contexts, texts)
        return Encoded(await self.embed(texts))

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """(len(texts), dim) float32 unit vectors.

        Raises `Invalid` for what is not a list of strings or what the server refuses, `Unavailable` when it
        does not answer after all attempts, or not with vectors. An empty list before the first call asks
        the server for nothing but the dimension.
        """
        check_texts(texts)
        if not len(texts):
            if self._dim is None:
                await self._request(["dimension"])
            return np.empty((0, self.dim), np.float32)
        parts = [
            await self._request(list(texts[i : i + self._batch])) for i in range(0, len(texts), self._batch)
        ]
        return np.concatenate(parts)

    async def close(self) -> None:
        """Closes the connections; the next call opens new ones."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _request(self, texts: list[str]) -> Vectors:
        body = {"model": self._model, "input": texts, "encoding_format": "float"}
        if self._client is None:
            self._client = httpx.AsyncClient(
                headers=self._headers, timeout=self._timeout_s, verify=certificates()
            )
        problem = ""
        for attempt in range(self._attempts):
            wait_s = self._backoff_s * 2**attempt
            try:
                response = await self._client.post(f"{self._url}/embeddings", json=body)
            except httpx.TransportError as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                if response.is_success:
                    return self._vectors(response, len(texts))
                problem = f"HTTP {response.status_code}: {response.text[:300]}"
                if response.status_code in _OUR_FAULT:
                    raise Invalid(f"{self._url} refuses the texts: {problem}", argument="texts")
                if response.status_code not in _AGAIN:
                    break
                wait_s = max(wait_s, _retry_after_s(response))
            if attempt + 1 < self._attempts:
                await asyncio.sleep(min(wait_s, _LONGEST_WAIT_S))
        raise Unavailable(f"embedder {self._model!r} at {self._url} failed: {problem}", what="embedder")

    def _vectors(self, response: httpx.Response, count: int) -> Vectors:
        try:
            data: list[dict[str, Any]] = sorted(response.json()["data"], key=lambda d: d["index"])
            vectors = np.array([d["embedding"] for d in data], np.float32)
        except (ValueError, KeyError, TypeError) as error:
            message = f"{self._url} does not answer like an embeddings server: {response.text[:300]}"
            raise Unavailable(message, what="embedder") from error
        expected = (count, self._dim or (vectors.shape[1] if vectors.ndim == 2 else 0))
        if vectors.shape != expected or not vectors.size or not np.isfinite(vectors).all():
            message = f"{self._url} gave vectors of shape {vectors.shape}, expected finite ones of {expected}"
            raise Unavailable(message, what="embedder")
        self._dim = expected[1]
        return unit_rows(vectors)


def _retry_after_s(response: httpx.Response) -> float:
    value = response.headers.get("retry-after", "")
    return float(value) if value.replace(".", "", 1).isdigit() else 0.0
