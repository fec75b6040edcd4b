"""The connection of a driver to a running system: finds the host of a cube, and retries with one `op_id`.

The only module of `memos_ray` that imports ray. What a call means is decided in the cube; how it looks to a
user is in `memos.py` and `cube_handle.py`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from typing import Any

import ray

from memos_ray import _siblings
from memos_ray.config import Settings
from memos_ray.errors import MemosError, Moved, Overloaded, Retryable, Unavailable
from memos_ray.wire import Located


class Connection:
    """Handles into a running system, cached: no look-up per request."""

    def __init__(self, settings: Settings) -> None:
        system = _siblings.load("cluster.launch").connect(settings)
        self.settings: Settings = system.settings
        self.started_ray: bool = system.started_ray
        self._directory = system.directory
        self._located: dict[str, Located] = {}

    async def call(
        self, cube_id: str, verb: str, arguments: Mapping[str, Any], *, create: bool = False
    ) -> Any:
        """One verb of one cube, retried until `call_timeout_s`. The arguments carry the `op_id` of a write."""
        attempt = _Attempts(self.settings.call_timeout_s)
        suspect: str | None = None
        while True:
            try:
                where = self._located.get(cube_id)
                if where is None:
                    where = await self._locate(cube_id, create, suspect)
                reply = await where.host.call.remote(cube_id, verb, arguments)
                return reply.unwrap()
            except Moved as error:
                suspect = self.forget(cube_id)
                await attempt.pause(error)
            except ray.exceptions.RayActorError as error:
                suspect = self.forget(cube_id)
                await attempt.pause(Unavailable(f"the host of {cube_id!r} went away: {error}", what="host"))
            except Retryable as error:
                await attempt.pause(error)

    async def ask_directory(self, method: str, *args: Any) -> Any:
        """One call to the directory, through its restarts."""
        attempt = _Attempts(self.settings.call_timeout_s)
        while True:
            try:
                reply = await getattr(self._directory, method).remote(*args)
                return reply.unwrap() if hasattr(reply, "unwrap") else reply
            except ray.exceptions.RayActorError as error:
                await attempt.pause(Unavailable(f"the directory does not answer: {error}", what="directory"))
            except Retryable as error:
                await attempt.pause(error)

    async def _locate(self, cube_id: str, create: bool, suspect: str | None) -> Located:
        located: Located = (await self._directory.locate.remote(cube_id, create, suspect)).unwrap()
        self._located[cube_id] = located
        return located

    def forget(self, cube_id: str) -> str | None:
        """Drops the cached handle of a cube. Returns the name of the host that it pointed to."""
        where = self._located.pop(cube_id, None)
        return where.host_name if where is not None else None

    def close(self) -> None:
        """Ends the Ray cluster if this process started it."""
        if self.started_ray:
            ray.shutdown()


class _Attempts:
    """Backs off with jitter (10 ms doubling to 1 s) until the deadline, then raises the last error."""

    def __init__(self, timeout_s: float) -> None:
        self._deadline = time.monotonic() + timeout_s
        self._delay_s = 0.01

    async def pause(self, error: MemosError) -> None:
        delay = self._delay_s * (0.5 + random.random())
        if isinstance(error, Overloaded):
            delay = max(delay, float(error.fields.get("retry_after_s", 0.0)))
        if time.monotonic() + delay > self._deadline:
            raise error
        self._delay_s = min(1.0, self._delay_s * 2)
        await asyncio.sleep(delay)
