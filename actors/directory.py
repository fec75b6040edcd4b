"""Which host holds which cube. Soft state: all of it can be rebuilt from the registry and the hosts.

The directory never judges whether an owner is legitimate: the journal's fence does. A wrong answer here
costs a retry, not data.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import ray
from ray.util import list_named_actors

from actors.options import HOST_PREFIX
from actors.refs import answer
from memos_ray import _siblings
from memos_ray.clock import SystemClock
from memos_ray.config import Settings
from memos_ray.errors import Conflict, MemosError, NotFound, Unavailable
from memos_ray.ids import new_op_id
from memos_ray.wire import HostInfo, Located, Reply

if TYPE_CHECKING:
    import pyarrow as pa

    from memos_ray.cube.registry import CubeRecord

log = logging.getLogger(__name__)

_ATTACH_TIMEOUT_S = 60.0
_DESCRIBE_TIMEOUT_S = 5.0


class DirectoryActor:
    """Locates cubes, activates them on first use, and keeps blank hosts ready."""

    def __init__(self, settings: Settings, embedder: Any) -> None:
        self._settings = settings
        self._embedder = embedder
        # Imported here and below, not above: a driver that starts the system imports this module, and Lance
        # (0.3 s) is not for drivers.
        from memos_ray.cube import opening
        from memos_ray.cube.registry import Registry

        self._opening = opening
        self._registry = Registry(settings.data)
        self._hosts: dict[str, Located] = {}
        self._blank: list[tuple[str, Any]] = []
        self._locks: dict[str, asyncio.Lock] = {}
        self._recovered: asyncio.Task[None] | None = None

    async def settings(self) -> Settings:
        """The settings that this system runs with."""
        return self._settings

    async def locate(self, cube_id: str, create: bool = True, suspect: str | None = None) -> Reply:
        """`Located` of an attached cube. `suspect` names the host that failed the caller, to be looked at again."""
        try:
            await self._recover()
            async with self._locks.setdefault(cube_id, asyncio.Lock()):
                return Reply(await self._locate(cube_id, create, suspect))
        except MemosError as error:
            return Reply(error=error)

    async def reset(self, cube_id: str) -> Reply:
        """Gives the cube a new, empty incarnation. The old one's owner is detached, and fenced off, first."""
        try:
            await self._recover()
            async with self._locks.setdefault(cube_id, asyncio.Lock()):
                record = await asyncio.to_thread(self._find, cube_id, False)
                await self._let_go(cube_id)
                # Whoever may still own the old incarnation must not acknowledge another write into it.
                await self._opening.fence_off(
                    self._settings, cube_id, record.incarnation, clock=SystemClock()
                )
                await asyncio.to_thread(
                    self._registry.compare_and_set, cube_id, record.revision, incarnation=new_op_id()
                )
                return Reply(await self._locate(cube_id, False, None))
        except MemosError as error:
            return Reply(error=error)

    async def import_cube(self, cube_id: str, table: pa.Table) -> Reply:
        """Makes a new cube of exported rows. Raises `Conflict` if there is one of that id."""
        try:
            await self._recover()
            async with self._locks.setdefault(cube_id, asyncio.Lock()):
                record = await asyncio.to_thread(self._registry.lookup, cube_id)
                if record is not None and record.state == "active":
                    raise Conflict(
                        f"there is a cube {cube_id!r} already; import under another id, or reset it first"
                    )
                incarnation = new_op_id()
                # Unreferenced until the registry names it: a crash in between leaves a folder, no half cube.
                await asyncio.to_thread(
                    self._opening.write_incarnation, self._settings, cube_id, incarnation, table
                )
                await asyncio.to_thread(
                    self._registry.create_if_absent,
                    cube_id,
                    incarnation=incarnation,
                    embedder=self._settings.embedder,
                )
                return Reply(await self._locate(cube_id, False, None))
        except MemosError as error:
            return Reply(error=error)

    async def cubes(self, prefix: str = "", limit: int = 1000, after: str = "") -> Reply:
        """Registered cubes as `CubeRecord`s, by id."""
        try:
            return Reply(await asyncio.to_thread(self._registry.list, prefix, limit, after))
        except MemosError as error:
            return Reply(error=error)

    async def hosts(self) -> list[HostInfo]:
        """Every host that answers, blank ones too."""
        await self._recover()
        handles = [located.host for located in self._hosts.values()] + [handle for _, handle in self._blank]
        answers = await asyncio.gather(*(self._describe(h) for h in handles))
        return [a for a in answers if a is not None]

    async def _locate(self, cube_id: str, create: bool, suspect: str | None) -> Located:
        known = self._hosts.get(cube_id)
        if known is not None and known.host_name != suspect:
            return known
        record = await asyncio.to_thread(self._find, cube_id, create)
        if known is not None:
            located = await self._attach(cube_id, record, known.host_name, known.host)
            if located is not None:
                return located
            del self._hosts[cube_id]
        for _ in range(3):
            name, handle = self._take_blank()
            located = await self._attach(cube_id, record, name, handle)
            if located is not None:
                return located
        raise Unavailable(f"no host process could be started for {cube_id!r}", what="host")

    def _find(self, cube_id: str, create: bool) -> CubeRecord:
        record = self._registry.lookup(cube_id)
        if record is not None and record.state == "active":
            return record
        if not create:
            raise NotFound(f"there is no cube {cube_id!r}", what="cube", id=cube_id)
        return self._registry.create_if_absent(
            cube_id, incarnation=new_op_id(), embedder=self._settings.embedder
        )

    async def _attach(self, cube_id: str, record: CubeRecord, name: str, handle: Any) -> Located | None:
        """None if the host is dead; raises what activation itself raises, after putting the blank host back."""
        try:
            reply: Reply = await answer(handle.attach.remote(cube_id, record.incarnation), _ATTACH_TIMEOUT_S)
        except ray.exceptions.RayActorError:
            return None
        except TimeoutError as error:
            raise Unavailable(
                f"activating {cube_id!r} took over {_ATTACH_TIMEOUT_S:g} s", what="host"
            ) from error
        if reply.error is not None:
            if cube_id not in self._hosts:
                self._blank.append((name, handle))
            raise reply.error
        info: HostInfo = reply.value
        located = Located(cube_id, handle, name, info.epoch)
        self._hosts[cube_id] = located
        self._refill()
        return located

    async def _let_go(self, cube_id: str) -> None:
        known = self._hosts.pop(cube_id, None)
        if known is None:
            return
        try:
            await answer(known.host.detach.remote(), _ATTACH_TIMEOUT_S)
            self._blank.append((known.host_name, known.host))
        except (TimeoutError, ray.exceptions.RayActorError) as error:
            log.warning("host %s did not let go of %r: %s", known.host_name, cube_id, error)

    def _take_blank(self) -> tuple[str, Any]:
        return self._blank.pop(0) if self._blank else self._start_host()

    def _refill(self) -> None:
        while len(self._blank) < self._settings.warm_actors:
            self._blank.append(self._start_host())

    def _start_host(self) -> tuple[str, Any]:
        name = f"{HOST_PREFIX}{new_op_id()}"
        create_host = _siblings.load("actors.mem_cube").create_host
        return name, create_host(name, self._settings, self._embedder)

    async def _recover(self) -> None:
        """Once after a (re)start: finds the hosts that outlived the directory, then fills the pool."""
        if self._recovered is None:
            self._recovered = asyncio.create_task(self._find_hosts())
        await asyncio.shield(self._recovered)

    async def _find_hosts(self) -> None:
        names = [
            a["name"]
            for a in list_named_actors(all_namespaces=True)
            if a["namespace"] == self._settings.namespace
        ]
        for name in names:
            if not name.startswith(HOST_PREFIX):
                continue
            try:
                handle = ray.get_actor(name, namespace=self._settings.namespace)
            except ValueError:  # died since it was listed
                continue
            info = await self._describe(handle)
            if info is None:
                continue
            if info.cube_id is None:
                self._blank.append((name, handle))
            else:
                self._hosts[info.cube_id] = Located(info.cube_id, handle, name, info.epoch)
        self._refill()

    async def _describe(self, handle: Any) -> HostInfo | None:
        try:
            info: HostInfo = await answer(handle.describe.remote(), _DESCRIBE_TIMEOUT_S)
        except (TimeoutError, ray.exceptions.RayActorError):
            return None
        return info
