"""The shared embedder: one model for all cubes, batching across them. The only actor that loads a model."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Coroutine, Sequence
from typing import Any

from actors.observed import observe_process
from actors.once import Once
from actors.options import EMBEDDER_NAME, with_all_cores
from memos_ray import logs, telemetry
from memos_ray.config import Settings
from memos_ray.errors import MemosError, Unavailable
from memos_ray.models.batching import BatchingEmbedder
from memos_ray.models.encoded import Documents
from memos_ray.models.factory import from_hub, make_embedder
from memos_ray.rates import Rates
from memos_ray.retrieval.query_vectors import QueryVectors
from memos_ray.wire import EmbedderInfo, EmbedderLoad, Reply

log = logging.getLogger(__name__)

_TELL_EVERY_S = 1.0


class EmbedderActor:
    """Hosts a `BatchingEmbedder`. Loading the model happens once, on the first call that needs it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loaded = Once(lambda: self._load())
        self._node_id = observe_process(settings, actor="embedder", name=EMBEDDER_NAME)
        self._embedder: BatchingEmbedder | None = None
        self._rates = Rates()
        self._teller: asyncio.Task[None] | None = None

    async def info(self, request_id: str | None = None) -> Reply:
        """`EmbedderInfo`, once the model is loaded."""
        with logs.serving(request_id):
            return await self._reply(self._info())

    async def encode_documents(
        self, texts: Sequence[str], contexts: Sequence[str], request_id: str | None = None
    ) -> Reply:
        """`Documents`: arrays, which Ray hands over without copying them; of a token 50 bytes."""
        with logs.serving(request_id):
            return await self._reply(self._encode_documents(texts, contexts))

    async def encode_query(self, text: str, request_id: str | None = None) -> Reply:
        """`QueryVectors`. Queries go before documents."""
        with logs.serving(request_id):
            return await self._reply(self._encode_query(text))

    async def load(self) -> EmbedderLoad:
        """What it does now. Does not wait for the model."""
        embedder = self._embedder
        return EmbedderLoad(
            pid=os.getpid(),
            node_id=self._node_id,
            loaded=embedder is not None,
            waiting=0 if embedder is None else embedder.waiting,
            texts_per_s=self._rates.per_s("texts", time.monotonic()),
        )

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
        self._embedder = embedder
        if self._teller is None:
            self._teller = asyncio.create_task(self._tell(embedder))
        return embedder

    async def _tell(self, embedder: BatchingEmbedder) -> None:
        before = embedder.texts
        while True:
            telemetry.gauge(telemetry.EMBED_WAITING, embedder.waiting)
            self._rates.add("texts", embedder.texts - before)
            before = embedder.texts
            self._rates.sample(time.monotonic())
            await asyncio.sleep(_TELL_EVERY_S)
