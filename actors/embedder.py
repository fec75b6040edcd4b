"""The shared embedder: one model for all cubes, batching across them. The only actor that loads torch."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from actors.options import EMBEDDER, EMBEDDER_NAME
from actors.refs import answer
from memos_ray.config import Settings
from memos_ray.errors import MemosError, Unavailable
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


class RemoteEmbedder:
    """The `Embedder` protocol over the shared actor, for cubes and clients. Survives the actor's restarts."""

    def __init__(self, handle: Any, *, timeout_s: float = 120.0) -> None:
        self._handle = handle
        self._timeout_s = timeout_s
        self._info: EmbedderInfo | None = None

    async def ready(self) -> EmbedderInfo:
        """Waits for the model to be loaded. Raises `Unavailable`."""
        if self._info is None:
            self._info = await self._ask("info")
        assert self._info is not None
        return self._info

    @property
    def fingerprint(self) -> str:
        """Of the shared model. Only after `ready`."""
        assert self._info is not None, "await ready() first"
        return self._info.fingerprint

    @property
    def dim(self) -> int:
        """Of the shared model. Only after `ready`."""
        assert self._info is not None, "await ready() first"
        return self._info.dim

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        """See `Embedder.embed`. Waits through one restart of the actor before it gives up."""
        value: NDArray[np.float32] = await self._ask("embed", list(texts), query)
        return value

    async def _ask(self, method: str, *args: Any) -> Any:
        for attempt in (1, 2):
            try:
                reply = await answer(getattr(self._handle, method).remote(*args), self._timeout_s)
                return reply.unwrap()
            except (TimeoutError, ray.exceptions.RayActorError) as error:
                if attempt == 2:
                    raise Unavailable(f"the embedder does not answer: {error}", what="embedder") from error
                await asyncio.sleep(0.5)
        raise AssertionError("unreachable")


def actor_class() -> Any:
    """`EmbedderActor` as a Ray actor class with its options."""
    return ray.remote(EmbedderActor).options(name=EMBEDDER_NAME, **EMBEDDER)
