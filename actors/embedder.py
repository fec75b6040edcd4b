"""The shared embedder: one model for all cubes, batching across them. The only actor that loads a model."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine, Sequence
from typing import Any

from actors.once import Once
from actors.options import with_all_cores
from memos_ray.config import Settings
from memos_ray.errors import MemosError, Unavailable
from memos_ray.models.batching import BatchingEmbedder
from memos_ray.models.encoded import Documents
from memos_ray.models.factory import from_hub, make_embedder
from memos_ray.retrieval.query_vectors import QueryVectors
from memos_ray.wire import EmbedderInfo, Reply

log = logging.getLogger(__name__)


class EmbedderActor:
    """Hosts a `BatchingEmbedder`. Loading the model happens once, on the first call that needs it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loaded = Once(lambda: self._load())

    async def info(self) -> Reply:
        """`EmbedderInfo`, once the model is loaded."""
        return await self._reply(self._info())

    async def encode_documents(self, texts: Sequence[str], contexts: Sequence[str]) -> Reply:
        """`Documents`: arrays, which Ray hands over without copying them; of a token 50 bytes."""
        return await self._reply(self._encode_documents(texts, contexts))

    async def encode_query(self, text: str) -> Reply:
        """`QueryVectors`. Queries go before documents."""
        return await self._reply(self._encode_query(text))

    async def work(self) -> tuple[int, int]:
        """(batches given to the model, texts in them) since it was loaded, for those who want to measure it."""
        embedder = await self._ready()
        return embedder.passes, embedder.texts

    def pid(self) -> int:
        """The process, for those who want to measure it."""
        return os.getpid()

    async def _reply(self, work: Coroutine[Any, Any, Any]) -> Reply:
        try:
            return Reply(await work)
        except MemosError as error:
            return Reply(error=error)
        except Exception as error:  # models and HTTP raise anything; callers know and retry `Unavailable`
            log.exception("the embedder failed")
            return Reply(
                error=Unavailable(f"the embedder failed: {type(error).__name__}: {error}", what="embedder")
            )

    async def _info(self) -> EmbedderInfo:
        embedder = await self._ready()
        return EmbedderInfo(embedder.fingerprint, embedder.dim, embedder.token_dim)

    async def _encode_documents(self, texts: Sequence[str], contexts: Sequence[str]) -> Documents:
        return await (await self._ready()).encode_documents(texts, contexts)

    async def _encode_query(self, text: str) -> QueryVectors:
        return await (await self._ready()).encode_query(text)

    async def _ready(self) -> BatchingEmbedder:
        return await self._loaded()

    async def _load(self) -> BatchingEmbedder:
        if not from_hub(
            self._settings.embedder
        ):  # so that nothing waits for a network which may not be there
            os.environ.setdefault("HF_HUB_OFFLINE", "1")
        inner = await asyncio.to_thread(make_embedder, with_all_cores(self._settings))
        embedder = BatchingEmbedder(inner, max_batch=self._settings.embed_batch)
        await embedder.embed(["warm up"])
        return embedder
