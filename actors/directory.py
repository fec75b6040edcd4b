"""Which host holds which cube. Soft state: all of it can be rebuilt from the registry and the hosts.

Carries out what `memos_ray.placement` decides. It never judges whether an owner is legitimate: the journal's fence
does. A wrong answer here costs a retry, not data.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import ray

from actors.fleet_keeper import FleetKeeper
from actors.refs import answer
from memos_ray.clock import SystemClock
from memos_ray.config import Settings
from memos_ray.errors import Conflict, Corrupt, Invalid, MemosError, NotFound, Overloaded, Unavailable
from memos_ray.ids import new_op_id
from memos_ray.placement import pool, upkeep
from memos_ray.placement.fleet import CubeUse, Fleet
from memos_ray.placement.place import Full, Start, Use, place
from memos_ray.placement.policy import Policy
from memos_ray.placement.shards import shard_of
from memos_ray.wire import HostInfo, Located, NodeInfo, Reply

if TYPE_CHECKING:
    import pyarrow as pa

    from memos_ray.cube.registry import CubeRecord

log = logging.getLogger(__name__)

_ATTACH_TIMEOUT_S = 60.0
_PING_TIMEOUT_S = 5.0
_HOSTS_TRIED = 3
_PULSE_S = 0.5  # hosts that answer later are counted in the next tick
_LIST_AGE_S = 1.0  # of what a listing knows of changes by other processes


class DirectoryActor:
    """Locates cubes, activates them on first use, and keeps hosts, memory and load in order."""

    def __init__(self, settings: Settings, embedder: Any) -> None:
        self._settings = settings
        # Imported here, not above: a driver that starts the system imports this module, and Lance (0.3 s) is not for
        # drivers.
        from memos_ray.backup import incarnations
        from memos_ray.cube import opening
        from memos_ray.cube.registry import Registry

        self._opening = opening
        self._incarnations = incarnations
        self._registry = Registry(settings.data, durability=settings.durability)
        self._index = self._registry.index()
        self._policy = Policy.from_settings(settings)
        self._fleet = Fleet()
        self._hosts = FleetKeeper(settings, embedder, self._fleet, self._policy)
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._recovered: asyncio.Task[None] | None = None
        self._changes: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        # Ray restarts this actor without anybody calling it: it calls itself, so that its upkeep goes on.
        ray.get_runtime_context().current_actor.wake_up.remote()

    async def wake_up(self) -> None:
        """Finds the hosts that run, and begins to look after them."""
        await self._recover()

    async def settings(self) -> Settings:
        """The settings that this system runs with."""
        return self._settings

    def pid(self) -> int:
        """The process, for those who want to measure or kill it."""
        return os.getpid()

    # -- where cubes are --------------------------------------------------------------------------------------

    async def locate(
        self, cube_id: str, create: bool = True, suspect: str | None = None, near: str | None = None
    ) -> Reply:
        """`Located` of an attached cube. `suspect` names the host that failed the caller, to be looked at again; `near`
        is the node that the cube should be on, if it is to be activated."""
        return await self._reply(cube_id, lambda: self._locate(cube_id, create, suspect, near))

    def whose(self, cube_id: str) -> str | None:
        """The name of the host that a cube is on or on its way to; None if it is on none. For callers that have waited
        for a while."""
        cube = self._fleet.cubes.get(cube_id)
        return cube.host if cube is not None else None

    async def reset(self, cube_id: str, incarnation: str) -> Reply:
        """Gives the cube a new, empty incarnation, named by the caller so that a repeated call changes nothing more."""

        async def act() -> Located:
            record = await asyncio.to_thread(self._look_up, cube_id, False)
            if record.incarnation != incarnation:
                await self._let_go(cube_id)
                await self._fence_off(cube_id, record)
                await asyncio.to_thread(
                    self._registry.compare_and_set, cube_id, record.revision, incarnation=incarnation
                )
            return await self._locate(cube_id, False)

        return await self._reply(cube_id, act)

    async def import_cube(self, cube_id: str, table: pa.Table, incarnation: str) -> Reply:
        """Makes a new cube of exported rows. Raises `Conflict` if there is one of that id that is not this import's."""

        async def act() -> Located:
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
            return await self._locate(cube_id, False)

        return await self._reply(cube_id, act)

    async def restore_cube(self, cube_id: str, incarnation: str, replace: bool, owner: str = "") -> Reply:
        """Makes an incarnation that lies in storage already the cube's: see `incarnations.adopt`. Activates nothing."""

        async def act() -> str:
            await self._incarnations.adopt(
                self._settings,
                self._registry,
                cube_id,
                incarnation,
                replace=replace,
                owner=owner,
                clock=SystemClock(),
                let_go=lambda: self._let_go(cube_id),
            )
            return incarnation

        return await self._reply(cube_id, act)

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

    # -- what an operator asks for ----------------------------------------------------------------------------

    async def move(self, cube_id: str, node_id: str | None = None) -> Reply:
        """Takes an active cube to another host (on `node_id`), under load. `Located` of where it then is."""

        async def act() -> Located:
            if cube_id not in self._fleet.cubes:
                raise NotFound(
                    f"cube {cube_id!r} is not active: there is nothing to move", what="cube", id=cube_id
                )
            if node_id is not None and node_id not in self._fleet.nodes:
                raise Invalid(
                    f"there is no node {node_id!r}; there are {', '.join(self._fleet.nodes)}",
                    argument="node_id",
                )
            if not await self._move(cube_id, only=node_id):
                raise Unavailable(
                    f"there is no room for {cube_id!r} there; it stays where it is", what="host"
                )
            return await self._locate(cube_id, False)

        return await self._reply(cube_id, act)

    async def passivate(self, cube_id: str) -> Reply:
        """Drains an active cube and lets it go; False if it was not active."""

        async def act() -> bool:
            active = cube_id in self._fleet.cubes
            await self._let_go(cube_id)
            return active

        return await self._reply(cube_id, act)

    async def drain(self, node_id: str, draining: bool = True) -> Reply:
        """From now on nothing new goes to a node, and what is there leaves, some cubes a tick; or again not.

        Soft: a directory that restarts has forgotten it."""
        await self._recover()
        node = self._fleet.nodes.get(node_id)
        if node is None:
            known = ", ".join(self._fleet.nodes)
            return Reply(
                error=Invalid(f"there is no node {node_id!r}; there are {known}", argument="node_id")
            )
        node.draining = draining
        return Reply(sum(len(host.cubes) for host in self._fleet.on(node_id)))

    async def hosts(self) -> list[HostInfo]:
        """Every host that answers, blank ones too."""
        await self._recover()
        await self._hosts.pulse(_PULSE_S)
        return self._hosts.infos()

    async def nodes(self) -> list[NodeInfo]:
        """Every node that is alive, and what of it is in use."""
        await self._recover()
        fleet = self._fleet
        return [
            NodeInfo(
                node_id=node.node_id,
                cpus=node.cpus,
                memory_bytes=int(node.memory_bytes),
                used_bytes=fleet.used_bytes(node.node_id),
                hosts=sum(1 for _ in fleet.on(node.node_id)),
                cubes=sum(len(host.cubes) for host in fleet.on(node.node_id)),
                busy=sum(host.busy for host in fleet.on(node.node_id)),
                draining=node.draining,
                labels=dict(node.labels),
            )
            for node in fleet.nodes.values()
        ]

    # -- inside: one cube, under its lock ---------------------------------------------------------------------

    async def _reply(self, cube_id: str, act: Callable[[], Coroutine[Any, Any, Any]]) -> Reply:
        """One change at a time to where a cube is."""
        try:
            await self._recover()
            async with self._lock(cube_id):
                return Reply(await act())
        except MemosError as error:
            return Reply(error=error)

    async def _locate(
        self, cube_id: str, create: bool, suspect: str | None = None, near: str | None = None
    ) -> Located:
        known = self._located(cube_id)
        if known is not None and known.host_name != suspect:
            return known
        record = await self._find(cube_id, create)
        if known is not None:
            # It failed somebody. If it answers at all it may have lost the cube and can take it again.
            if await self._hosts.answers(
                known.host_name, min(_PING_TIMEOUT_S, self._settings.host_timeout_s)
            ):
                if await self._attach(record, known.host_name):
                    return self._must_be_located(cube_id)
            else:
                self._hosts.give_up(known.host_name, "it failed a caller and does not answer", silent=True)
        return await self._activate(record, near)

    async def _activate(self, record: CubeRecord, near: str | None = None) -> Located:
        cube_id, avoid = record.cube_id, set[str]()
        for _ in range(_HOSTS_TRIED):
            name = self._take_host(cube_id, near=near, avoid=avoid)
            if await self._attach(record, name):
                return self._must_be_located(cube_id)
            avoid.add(name)
        raise Unavailable(f"no host process could be started for {cube_id!r}", what="host")

    def _take_host(self, cube_id: str, **wishes: Any) -> str:
        """The host that a cube goes to; started if need be. Raises `Overloaded` if there is room nowhere."""
        match place(self._fleet, self._policy, cube_id, shard_of(cube_id), time.monotonic(), **wishes):
            case Use(name):
                return name
            case Start(node_id):
                return self._hosts.start(node_id)
            case Full(why, brief):
                if not self._fleet.nodes:
                    raise Unavailable(why, what="nodes")
                retry_s = 0.2 if brief else self._settings.tick_s
                raise Overloaded(f"{cube_id!r} cannot be activated now: {why}", retry_after_s=retry_s)

    async def _attach(self, record: CubeRecord, name: str) -> bool:
        """False if the host is of no use. Raises what activation itself raises."""
        cube_id, fleet = record.cube_id, self._fleet
        if name not in fleet.hosts:
            return False
        packed = self._policy.cubes_per_actor > 1 and cube_id not in fleet.own
        fleet.attaching(cube_id, shard_of(cube_id), name, time.monotonic(), packed=packed)
        try:
            call = self._hosts.handle(name).attach.remote(cube_id, record.incarnation)
            reply: Reply = await answer(call, _ATTACH_TIMEOUT_S)
        except (TimeoutError, ray.exceptions.RayError) as error:
            self._forget(cube_id, name)
            host = fleet.hosts.get(name)
            # One cube that cannot be attached is no reason to end a process with others in it, as long as that lives.
            if host is not None and not (host.cubes and await self._hosts.answers(name, _PING_TIMEOUT_S)):
                self._hosts.give_up(name, f"it did not attach {cube_id!r}: {error}", silent=True)
            return False
        except BaseException:
            self._forget(cube_id, name)
            raise
        if reply.error is not None:
            self._forget(cube_id, name)
            match reply.error.fields.get("reason"):
                case "full":
                    log.warning("host %s holds more than this directory knows of", name)
                    return False
                case "incarnation":  # another process has changed the registry
                    await asyncio.to_thread(self._index.refresh)
            raise reply.error
        use: CubeUse = reply.value
        if cube_id not in fleet.cubes:  # the host was given up meanwhile
            return False
        fleet.attached(cube_id, use.epoch, use.items, time.monotonic())
        self._fill_pool()
        return True

    def _forget(self, cube_id: str, name: str) -> None:
        cube = self._fleet.cubes.get(cube_id)
        if cube is not None and cube.host == name:
            self._fleet.gone(cube_id)

    async def _let_go(self, cube_id: str, *, idle_for_s: float = 0.0) -> bool:
        """Whether the cube is on no host now. A host that does not let go is ended: the next owner fences it."""
        cube = self._fleet.cubes.get(cube_id)
        if cube is None:
            return True
        cube.changing, name = True, cube.host
        try:
            call = self._hosts.handle(name).detach.remote(cube_id, idle_for_s)
            reply: Reply = await answer(call, _ATTACH_TIMEOUT_S)
            gone: bool = reply.unwrap()
        except (TimeoutError, ray.exceptions.RayError, MemosError) as error:
            self._hosts.give_up(name, f"it did not let go of {cube_id!r}: {error}")
            return True
        finally:
            cube.changing = False
        if gone:
            self._forget(cube_id, name)
        return gone

    async def _move(self, cube_id: str, *, only: str | None = None, own: bool = False) -> bool:
        """Prepares the new host, then drains the old one and attaches: calls in between are told to retry.

        False if there is no room elsewhere. Whatever fails on the way, the next call activates the cube."""
        record = await self._find(cube_id, False)
        cube = self._fleet.cubes.get(cube_id)
        if cube is None:
            return False
        had_own = cube_id in self._fleet.own
        own = own or had_own  # one that has its own host keeps one
        if own:
            self._fleet.own.add(cube_id)
        try:
            target = self._take_host(cube_id, only=only, avoid={cube.host})
        except MemosError as error:
            if not had_own:
                self._fleet.own.discard(cube_id)
            log.info("cube %r stays where it is: %s", cube_id, error)
            return False
        self._fleet.reserve(target, cube_id)  # nobody else takes its place, or ends the host, meanwhile
        try:
            if not await self._hosts.answers(target, _ATTACH_TIMEOUT_S):
                if not had_own:
                    self._fleet.own.discard(cube_id)
                return False
            await self._let_go(cube_id)
            if own:
                self._fleet.own.add(cube_id)
            if await self._attach(record, target):
                return True
        finally:
            self._fleet.unreserve(target, cube_id)
        await self._activate(record)
        return True

    def _located(self, cube_id: str) -> Located | None:
        cube = self._fleet.cubes.get(cube_id)
        return (
            None if cube is None else Located(cube_id, self._hosts.handle(cube.host), cube.host, cube.epoch)
        )

    def _must_be_located(self, cube_id: str) -> Located:
        located = self._located(cube_id)
        if located is None:
            raise Unavailable(f"the host of {cube_id!r} went away as it came up", what="host")
        return located

    async def _find(self, cube_id: str, create: bool) -> CubeRecord:
        """From memory if it is known there. That may be behind what another process changed; a host that attaches the
        cube looks at storage, after its claim."""
        known = self._index.peek(cube_id)
        if known is not None and known.state == "active":
            return known
        return await asyncio.to_thread(self._look_up, cube_id, create)

    def _look_up(self, cube_id: str, create: bool) -> CubeRecord:
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

    async def _fence_off(self, cube_id: str, record: CubeRecord) -> None:
        """Whoever may still own the old incarnation must not acknowledge another write into it."""
        try:
            await self._opening.fence_off(self._settings, cube_id, record.incarnation, clock=SystemClock())
        except Corrupt as error:  # nobody can activate it, and emptying it is what a reset is for
            log.warning("the incarnation of %r that is left behind is unreadable: %s", cube_id, error)

    def _lock(self, cube_id: str) -> asyncio.Lock:
        """Forgotten when nobody holds or awaits it."""
        return self._locks.setdefault(cube_id, asyncio.Lock())

    # -- inside: the fleet ------------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """Once after a (re)start: finds the hosts that outlived the directory, then goes on with upkeep."""
        if self._recovered is None:
            self._recovered = asyncio.create_task(self._hosts.find())
        task = self._recovered
        try:
            await asyncio.shield(task)
        except Exception:
            if self._recovered is task and task.done():
                self._recovered = None  # the next call tries again
            raise
        if self._keeper is None:
            self._reading = asyncio.create_task(self._read_registry())
            self._fill_pool()
            self._keeper = asyncio.create_task(self._keep())

    async def _read_registry(self) -> None:
        """Until it is read (3 s for a million cubes), whoever asks for a cube waits for its row alone."""
        try:
            await asyncio.to_thread(self._index.refresh)
        except MemosError as error:
            log.warning("the registry cannot be read now: %s", error)

    async def _keep(self) -> None:
        while True:
            began = time.monotonic()
            try:
                await self._hosts.look_at_nodes()
                await self._hosts.pulse(min(_PULSE_S, self._settings.tick_s))
                self._tick(time.monotonic())
            except Exception:  # whatever it was: the next tick finds the fleet as it then is
                log.exception("a tick of the directory failed")
            await asyncio.sleep(max(0.0, began + self._settings.tick_s - time.monotonic()))

    def _tick(self, now: float) -> None:
        for end in pool.drop(self._fleet, self._policy, now):
            self._hosts.end(end.host)
        self._fill_pool()
        begun = {task.get_name() for task in self._changes}
        for passivation in upkeep.passivations(self._fleet, self._policy, now):
            if passivation.cube_id not in begun:
                self._begin(passivation.cube_id, self._passivate(passivation))
        begun = {task.get_name() for task in self._changes}
        for move in upkeep.moves(self._fleet, self._policy, now):
            if move.cube_id not in begun:
                self._begin(move.cube_id, self._carry_out(move))

    def _fill_pool(self) -> None:
        for start in pool.fill(self._fleet, self._policy, time.monotonic()):
            self._hosts.start(start.node_id)

    def _begin(self, cube_id: str, change: Coroutine[Any, Any, None]) -> None:
        if len(self._changes) >= 2 * self._policy.changes:
            change.close()
            return
        task = asyncio.create_task(change, name=cube_id)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)

    async def _passivate(self, passivation: upkeep.Passivate) -> None:
        cube_id = passivation.cube_id
        async with self._lock(cube_id):
            idle = self._policy.idle_s if passivation.why == "idle" else 0.0
            if await self._let_go(cube_id, idle_for_s=idle):
                log.info("passivated %r: %s", cube_id, passivation.why)

    async def _carry_out(self, move: upkeep.Move) -> None:
        async with self._lock(move.cube_id):
            try:
                if await self._move(move.cube_id, only=move.node_id, own=move.own):
                    log.info("moved %r: %s", move.cube_id, move.why)
            except MemosError as error:
                log.warning("moving %r failed: %s", move.cube_id, error)
