"""The shared embedder as a cube sees it. Apart from the actor itself, which loads models."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import ray

from actors.refs import answer
from memos_ray import logs
from memos_ray.errors import MemosError, Unavailable
from memos_ray.models.encoded import Documents
from memos_ray.retrieval.query_vectors import QueryVectors
from memos_ray.wire import EmbedderInfo

_RETRY_S = 0.5
_RESTART_S = 10.0  # a restart, model and all: documents wait for it, queries rather do without vectors


class RemoteEmbedder:
    """The shared actor as a `LateEmbedder`. Survives the actor's restarts."""

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

    @property
    def token_dim(self) -> int:
        """Of the shared model, 0 if it has no token vectors. Only after `ready`."""
        assert self._info is not None, "await ready() first"
        return self._info.token_dim

    async def encode_documents(self, texts: Sequence[str], contexts: Sequence[str]) -> Documents:
        """See `BatchingEmbedder.encode_documents`. Waits through one restart of the actor before it gives up."""
        value: Documents = await self._ask(
            "encode_documents", list(texts), list(contexts), through_s=_RESTART_S
        )
        return value

    async def encode_query(self, text: str) -> QueryVectors:
        """See `BatchingEmbedder.encode_query`. Waits through one restart of the actor before it gives up."""
        value: QueryVectors = await self._ask("encode_query", text)
        return value

    async def _ask(self, method: str, *args: Any, through_s: float = _RETRY_S) -> Any:
        """`through_s`: for so long an actor that has died, and that Ray restarts, is asked again."""
        request_id = logs.request_id()
        for_whom = {} if request_id is None else {"request_id": request_id}
        give_up_at = time.monotonic() + through_s
        while True:
            try:
                reply = await answer(getattr(self._handle, method).remote(*args, **for_whom), self._timeout_s)
                return reply.unwrap()
            except (TimeoutError, ray.exceptions.RayActorError) as error:
                if time.monotonic() >= give_up_at:
                    raise Unavailable(f"the embedder does not answer: {error}", what="embedder") from error
                await asyncio.sleep(_RETRY_S)
            except MemosError:
                raise
            except Exception as error:  # such as an answer that got lost with a node
                raise Unavailable(
                    f"the embedder failed: {type(error).__name__}: {error}", what="embedder"
                ) from error
