"""Which host holds which cube. Soft state: all of it can be rebuilt from the registry and the hosts.

The directory never judges whether an owner is legitimate: the journal's fence does. A wrong answer here
costs a retry, not data.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from typing import TYPE_CHECKING, Any

import ray
from ray.util import list_named_actors

from actors.options import HOST_PREFIX
from actors.refs import answer
from memos_ray import _siblings
from memos_ray.clock import SystemClock
from memos_ray.config import Settings
from memos_ray.errors import Conflict, Corrupt, MemosError, NotFound, Unavailable
from memos_ray.ids import new_op_id
from memos_ray.wire import HostInfo, Located, Reply

if TYPE_CHECKING:
    import pyarrow as pa

    from memos_ray.cube.registry import CubeRecord

log = logging.getLogger(__name__)

_ATTACH_TIMEOUT_S = 60.0
_DESCRIBE_TIMEOUT_S = 30.0  # a host in the middle of an attach answers when that is done
_PING_TIMEOUT_S = 5.0
_HOSTS_TRIED = 3
_LIST_AGE_S = 1.0  # of what a listing knows of changes by other processes


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
        self._registry = Registry(settings.data, durability=settings.durability)
        self._index = self._registry.index()
        self._hosts: dict[str, Located] = {}
        self._blank: list[tuple[str, Any]] = []
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._recovered: asyncio.Task[None] | None = None

    async def settings(self) -> Settings:
        """The settings that this system runs with."""
        return self._settings

    async def locate(self, cube_id: str, create: bool = True, suspect: str | None = None) -> Reply:
        """`Located` of an attached cube. `suspect` names the host that failed the caller, to be looked at again."""
        try:
            await self._recover()
            async with self._lock(cube_id):
                return Reply(await self._locate(cube_id, create, suspect))
        except MemosError as error:
            return Reply(error=error)

    async def reset(self, cube_id: str, incarnation: str) -> Reply:
        """Gives the cube a new, empty incarnation, named by the caller so that a repeated call changes nothing more."""
        try:
            await self._recover()
            async with self._lock(cube_id):
                record = await asyncio.to_thread(self._find, cube_id, False)
                if record.incarnation != incarnation:
                    await self._let_go(cube_id)
                    await self._fence_off(cube_id, record)
                    await asyncio.to_thread(
                        self._registry.compare_and_set, cube_id, record.revision, incarnation=incarnation
                    )
                return Reply(await self._locate(cube_id, False, None))
        except MemosError as error:
            return Reply(error=error)

    async def import_cube(self, cube_id: str, table: pa.Table, incarnation: str) -> Reply:
        """Makes a new cube of exported rows. Raises `Conflict` if there is one of that id that is not this import's."""
        try:
            await self._recover()
            async with self._lock(cube_id):
                record = await asyncio.to_thread(self._registry.lookup, cube_id)
                if record is None or record.state != "active":
                    # Unreferenced until the registry names it: a crash in between leaves a folder, no half cube.
                    await asyncio.to_thread(
                        self._opening.write_incarnation, self._settings, cube_id, incarnation, table
                    )
                    record = await asyncio.to_thread(self._create, cube_id, incarnation)
                if record.incarnation != incarnation:
                    raise Conflict(
                        f"there is a cube {cube_id!r} already; import under another id, or reset it first"
                    )
                return Reply(await self._locate(cube_id, False, None))
        except MemosError as error:
            return Reply(error=error)

    async def cubes(
        self,
        prefix: str = "",
        limit: int = 1000,
        after: str = "",
        owner: str | None = None,
        embedder: str | None = None,
    ) -> Reply:
        """Registered cubes as `CubeRecord`s, by id. What other processes changed is in it after a second."""

        def page() -> list[CubeRecord]:
            self._index.refresh(_LIST_AGE_S)
            return self._index.page(prefix, after=after, limit=limit, owner=owner, embedder=embedder)

        try:
            return Reply(await asyncio.to_thread(page))
        except MemosError as error:
            return Reply(error=error)

    async def hosts(self) -> list[HostInfo]:
        """Every host that answers, blank ones too."""
        await self._recover()
        handles = [located.host for located in self._hosts.values()] + [handle for _, handle in self._blank]
        answers = await asyncio.gather(*(self._describe(h, _PING_TIMEOUT_S) for h in handles))
        return [a for a in answers if a is not None]

    async def _locate(self, cube_id: str, create: bool, suspect: str | None) -> Located:
        known = self._hosts.get(cube_id)
        if known is not None and known.host_name != suspect:
            return known
        record = await asyncio.to_thread(self._find, cube_id, create)
        if known is not None:
            # It failed somebody. If it answers at all it may have lost the cube and can take it again.
            if await self._describe(known.host, _PING_TIMEOUT_S) is not None:
                located = await self._attach(cube_id, record, known.host_name, known.host)
                if located is not None:
                    return located
            self._give_up(known.host_name, known.host, cube_id)
        for _ in range(_HOSTS_TRIED):
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
        return self._create(cube_id, new_op_id())

    def _create(self, cube_id: str, incarnation: str) -> CubeRecord:
        return self._registry.create_if_absent(
            cube_id, incarnation=incarnation, embedder=self._settings.embedder
        )

    async def _attach(self, cube_id: str, record: CubeRecord, name: str, handle: Any) -> Located | None:
        """None if the host is of no use (and was given up). Raises what activation itself raises: the host is then
        blank again and goes back into the pool."""
        try:
            reply: Reply = await answer(handle.attach.remote(cube_id, record.incarnation), _ATTACH_TIMEOUT_S)
        except (TimeoutError, ray.exceptions.RayError) as error:
            log.warning("host %s did not attach %r: %s", name, cube_id, error)
            self._give_up(name, handle, cube_id)
            return None
        if reply.error is not None:
            self._hosts.pop(cube_id, None)
            if reply.error.fields.get("reason") == "holds another":
                return None  # it was taken for blank and is not
            self._blank.append((name, handle))
            raise reply.error
        info: HostInfo = reply.value
        located = Located(cube_id, handle, name, info.epoch)
        self._hosts[cube_id] = located
        self._refill()
        return located

    def _give_up(self, name: str, handle: Any, cube_id: str | None = None) -> None:
        """Ends a host that does not do as it should. Never lets it go on beside its successor unobserved: what it
        still owns is fenced by the next claim, what it would still attach dies with it."""
        if (
            cube_id is not None
            and (known := self._hosts.get(cube_id)) is not None
            and known.host_name == name
        ):
            del self._hosts[cube_id]
        log.warning("host %s is given up", name)
        ray.kill(handle)

    async def _let_go(self, cube_id: str) -> None:
        known = self._hosts.pop(cube_id, None)
        if known is None:
            return
        try:
            reply: Reply = await answer(known.host.detach.remote(), _ATTACH_TIMEOUT_S)
            reply.unwrap()
        except (TimeoutError, ray.exceptions.RayError, MemosError) as error:
            log.warning("host %s did not let go of %r: %s", known.host_name, cube_id, error)
            self._give_up(known.host_name, known.host)
        else:
            self._blank.append((known.host_name, known.host))

    async def _fence_off(self, cube_id: str, record: CubeRecord) -> None:
        """Whoever may still own the old incarnation must not acknowledge another write into it."""
        try:
            await self._opening.fence_off(self._settings, cube_id, record.incarnation, clock=SystemClock())
        except Corrupt as error:  # nobody can activate it, and emptying it is what a reset is for
            log.warning("the incarnation of %r that is left behind is unreadable: %s", cube_id, error)

    def _lock(self, cube_id: str) -> asyncio.Lock:
        """One change at a time to where a cube is; forgotten when nobody holds or awaits it."""
        return self._locks.setdefault(cube_id, asyncio.Lock())

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
        task = self._recovered
        try:
            await asyncio.shield(task)
        except Exception:
            if self._recovered is task and task.done():
                self._recovered = None  # the next call tries again
            raise

    async def _find_hosts(self) -> None:
        found = []
        for entry in list_named_actors(all_namespaces=True):
            name = entry["name"]
            if entry["namespace"] != self._settings.namespace or not name.startswith(HOST_PREFIX):
                continue
            with contextlib.suppress(ValueError):  # died since it was listed
                found.append((name, ray.get_actor(name, namespace=self._settings.namespace)))
        answers = await asyncio.gather(*(self._describe(h, _DESCRIBE_TIMEOUT_S) for _, h in found))
        for (name, handle), info in zip(found, answers, strict=True):
            if info is None:
                self._give_up(name, handle)
            elif info.cube_id is None:
                self._blank.append((name, handle))
            else:
                self._take_over(info, name, handle)
        self._refill()

    def _take_over(self, info: HostInfo, name: str, handle: Any) -> None:
        """Of two hosts that hold the same cube, the one with the higher epoch owns it."""
        assert info.cube_id is not None
        known = self._hosts.get(info.cube_id)
        if known is not None and known.epoch >= info.epoch:
            self._give_up(name, handle)
            return
        if known is not None:
            self._give_up(known.host_name, known.host, info.cube_id)
        self._hosts[info.cube_id] = Located(info.cube_id, handle, name, info.epoch)

    async def _describe(self, handle: Any, timeout_s: float) -> HostInfo | None:
        try:
            info: HostInfo = await answer(handle.describe.remote(), timeout_s)
        except (TimeoutError, ray.exceptions.RayError):
            return None
        return info
