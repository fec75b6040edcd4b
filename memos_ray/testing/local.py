"""Cubes without Ray: the same `MemCube` on real (or in-memory) storage, in this process.

For tests of code that uses cubes, and for trying things out: everything works but surviving this process.

    async with LocalCubes(data="/tmp/x") as cubes:
        cube = await cubes.cube("user:maya")
        await cube.add("I moved to Lisbon.")
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from memos_ray.clock import SystemClock
from memos_ray.config import Settings
from memos_ray.cube.cube import VERBS, MemCube
from memos_ray.cube.opening import open_cube
from memos_ray.cube.registry import Registry
from memos_ray.cube_handle import AsyncCube
from memos_ray.errors import Invalid, Moved, NotFound, Overloaded
from memos_ray.ids import new_op_id, resolve_cube_id
from memos_ray.models.batching import BatchingEmbedder
from memos_ray.models.embedder import HashEmbedder
from memos_ray.protocols import Clock, Embedder


class LocalCubes:
    """A directory of cubes in this process. Give `data` a folder; `embedder` defaults to the model-free hash."""

    def __init__(
        self,
        data: str,
        *,
        embedder: Embedder | None = None,
        clock: Clock | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.settings = (settings or Settings()).model_copy(update={"data": Settings(data=data).data})
        self._embedder = BatchingEmbedder(embedder or HashEmbedder())
        self._clock = clock or SystemClock()
        self._registry = Registry(self.settings.data, durability=self.settings.durability)
        self._active: dict[str, MemCube] = {}
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> LocalCubes:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Passivates every cube, then raises what went wrong with any."""
        cubes = list(self._active.values())
        self._active.clear()
        async with AsyncExitStack() as stack:
            for cube in reversed(cubes):
                stack.push_async_callback(cube.close)

    async def cube(self, cube_id: str) -> AsyncCube:
        """A handle like `MemOS.cube`'s."""
        resolve_cube_id(cube_id=cube_id)
        return AsyncCube(cube_id, self.call, tokenizer=self.settings.tokenizer)

    async def active(self, cube_id: str, *, create: bool = True) -> MemCube:
        """The active cube itself. Raises `NotFound` if there is none and `create` is False."""
        async with self._opening:
            cube = self._active.get(cube_id)
            if cube is not None and cube.lost is not None:
                del self._active[cube_id]
                await cube.close()
                cube = None
            if cube is None:
                record = self._registry.lookup(cube_id)
                if record is None or record.state != "active":
                    if not create:
                        raise NotFound(f"there is no cube {cube_id!r}", what="cube", id=cube_id)
                    record = self._registry.create_if_absent(
                        cube_id, incarnation=new_op_id(), embedder=self._embedder.fingerprint
                    )
                cube = await open_cube(
                    self.settings,
                    cube_id,
                    record.incarnation,
                    embedder=self._embedder,
                    clock=self._clock,
                    owner="local",
                )
                self._active[cube_id] = cube
            return cube

    async def call(
        self, cube_id: str, verb: str, arguments: Mapping[str, Any], *, create: bool = False
    ) -> Any:
        """One verb of one cube, activated if need be; tried again if the cube was lost."""
        if verb not in VERBS:
            raise Invalid(f"unknown verb {verb!r}; known: {', '.join(sorted(VERBS))}", argument="verb")
        for attempt in (1, 2, 3):
            cube = await self.active(cube_id, create=create)
            try:
                return await getattr(cube, verb)(**arguments)
            except Moved:
                if attempt == 3:
                    raise
            except Overloaded as error:
                if "pending" not in error.fields:
                    raise
                await cube.settled()
                return await getattr(cube, verb)(**arguments)
        raise AssertionError("unreachable")
