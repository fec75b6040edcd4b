"""The shared embedder: one model for all cubes, batching across them. The only actor that loads torch."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from memos_ray.config import Settings
from memos_ray.errors import MemosError
from memos_ray.models.batching import BatchingEmbedder
from memos_ray.models.factory import make_embedder
from memos_ray.wire import EmbedderInfo, Reply


class EmbedderActor:
    """Hosts a `BatchingEmbedder`. Loading the model happens once, on the first call that needs it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loading: asyncio.Task[BatchingEmbedder] | None = None

    async def info(self) -> Reply:
        """`EmbedderInfo`, once the model is loaded."""
        try:
            embedder = await self._ready()
            return Reply(EmbedderInfo(embedder.fingerprint, embedder.dim))
        except MemosError as error:
            return Reply(error=error)

    async def embed(self, texts: Sequence[str], query: bool = False) -> Reply:
        """(len(texts), dim) float32 unit vectors. Queries go before bulk texts."""
        try:
            embedder = await self._ready()
            return Reply(await embedder.embed(texts, query=query))
        except MemosError as error:
            return Reply(error=error)

    def pid(self) -> int:
        """The process, for those who want to measure it."""
        return os.getpid()

    async def _ready(self) -> BatchingEmbedder:
        if self._loading is None:
            self._loading = asyncio.create_task(self._load())
        try:
            return await asyncio.shield(self._loading)
        except MemosError:
            self._loading = None  # a remote embedder may be back at the next call
            raise

    async def _load(self) -> BatchingEmbedder:
        # Ray sets OMP_NUM_THREADS=1 for actors that ask for no CPU, so torch's own default would be one thread.
        threads = self._settings.embed_threads or os.cpu_count() or 1
        settings = self._settings.model_copy(update={"embed_threads": threads})
        inner = await asyncio.to_thread(make_embedder, settings)
        embedder = BatchingEmbedder(inner, max_batch=self._settings.embed_batch)
        await embedder.embed(["warm up"])
        return embedder
