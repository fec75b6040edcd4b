"""The registry as the directory uses it: what is known of cubes that exist, whether anybody has them active or not."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from memos_ray import telemetry
from memos_ray.clock import SystemClock
from memos_ray.config import Settings
from memos_ray.errors import Conflict, MemosError, NotFound
from memos_ray.ids import new_op_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pyarrow as pa

    from memos_ray.cube.registry import CubeRecord, Grant

log = logging.getLogger(__name__)

_LIST_AGE_S = 1.0  # of what a listing knows of changes by other processes


class Catalogue:
    """Rows of the registry, in memory once they have been read; incarnations begun and fenced off."""

    def __init__(self, settings: Settings) -> None:
        # Imported here, not above: a driver that starts the system imports this module, and Lance (0.3 s) is not for
        # drivers.
        from memos_ray.backup import incarnations
        from memos_ray.cube import opening
        from memos_ray.cube.registry import Registry

        self._settings = settings
        self._opening, self._incarnations = opening, incarnations
        self._registry = Registry(settings.data, durability=settings.durability)
        self._index = self._registry.index()

    async def read(self) -> None:
        """Takes the whole registry in, or what others changed. Until then, whoever asks for a cube waits for its row
        alone; a million take 3 s."""
        try:
            await asyncio.to_thread(self._index.refresh)
        except MemosError as error:
            log.warning("the registry cannot be read now: %s", error)

    @property
    def known(self) -> int:
        """Rows in memory, those of removed cubes too."""
        return len(self._index)

    async def find(self, cube_id: str, *, create: bool) -> CubeRecord:
        """An active cube, from memory if it is known there. Raises `NotFound` if there is none and `create` is False.

        Memory may be behind what another process changed: a host that attaches the cube looks at storage, after its
        claim."""
        known = self._index.peek(cube_id)
        if known is not None and known.state == "active":
            return known
        return await asyncio.to_thread(self._stored, cube_id, create)

    async def stored(self, cube_id: str) -> CubeRecord:
        """The same from storage. Raises `NotFound`."""
        return await asyncio.to_thread(self._stored, cube_id, False)

    async def renew(self, cube_id: str, incarnation: str, let_go: Callable[[], Awaitable[object]]) -> None:
        """Gives a cube this incarnation, empty, unless it has it; `let_go` makes its host drop it first."""
        record = await self.stored(cube_id)
        if record.incarnation == incarnation:
            return
        await let_go()
        await self._incarnations.switch(
            self._settings, self._registry, record, incarnation, clock=SystemClock()
        )
        telemetry.count(telemetry.REGISTRY_CHANGES, kind="reset")

    async def take_in(self, cube_id: str, table: pa.Table, incarnation: str) -> None:
        """Registers a new cube of these rows. Raises `Conflict` if there is one that is not this import's."""
        record = await asyncio.to_thread(self._registry.lookup, cube_id)
        if record is None or record.state != "active":
            # Unreferenced until the registry names it: a crash in between leaves a folder, no half cube.
            await asyncio.to_thread(
                self._opening.write_incarnation, self._settings, cube_id, incarnation, table
            )
            record = await asyncio.to_thread(self._create, cube_id, incarnation)
        if record.incarnation != incarnation:
            raise Conflict(f"there is a cube {cube_id!r} already; import under another id, or reset it first")

    async def adopt(
        self,
        cube_id: str,
        incarnation: str,
        let_go: Callable[[], Awaitable[object]],
        *,
        replace: bool,
        owner: str,
        grants: tuple[Grant, ...],
    ) -> None:
        """Makes an incarnation that lies in storage already the cube's: see `incarnations.adopt`."""
        await self._incarnations.adopt(
            self._settings,
            self._registry,
            cube_id,
            incarnation,
            replace=replace,
            owner=owner,
            grants=grants,
            clock=SystemClock(),
            let_go=let_go,
        )

    async def page(self, prefix: str, **wanted: Any) -> list[CubeRecord]:
        """Registered cubes by id. What other processes changed is in it after a second."""

        def page() -> list[CubeRecord]:
            self._index.refresh(_LIST_AGE_S)
            return self._index.page(prefix, **wanted)

        return await asyncio.to_thread(page)

    def _stored(self, cube_id: str, create: bool) -> CubeRecord:
        record = self._registry.lookup(cube_id)
        if record is not None and record.state == "active":
            return record
        if not create:
            raise NotFound(f"there is no cube {cube_id!r}", what="cube", id=cube_id)
        return self._create(cube_id, new_op_id())

    def _create(self, cube_id: str, incarnation: str) -> CubeRecord:
        telemetry.count(telemetry.REGISTRY_CHANGES, kind="create")
        return self._registry.create_if_absent(
            cube_id, incarnation=incarnation, embedder=self._settings.embedder
        )
