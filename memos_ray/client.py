"""The connection of a driver to a running system: finds the host of a cube, and retries with one `op_id`.

The only module of `memos_ray` that imports ray. What a call means is decided in the cube; how it looks to a
user is in `memos.py` and `cube_handle.py`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import ray

from memos_ray import _siblings
from memos_ray.config import Settings
from memos_ray.errors import Invalid, MemosError, Moved, Overloaded, Retryable, Unavailable
from memos_ray.ids import new_op_id
from memos_ray.wire import Call, Located, Reply, Reranking

_FIRST_DELAY_S = 0.01
_ASK_AFTER_S = 1.0  # a call that takes longer asks now and then whether its cube is still there
_HANDLES = 100_000  # of cubes called last: some 100 bytes each, beside one actor handle a host
_GONE = (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError)


class Connection:
    """Handles into a running system, cached: no look-up per request."""

    def __init__(self, settings: Settings) -> None:
        system = _siblings.load("cluster.launch").connect(settings)
        self._system = system
        self.settings: Settings = system.settings
        self.started_ray: bool = system.started_ray
        self._directory = system.directory
        self._reranker = system.reranker
        self._located: OrderedDict[str, Located] = OrderedDict()
        self._near = str(ray.get_runtime_context().get_node_id()) if self.settings.place_near else None

    async def call(
        self, cube_id: str, verb: str, arguments: Mapping[str, Any], *, create: bool = False
    ) -> Any:
        """One verb of one cube, retried until `call_timeout_s`. The arguments carry the `op_id` of a write.

        Errors carry the `request_id` that names the call in the system's logs."""
        attempts = _Attempts(self.settings.call_timeout_s)
        request_id = new_op_id()
        try:
            return await self._call(cube_id, verb, arguments, create, attempts, request_id)
        except MemosError as error:
            error.fields.setdefault("request_id", request_id)
            raise

    async def _call(
        self,
        cube_id: str,
        verb: str,
        arguments: Mapping[str, Any],
        create: bool,
        attempts: _Attempts,
        request_id: str,
    ) -> Any:
        suspect: str | None = None
        while True:
            where = self._located.get(cube_id)
            try:
                if where is None:
                    where = await self._locate(cube_id, create, suspect, attempts, request_id)
                call = Call(cube_id, verb, arguments, request_id, attempts.within_s, attempts.after)
                return await attempts.one(where.host.call.remote(call), self._unless_moved(where))
            except (*_GONE, TimeoutError) as error:
                if where is None:  # it was the directory, which has yet to hear of a host that failed before
                    await attempts.pause(_silent("the directory", "directory", error))
                else:
                    suspect = self._forget(cube_id, where)
                    await attempts.pause(_silent(f"the host of {cube_id!r}", "host", error))
            except Moved as error:
                if where is not None:
                    suspect = self._forget(cube_id, where)
                await attempts.pause(error)
            except Retryable as error:
                await attempts.pause(error)

    async def ask_directory(self, method: str, *args: Any) -> Any:
        """One call to the directory, through its restarts. What it changes is named by the arguments, so that it
        can be repeated."""
        attempts = _Attempts(self.settings.call_timeout_s)
        while True:
            try:
                return await attempts.one(getattr(self._directory, method).remote(*args))
            except (*_GONE, TimeoutError) as error:
                await attempts.pause(_silent("the directory", "directory", error))
            except Retryable as error:
                await attempts.pause(error)

    async def check_embedder(self) -> None:
        """Waits for the shared embedder to answer, its model loaded. Raises `Unavailable`."""
        try:
            async with asyncio.timeout(self.settings.call_timeout_s):
                reply: Reply = await self._system.embedder.info.remote()
        except TimeoutError:
            raise Unavailable("the embedder does not answer", what="embedder") from None
        except ray.exceptions.RayError as error:
            raise Unavailable(f"the embedder does not answer: {error}", what="embedder") from error
        reply.unwrap()

    def check_reranker(self) -> None:
        """Raises `Invalid` if the system has none."""
        if self._reranker is None:
            raise Invalid(
                "no reranker is configured: leave rerank=False, or start the system with the setting `reranker` "
                "(MEMOS_RAY_RERANKER) at 'cross-encoder:<path or hub id>' or 'openai:<model>'",
                argument="rerank",
            )

    async def rerank(self, query: str, texts: Sequence[str]) -> Reranking:
        """What the system's reranker says of `texts`; waits through one restart of its process, within the time of one
        call. Raises `Unavailable`."""
        self.check_reranker()
        try:
            async with asyncio.timeout(self.settings.call_timeout_s):
                try:
                    reply: Reply = await self._reranker.rerank.remote(query, list(texts))
                except _GONE:
                    await asyncio.sleep(0.5)
                    reply = await self._reranker.rerank.remote(query, list(texts))
        except TimeoutError:
            raise Unavailable(
                f"the reranker gave no answer within {self.settings.call_timeout_s:g} s", what="reranker"
            ) from None
        except ray.exceptions.RayError as error:
            raise Unavailable(f"the reranker does not answer: {error}", what="reranker") from error
        said: Reranking = reply.unwrap()
        return said

    async def _locate(
        self, cube_id: str, create: bool, suspect: str | None, attempts: _Attempts, request_id: str
    ) -> Located:
        located: Located = await attempts.one(
            self._directory.locate.remote(cube_id, create, suspect, self._near, request_id)
        )
        self._located[cube_id] = located
        while len(self._located) > _HANDLES:
            self._located.popitem(last=False)
        return located

    async def _unless_moved(self, where: Located) -> None:
        """Ends once the directory says that the cube is not where it is being called: what does not answer for a while
        may be a process that was given up (and the call, which has an `op_id`, can be repeated)."""
        while True:
            try:
                if await self._directory.whose.remote(where.cube_id) != where.host_name:
                    return
            except ray.exceptions.RayError:
                pass  # it restarts; the host may well be at work
            await asyncio.sleep(_ASK_AFTER_S)

    def forget(self, cube_id: str) -> None:
        """Drops the cached handle of a cube that is about to get another incarnation."""
        self._located.pop(cube_id, None)

    def _forget(self, cube_id: str, failed: Located) -> str:
        """Drops a handle that failed, unless another call found a better one meanwhile. Returns its host's name."""
        if self._located.get(cube_id) is failed:
            del self._located[cube_id]
        return failed.host_name

    def close(self) -> None:
        """Ends the Ray cluster if this process started it and no other connection uses it."""
        _siblings.load("cluster.launch").release(self._system)


