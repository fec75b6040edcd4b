"""Reranking by any sentence-transformers cross-encoder on this machine: query and text are read together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memos_ray.errors import Overloaded, Unavailable
from memos_ray.models.embedder import check_texts, file_safe
from memos_ray.models.sentence_transformer import model_fingerprint

_LONG_TOKEN = 16  # characters: what lies further on, no model reads; its tokenizer would, for quadratic time
_BATCH = 32


class CrossEncoderReranker:
    """`Reranker` over a model with one output, from a folder or the hub. On the CPU, in one thread of its own.

    Loading takes seconds and happens in the constructor. A pair longer than the model reads is cut by it.
    """

    def __init__(
        self, model: str, *, threads: int = 0, batch: int = _BATCH, queue_limit: int = 10_000
    ) -> None:
        """`threads` of torch, 0 for its default; at most `queue_limit` texts wait.

        Raises `Unavailable` if the model cannot be loaded, or has not one output.
        """
        self._model = _load(model, threads)
        self._fingerprint = model_fingerprint(f"cross-encoder-{file_safe(Path(model).name)}", self._model)
        self._batch, self._queue_limit = batch, queue_limit
        self._read = _LONG_TOKEN * min(self._model.max_seq_length or 512, 8_192)
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, "reranker")

    @property
    def fingerprint(self) -> str:
        """`cross-encoder-<name>-<16 hex digits>`: SHA-256 of weights, tokenizer and sequence length."""
        return self._fingerprint

    async def rerank(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """The model's outputs before any sigmoid, which would make the surest ones equal. See `Reranker.rerank`.

        Raises `Invalid` for anything but strings, `Overloaded` when too much waits already, and `Unavailable`.
        """
        check_texts([query], "query")
        check_texts(texts)
        if not len(texts):
            return np.empty(0, np.float32)
        if self._waiting and self._waiting + len(texts) > self._queue_limit:
            raise Overloaded(f"{self._waiting} texts wait to be reranked", retry_after_s=1.0)
        self._waiting += len(texts)
        try:
            loop = asyncio.get_running_loop()
            scores = await loop.run_in_executor(self._thread, self._score, query, list(texts))
        finally:
            self._waiting -= len(texts)
        if not np.isfinite(scores).all():
            raise Unavailable(f"{self._fingerprint} gave scores that are no numbers", what="reranker")
        return scores

    def close(self) -> None:
        """Ends the thread, once it is done with what it has."""
        self._thread.shutdown()

    def _score(self, query: str, texts: list[str]) -> NDArray[np.float32]:
        import torch

        # Sorts by length, so that batches pad little, and switches gradients off.
        scores = self._model.predict(
            [(query[: self._read], text[: self._read]) for text in texts],
            batch_size=self._batch,
            show_progress_bar=False,
            activation_fn=torch.nn.Identity(),
        )
        return np.asarray(scores, np.float32).reshape(len(texts))


def _load(model: str, threads: int) -> Any:
    try:
        import torch
        from sentence_transformers import CrossEncoder
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        if threads:
            torch.set_num_threads(threads)
        loaded = CrossEncoder(model, device="cpu", local_files_only=os.path.isdir(model))
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        message = f"the cross-encoder {model!r} cannot be loaded: {error}; give a folder or a hub id"
        raise Unavailable(message, what="reranker") from error
    if loaded.num_labels != 1:
        message = f"the cross-encoder {model!r} has {loaded.num_labels} outputs; a reranker has one"
        raise Unavailable(message, what="reranker")
    return loaded
