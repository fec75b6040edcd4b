"""The process that holds an active cube. Comes up blank; only the directory attaches a cube to it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from typing import Any

import ray

from actors.options import HOST
from actors.remote_embedder import RemoteEmbedder
from memos_ray.clock import SystemClock
from memos_ray.config import Settings
from memos_ray.cube.cube import VERBS, MemCube
from memos_ray.cube.opening import open_cube
from memos_ray.errors import Invalid, MemosError, Moved
from memos_ray.process import rss_bytes
from memos_ray.wire import HostInfo, Reply

log = logging.getLogger(__name__)


class MemCubeActor:
    """Hosts one `MemCube` at a time and passes verbs through to it.

    An owner that lost its cube (fenced off, or storage failed) answers `Moved` until it is attached again.
    """

    def __init__(self, name: str, settings: Settings, embedder: Any) -> None:
        self._name = name
        self._settings = settings
        self._embedder = RemoteEmbedder(embedder)
        self._cube: MemCube | None = None
        self._incarnation: str | None = None
        self._attaching = asyncio.Lock()

    async def attach(self, cube_id: str, incarnation: str) -> Reply:
        """Activates the cube here; answers with `HostInfo`. Repeated for the same one: only if it was lost.

        Whatever fails, the host is blank afterwards, unless it holds another cube (`reason` "holds another").
        """
        async with self._attaching:
            try:
                cube = self._cube
                if cube is not None and cube.cube_id != cube_id:
                    message = f"this host holds {cube.cube_id!r} already"
                    return Reply(error=Moved(message, cube_id=cube_id, reason="holds another"))
                if cube is not None and (cube.lost is not None or self._incarnation != incarnation):
                    await self._release()
                if self._cube is None:
                    self._cube = await self._open(cube_id, incarnation)
                    self._incarnation = incarnation
                return Reply(self._info())
            except Exception as error:
                return _failed(error, f"activating {cube_id!r}")

    async def _open(self, cube_id: str, incarnation: str) -> MemCube:
        return await open_cube(
            self._settings,
            cube_id,
            incarnation,
            embedder=self._embedder,
            clock=SystemClock(),
            owner=self._name,
        )

    async def detach(self) -> Reply:
        """Drains what is queued and lets the cube go. The process is blank again."""
        async with self._attaching:
            try:
                await self._release()
                return Reply(self._info())
            except Exception as error:
                return _failed(error, "letting the cube go")

    async def call(self, cube_id: str, verb: str, arguments: Mapping[str, Any]) -> Reply:
        """One verb of the cube. Raises nothing: errors come back in the `Reply`."""
        cube = self._cube
        if cube is None or cube.cube_id != cube_id:
            held = cube.cube_id if cube is not None else "nothing"
            message = f"this host holds {held}, not {cube_id!r}"
            return Reply(error=Moved(message, cube_id=cube_id, reason="not attached"))
        if cube.lost is not None:
            return Reply(error=cube.lost)
        if verb not in VERBS:
            return Reply(
                error=Invalid(f"unknown verb {verb!r}; known: {', '.join(sorted(VERBS))}", argument="verb")
            )
        try:
            return Reply(await getattr(cube, verb)(**arguments))
        except Exception as error:
            return _failed(error, f"{verb} on {cube_id!r}")

    async def describe(self) -> HostInfo:
        """What this host holds and costs; waits for an attach that is under way."""
        async with self._attaching:
            return self._info()

    async def _release(self) -> None:
        cube, self._cube, self._incarnation = self._cube, None, None
        if cube is not None:
            await cube.close()

    def _info(self) -> HostInfo:
        return HostInfo(
            name=self._name,
            pid=os.getpid(),
            node_id=ray.get_runtime_context().get_node_id(),
            cube_id=self._cube.cube_id if self._cube else None,
            incarnation=self._incarnation,
            epoch=self._cube.epoch if self._cube else 0,
            rss_bytes=rss_bytes(),
        )


def _failed(error: Exception, doing: str) -> Reply:
    """Typed errors as they are; anything else is a defect, which the caller is told of and the log in full."""
    if isinstance(error, MemosError):
        return Reply(error=error)
    log.exception("%s failed", doing)
    return Reply(error=MemosError(f"{doing} failed unexpectedly: {error!r}"))


def create_host(name: str, settings: Settings, embedder: Any) -> Any:
    """Starts a blank host process. Returns its handle at once; the process comes up behind it."""
    return (
        ray.remote(MemCubeActor)
        .options(name=name, namespace=settings.namespace, **HOST)
        .remote(name, settings, embedder)
    )
