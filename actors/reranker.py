"""The shared reranker: one model for all cubes and clients, in a process of its own, where one is configured."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Sequence

from actors.observed import observe_process
from actors.once import Once
from actors.options import RERANKER_NAME, with_all_cores
from memos_ray import telemetry
from memos_ray.config import Settings
from memos_ray.errors import MemosError, Unavailable
from memos_ray.models.factory import make_reranker, reranker_from_hub
from memos_ray.protocols import Reranker
from memos_ray.wire import Reply, Reranking

log = logging.getLogger(__name__)


class RerankerActor:
    """Hosts a `Reranker`. A model is loaded once, on the first call."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loaded = Once(self._load)
        observe_process(settings, actor="reranker", name=RERANKER_NAME)

    async def rerank(self, query: str, texts: Sequence[str]) -> Reply:
        """`Reranking`: see `Reranker.rerank`."""
        began, outcome = time.monotonic(), "failed"
        try:
            reranker = await self._loaded()
            reply = Reply(Reranking(await reranker.rerank(query, texts), reranker.fingerprint))
            outcome = "ok"
            return reply
        except MemosError as error:
            return Reply(error=error)
        except Exception as error:  # models raise anything; a search goes on without
            log.exception("the reranker failed")
            return Reply(
                error=Unavailable(f"the reranker failed: {type(error).__name__}: {error}", what="reranker")
            )
        finally:
            telemetry.observe(telemetry.RERANK_SECONDS, time.monotonic() - began, outcome=outcome)

    def pid(self) -> int:
        """The process, for those who want to measure it."""
        return os.getpid()

    async def _load(self) -> Reranker:
        if not reranker_from_hub(self._settings):  # nothing waits for a network that may not be there
            os.environ.setdefault("HF_HUB_OFFLINE", "1")
        return await asyncio.to_thread(make_reranker, with_all_cores(self._settings))