def _silent(who: str, what: str, error: Exception) -> Unavailable:
    """`_GONE` or a time-out, which says nothing of its own."""
    if isinstance(error, TimeoutError):
        return Unavailable(f"{who} does not answer", what=what)
    return Unavailable(f"{who} went away: {error}", what=what)


async def _value(ref: Any) -> Any:
    return await ref


class _Attempts:
    """Backs off with jitter (10 ms doubling to 1 s) until the deadline, then raises the last error.

    One attempt may take half of the time: a host that hangs leaves the other half for its successor. Work that the call
    waits for and that gets on puts the deadline off.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._pending: int | None = None
        self._attempt_s = timeout_s / 2
        self._delay_s = _FIRST_DELAY_S
        self.after = ""  # the type of the error of the attempt before

    @property
    def within_s(self) -> float:
        """How long the next attempt may take."""
        return max(0.0, min(self._attempt_s, self._deadline - time.monotonic()))

    async def one(self, ref: Any, unless: Coroutine[Any, Any, None] | None = None) -> Any:
        """The value of a call. Raises its error, and `TimeoutError`, also if `unless` ends first."""
        answered = asyncio.ensure_future(_value(ref))
        given_up: asyncio.Task[None] | None = None
        try:
            await asyncio.wait((answered,), timeout=min(self.within_s, _ASK_AFTER_S))
            if not answered.done() and unless is not None:
                given_up, unless = asyncio.create_task(unless), None
                await asyncio.wait(
                    (answered, given_up), timeout=self.within_s, return_when=asyncio.FIRST_COMPLETED
                )
            elif not answered.done():
                await asyncio.wait((answered,), timeout=self.within_s)
            if not answered.done():
                raise TimeoutError
        finally:
            answered.cancel()
            if given_up is not None:
                given_up.cancel()
            if unless is not None:
                unless.close()
        reply = answered.result()
        return reply.unwrap() if isinstance(reply, Reply) else reply

    async def pause(self, error: MemosError) -> None:
        """Waits before the next attempt; raises `error` if there is no time for one."""
        self.after = type(error).__name__
        delay = self._delay_s * (0.5 + random.random())
        if isinstance(error, Overloaded):
            delay = max(delay, float(error.fields.get("retry_after_s", 0.0)))
            pending = error.fields.get("pending")
            if pending is not None and (self._pending is None or pending < self._pending):
                self._pending, self._deadline = pending, time.monotonic() + self._timeout_s
                self._delay_s = _FIRST_DELAY_S
        if time.monotonic() + delay > self._deadline:
            raise error
        self._delay_s = min(1.0, self._delay_s * 2)
        await asyncio.sleep(delay)
