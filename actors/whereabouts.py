"""Where active cubes are, and how they get there: attached, let go, moved. One change at a time to each.

Carries out `placement.place`; knows hosts through their keeper and cubes through the catalogue. A wrong answer costs a
retry, not data: the journal's fence decides who owns a cube.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import ray

from actors.activity import Activity, source_of
from actors.catalogue import Catalogue
from actors.fleet_keeper import FleetKeeper
from actors.refs import answer
from memos_ray.config import Settings
from memos_ray.errors import MemosError, Overloaded, Unavailable
from memos_ray.placement.fleet import CubeUse, Fleet
from memos_ray.placement.place import Full, Start, Use, place
from memos_ray.placement.policy import Policy
from memos_ray.placement.shards import shard_of
from memos_ray.wire import Located, Reply

if TYPE_CHECKING:
    from memos_ray.cube.registry import CubeRecord

log = logging.getLogger(__name__)

_ATTACH_TIMEOUT_S = 60.0
_STRAY_TIMEOUT_S = 5.0
_HOSTS_TRIED = 3


class Whereabouts:
    """All methods but `host_of` want the cube's `lock` to be held."""

    def __init__(
        self,
        settings: Settings,
        fleet: Fleet,
        policy: Policy,
        hosts: FleetKeeper,
        catalogue: Catalogue,
        activity: Activity,
    ) -> None:
        self._settings = settings
        self._fleet = fleet
        self._policy = policy
        self._hosts = hosts
        self._catalogue = catalogue
        self._activity = activity
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    def lock(self, cube_id: str) -> asyncio.Lock:
        """Forgotten when nobody holds or awaits it."""
        return self._locks.setdefault(cube_id, asyncio.Lock())

    def host_of(self, cube_id: str) -> str | None:
        """The host that a cube is on or on its way to."""
        cube = self._fleet.cubes.get(cube_id)
        return cube.host if cube is not None else None

    async def locate(
        self, cube_id: str, *, create: bool = False, suspect: str | None = None, near: str | None = None
    ) -> Located:
        """Where it is; activated if it is not active. See `DirectoryActor.locate`."""
        known = self._located(cube_id)
        if known is not None and known.host_name != suspect:
            return known
        record = await self._catalogue.find(cube_id, create=create)
        avoid: set[str] = set()
        if known is not None:
            # It failed somebody. If it answers at all it may have lost the cube and can take it again.
            avoid.add(known.host_name)
            if await self._hosts.answers(known.host_name, self._hosts.patience_s()):
                if await self._attach(record, known.host_name):
                    return self._must_be_located(cube_id)
            else:
                self._hosts.give_up(
                    known.host_name, "it failed a caller and does not answer", kind="caller", silent=True
                )
        return await self._activate(record, near, avoid)

    async def _activate(
        self, record: CubeRecord, near: str | None = None, avoid: Collection[str] = ()
    ) -> Located:
        cube_id, avoid = record.cube_id, set(avoid)
        for _ in range(_HOSTS_TRIED):
            began = time.monotonic()
            name = self._take_host(cube_id, near=near, avoid=avoid)
            source, attached = source_of(self._fleet, name, began), False
            try:
                attached = await self._attach(record, name)
            finally:
                self._activity.activation(source, attached, time.monotonic() - began)
            if attached:
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
            if host is not None and not (
                host.cubes and await self._hosts.answers(name, self._hosts.patience_s())
            ):
                died = isinstance(error, ray.exceptions.ActorDiedError)  # then its node is well
                self._hosts.give_up(
                    name, f"it did not attach {cube_id!r}: {error}", kind="attach", silent=not died
                )
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
                    await self._catalogue.read()
            raise reply.error
        use: CubeUse = reply.value
        if cube_id not in fleet.cubes:  # the host was given up meanwhile
            return False
        fleet.attached(cube_id, use.epoch, use.items, time.monotonic())
        return True

    def _forget(self, cube_id: str, name: str) -> None:
        cube = self._fleet.cubes.get(cube_id)
        if cube is not None and cube.host == name:
            self._fleet.gone(cube_id)

    async def let_go(self, cube_id: str, *, idle_for_s: float = 0.0) -> bool:
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
            self._hosts.give_up(name, f"it did not let go of {cube_id!r}: {error}", kind="detach")
            return True
        finally:
            cube.changing = False
        if gone:
            self._forget(cube_id, name)
        return gone

    async def send_away(self, cube_id: str, name: str) -> None:
        """Makes a host drop a cube that it holds and is not looked for there: see `Fleet.strays`."""
        if name not in self._fleet.hosts or self.host_of(cube_id) == name:
            return
        log.warning("host %s holds %r, which is not looked for there", name, cube_id)
        try:
            reply: Reply = await answer(self._hosts.handle(name).detach.remote(cube_id), _STRAY_TIMEOUT_S)
            reply.unwrap()
        except (TimeoutError, ray.exceptions.RayError, MemosError) as error:
            log.warning("host %s did not let go of %r: %s", name, cube_id, error)  # its next pulse tells

    async def move(self, cube_id: str, *, only: str | None = None, own: bool = False) -> bool:
        """Prepares the new host, then drains the old one and attaches: calls in between are told to retry.

        False if there is no room elsewhere. Whatever fails on the way, the next call activates the cube."""
        record = await self._catalogue.find(cube_id, create=False)
        fleet = self._fleet
        cube = fleet.cubes.get(cube_id)
        if cube is None:
            return False
        had_own = cube_id in fleet.own
        own = own or had_own  # one that has its own host keeps one
        if own:
            fleet.own.add(cube_id)
        try:
            target = self._take_host(cube_id, only=only, avoid={cube.host})
        except MemosError as error:
            if not had_own:
                fleet.own.discard(cube_id)
            log.info("cube %r stays where it is: %s", cube_id, error)
            return False
        fleet.reserve(target, cube_id)  # nobody else takes its place, or ends the host, meanwhile
        try:
            if not await self._hosts.answers(target, _ATTACH_TIMEOUT_S):
                if not had_own:
                    fleet.own.discard(cube_id)
                return False
            await self.let_go(cube_id)
            if own:
                fleet.own.add(cube_id)
            if await self._attach(record, target):
                return True
        finally:
            fleet.unreserve(target, cube_id)
        try:
            await self._activate(record)
        except MemosError:
            fleet.own.discard(cube_id)  # it is on no host now; the next activation decides anew
            raise
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
