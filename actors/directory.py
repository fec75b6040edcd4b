"""Which host holds which cube: the directory as clients and operators see it.

Soft state: all of it can be rebuilt from the registry and the hosts that run. It never judges whether an owner is
legitimate: the journal's fence does. A wrong answer here costs a retry, not data.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import ray

from actors import overview
from actors.activity import Activity
from actors.catalogue import Catalogue
from actors.fleet_keeper import FleetKeeper
from actors.observed import logs_folder, observe_process, restarts_of_this_actor
from actors.options import DIRECTORY_NAME
from actors.refs import answer
from actors.ticking import PULSE_S, Ticking
from actors.whereabouts import Whereabouts
from memos_ray import __version__, logs
from memos_ray.config import Settings
from memos_ray.errors import Invalid, MemosError, NotFound, Unavailable
from memos_ray.placement import pool
from memos_ray.placement.fleet import Fleet
from memos_ray.placement.policy import Policy
from memos_ray.wire import DirectoryInfo, EmbedderLoad, HostInfo, Located, NodeInfo, Reply, SystemInfo

if TYPE_CHECKING:
    import pyarrow as pa

    from memos_ray.cube.registry import Grant

log = logging.getLogger(__name__)


class DirectoryActor:
    """Locates cubes, activates them on first use, and keeps hosts, memory and load in order."""

    def __init__(self, settings: Settings, embedder: Any) -> None:
        self._settings = settings
        self._embedder = embedder
        self._node_id = observe_process(settings, actor="directory", name=DIRECTORY_NAME)
        self._started_at = time.monotonic()
        self._policy = policy = Policy.from_settings(settings)
        self._fleet = fleet = Fleet()
        self._activity = activity = Activity()
        self._catalogue = Catalogue(settings)
        self._hosts = hosts = FleetKeeper(settings, embedder, fleet, policy)
        self._cubes = Whereabouts(settings, fleet, policy, hosts, self._catalogue, activity)
        self._ticking = Ticking(settings, fleet, policy, hosts, self._cubes, activity)
        self._recovered: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        # Ray restarts this actor without anybody calling it: it calls itself, so that its upkeep goes on.
        ray.get_runtime_context().current_actor.wake_up.remote()

    async def wake_up(self) -> None:
        """Finds the hosts that run, and begins to look after them."""
        await self._recover()

    async def settings(self) -> Settings:
        """The settings that this system runs with."""
        return self._settings

    def version(self) -> str:
        """The release that this system runs."""
        return __version__

    def pid(self) -> int:
        """The process, for those who want to measure or kill it."""
        return os.getpid()

    # -- where cubes are --------------------------------------------------------------------------------------

    async def locate(
        self,
        cube_id: str,
        create: bool = True,
        suspect: str | None = None,
        near: str | None = None,
        request_id: str | None = None,
    ) -> Reply:
        """`Located` of an attached cube. `suspect` names the host that failed the caller, to be looked at again; `near`
        is the node that the cube should be on, if it is to be activated."""
        with logs.serving(request_id, cube_id):
            return await self._alone(
                cube_id, lambda: self._cubes.locate(cube_id, create=create, suspect=suspect, near=near)
            )

    async def whose(self, cube_id: str) -> str | None:
        """The name of the host that a cube is on or on its way to; None if it is on none. For callers that have waited
        for a while."""
        await self._recover()  # until then it knows of no cube, and all are where they were
        return self._cubes.host_of(cube_id)

    async def reset(self, cube_id: str, incarnation: str) -> Reply:
        """Gives the cube a new, empty incarnation, named by the caller so that a repeated call changes nothing more."""

        async def act() -> Located:
            await self._catalogue.renew(cube_id, incarnation, lambda: self._cubes.let_go(cube_id))
            return await self._cubes.locate(cube_id)

        return await self._alone(cube_id, act)

    async def import_cube(self, cube_id: str, table: pa.Table, incarnation: str) -> Reply:
        """Makes a new cube of exported rows. Raises `Conflict` if there is one of that id that is not this import's."""

        async def act() -> Located:
            await self._catalogue.take_in(cube_id, table, incarnation)
            return await self._cubes.locate(cube_id)

        return await self._alone(cube_id, act)

    async def restore_cube(
        self, cube_id: str, incarnation: str, replace: bool, owner: str = "", grants: tuple[Grant, ...] = ()
    ) -> Reply:
        """Makes an incarnation that lies in storage already the cube's: see `incarnations.adopt`. Activates nothing."""

        async def act() -> str:
            await self._catalogue.adopt(
                cube_id,
                incarnation,
                lambda: self._cubes.let_go(cube_id),
                replace=replace,
                owner=owner,
                grants=grants,
            )
            return incarnation

        return await self._alone(cube_id, act)

    async def cubes(
        self,
        prefix: str = "",
        limit: int = 1000,
        after: str = "",
        owner: str | None = None,
        embedder: str | None = None,
    ) -> Reply:
        """Registered cubes as `CubeRecord`s, by id. What other processes changed is in it after a second."""
        try:
            return Reply(
                await self._catalogue.page(prefix, limit=limit, after=after, owner=owner, embedder=embedder)
            )
        except MemosError as error:
            return Reply(error=error)

    # -- what an operator asks for ----------------------------------------------------------------------------

    async def move(self, cube_id: str, node_id: str | None = None) -> Reply:
        """Takes an active cube to another host (on `node_id`), under load. `Located` of where it then is."""

        async def act() -> Located:
            if self._cubes.host_of(cube_id) is None:
                message = f"cube {cube_id!r} is not active: there is nothing to move"
                raise NotFound(message, what="cube", id=cube_id)
            if node_id is not None:
                self._check_node(node_id)
            moved = await self._cubes.move(cube_id, only=node_id)
            self._activity.move("asked", moved)
            if not moved:
                message = f"there is no room for {cube_id!r} there; it stays where it is"
                raise Unavailable(message, what="host")
            return await self._cubes.locate(cube_id)

        return await self._alone(cube_id, act)

    async def passivate(self, cube_id: str) -> Reply:
        """Drains an active cube and lets it go; False if it was not active."""

        async def act() -> bool:
            active = self._cubes.host_of(cube_id) is not None
            await self._cubes.let_go(cube_id)
            if active:
                self._activity.passivation("asked")
            return active

        return await self._alone(cube_id, act)

    async def drain(self, node_id: str, draining: bool = True) -> Reply:
        """From now on nothing new goes to a node, and what is there leaves, some cubes a tick; or again not.

        Soft: a directory that restarts has forgotten it."""
        await self._recover()
        try:
            self._check_node(node_id)
        except Invalid as error:
            return Reply(error=error)
        self._fleet.nodes[node_id].draining = draining
        return Reply(sum(len(host.cubes) for host in self._fleet.on(node_id)))

    async def hosts(self) -> list[HostInfo]:
        """Every host that answers, blank ones too."""
        await self._recover()
        await self._hosts.pulse(PULSE_S)
        return self._hosts.infos()

    async def nodes(self) -> list[NodeInfo]:
        """Every node that is alive, and what of it is in use."""
        await self._recover()
        return list(self._node_infos(time.monotonic()))

    async def status(self, top: int = 10) -> SystemInfo:
        """All of it at once, and the `top` busiest cubes. Waits for hosts and embedder for half a second at most."""
        await self._recover()
        _, embedder, restarts = await asyncio.gather(
            self._hosts.pulse(PULSE_S), self._embedder_load(), asyncio.to_thread(restarts_of_this_actor)
        )
        now, fleet, rates = time.monotonic(), self._fleet, self._activity.rates
        blank, starting = overview.pool_counts(fleet)
        return SystemInfo(
            nodes=self._node_infos(now),
            hosts=tuple(self._hosts.infos()),
            cubes=overview.cube_loads(fleet, now, top),
            active=len(fleet.cubes),
            directory=DirectoryInfo(
                pid=os.getpid(),
                node_id=self._node_id,
                uptime_s=now - self._started_at,
                restarts=restarts,
                at=time.time(),
                version=__version__,
                ray=ray.__version__,
                python=platform.python_version(),
                logs=logs_folder(),
                registered=self._catalogue.known,
                blank=blank,
                starting=starting,
                wanted=pool.wanted(fleet, self._policy, now),
                calls_per_s=rates.per_s("calls", now),
                activations_per_s=rates.per_s("activations", now),
                passivations_per_s=rates.per_s("passivations", now),
                moves_per_s=rates.per_s("moves", now),
                given_up=tuple(self._hosts.given_up),
            ),
            embedder=embedder,
        )

    # -- inside -----------------------------------------------------------------------------------------------

    async def _alone(self, cube_id: str, act: Callable[[], Coroutine[Any, Any, Any]]) -> Reply:
        """One change at a time to where a cube is. Errors become values."""
        try:
            await self._recover()
            async with self._cubes.lock(cube_id):
                return Reply(await act())
        except MemosError as error:
            if not isinstance(error, NotFound):
                log.info("cube %r: %s", cube_id, error)
            return Reply(error=error)
        except (TimeoutError, OSError, ray.exceptions.RayError) as error:
            log.warning("cube %r: %s", cube_id, error)
            return Reply(
                error=Unavailable(f"the directory cannot do its work now: {error}", what="directory")
            )
        except Exception as error:  # a defect, which the caller is told of and the log in full
            log.exception("cube %r: the directory failed", cube_id)
            return Reply(error=MemosError(f"the directory failed unexpectedly: {error!r}"))

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
        if not self._tasks:
            self._ticking.fill_pool()
            self._tasks = [
                asyncio.create_task(self._catalogue.read()),
                asyncio.create_task(self._ticking.run()),
            ]

    def _check_node(self, node_id: str) -> None:
        if node_id not in self._fleet.nodes:
            known = ", ".join(self._fleet.nodes)
            raise Invalid(f"there is no node {node_id!r}; there are {known}", argument="node_id")

    def _node_infos(self, now: float) -> tuple[NodeInfo, ...]:
        return overview.node_infos(self._fleet, self._policy, now, self._hosts.clocks, self._hosts.metrics_at)

    async def _embedder_load(self) -> EmbedderLoad | None:
        try:
            load: EmbedderLoad = await answer(self._embedder.load.remote(), PULSE_S)
        except (TimeoutError, ray.exceptions.RayError):
            return None
        return load
