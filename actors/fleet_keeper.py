"""The host processes of a system: started, watched, asked what they hold, ended. Keeps the `Fleet` true to them.

Decides nothing: `memos_ray.placement` does. Does not know the registry.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from typing import Any

import ray
from ray.util import list_named_actors

from actors.options import HOST_PREFIX
from actors.refs import answer
from memos_ray import _siblings, telemetry
from memos_ray.config import Settings
from memos_ray.ids import new_op_id
from memos_ray.placement.fleet import Fleet, Node
from memos_ray.placement.policy import Policy
from memos_ray.placement.shards import shard_of
from memos_ray.wire import HostInfo

log = logging.getLogger(__name__)

_START_TIMEOUT_S = 60.0  # a process that has not come up by then never will
_NODES_EVERY_S = 2.0
_SMOOTHING = 0.1
_MANY_TIMES = 10.0


class FleetKeeper:
    """Handles of all hosts by name, and what is known of them."""

    def __init__(self, settings: Settings, embedder: Any, fleet: Fleet, policy: Policy) -> None:
        self._settings = settings
        self._embedder = embedder
        self._fleet = fleet
        self._policy = policy
        self._handles: dict[str, Any] = {}
        self._infos: dict[str, HostInfo] = {}
        self._nodes_at = float("-inf")
        self._took_s = 0.0  # that a host takes to answer, smoothed
        self._asked: dict[str, asyncio.Task[None]] = {}
        self._failing: dict[str, float] = {}  # hosts that cannot be reached, and since when
        self.clocks: dict[
            str, float
        ] = {}  # by host: how far its clock is ahead of this process's, in seconds
        self.metrics_at: dict[str, str] = {}  # by node: host:port where Prometheus finds its metrics
        self.strays: dict[str, str] = {}  # `Fleet.strays` of the last pulses, each with its host
        self.served = 0  # calls that hosts were seen to answer
        self.given_up: deque[str] = deque(maxlen=5)  # the last ones, in words

    def handle(self, name: str) -> Any:
        """The actor's handle."""
        return self._handles[name]

    def infos(self) -> list[HostInfo]:
        """What every host said last."""
        return [self._infos[name] for name in self._fleet.hosts if name in self._infos]

    async def look_at_nodes(self) -> None:
        """Brings the fleet's nodes up to date, every few seconds; hosts of nodes that are gone are lost."""
        now = time.monotonic()
        if now - self._nodes_at < _NODES_EVERY_S and self._fleet.nodes:
            return
        self._nodes_at = now
        entries = [entry for entry in await asyncio.to_thread(ray.nodes) if entry["Alive"]]
        alive = [_node(entry) for entry in entries]
        exported = {entry["NodeID"]: _metrics_at(entry) for entry in entries}
        self.metrics_at = {node_id: where for node_id, where in exported.items() if where}
        for name in self._fleet.set_nodes(alive):
            self.give_up(name, "its node is gone", kind="node")

    def start(self, node_id: str) -> str:
        """Starts a host process on a node; returns its name at once."""
        name = f"{HOST_PREFIX}{new_op_id()}"
        create_host = _siblings.load("actors.mem_cube").create_host
        self._handles[name] = create_host(name, node_id, self._settings, self._embedder)
        self._fleet.starting(name, node_id, time.monotonic())
        return name

    def end(self, name: str) -> None:
        """Ends a host that holds nothing."""
        handle = self._handles.pop(name)
        self._forget(name)
        self._fleet.lost(name, time.monotonic())
        ray.kill(handle)

    def give_up(self, name: str, why: str, *, kind: str, silent: bool = False) -> list[str]:
        """Ends a host that does not do as it should, and forgets its cubes, which are returned.

        It never goes on beside its successors unobserved: what it still owns is fenced by the next claim, what it
        would still attach dies with it. `kind`: why in a word, the tag of `memos_hosts_given_up`. `silent`: its node
        may be gone as well.
        """
        handle = self._handles.pop(name, None)
        self._forget(name)
        cubes = self._fleet.lost(name, time.monotonic(), silent_s=self._policy.suspect_s if silent else 0.0)
        if handle is not None:
            telemetry.count(telemetry.HOSTS_LOST, why=kind)
            self.given_up.append(f"{name}: {why}")
            log.warning("host %s is given up: %s", name, why, extra={"host": name, "cubes": len(cubes)})
            ray.kill(handle)
        return cubes

    def _forget(self, name: str) -> None:
        self._infos.pop(name, None)
        self.clocks.pop(name, None)
        self._failing.pop(name, None)

    async def answers(self, name: str, timeout_s: float) -> bool:
        """Whether a host still serves calls. One that is busy with an attach does."""
        handle = self._handles.get(name)
        if handle is None:
            return False
        try:
            await answer(handle.ping.remote(), timeout_s)
        except (TimeoutError, ray.exceptions.RayError):
            return False
        return True

    async def pulse(self, wait_s: float) -> None:
        """Asks every host how it is, and waits for answers for so long at most. One that is dead, or silent for too
        long, is given up."""
        for name in self._handles:
            if name not in self._asked:
                task = self._asked[name] = asyncio.create_task(self._pulse(name), name=name)
                task.add_done_callback(lambda done: self._asked.pop(done.get_name()))
        if self._asked:
            await asyncio.wait(self._asked.values(), timeout=wait_s)

    async def _pulse(self, name: str) -> None:
        host, handle = self._fleet.hosts.get(name), self._handles.get(name)
        if host is None or handle is None:
            return
        was_ready = host.ready
        patience_s = self.patience_s() if was_ready else _START_TIMEOUT_S
        asked_at, asked_clock = time.monotonic(), time.time()
        try:
            # Since it was asked, not since it was seen: this process may have been stopped itself.
            info: HostInfo = await answer(handle.pulse.remote(), patience_s)
        except ray.exceptions.ActorDiedError as error:
            self.give_up(name, f"it died: {_first_line(error)}", kind="died")
        except (TimeoutError, ray.exceptions.RayError) as error:
            since = self._failing.setdefault(
                name, asked_at
            )  # what is unavailable says so at once, and may come back
            if time.monotonic() - since >= patience_s and self._fleet.hosts.get(name) is host:
                why = f"silent for {patience_s:g} s: {_first_line(error)}"
                self.give_up(name, why, kind="silent", silent=True)
        else:
            self._failing.pop(name, None)
            if name in self._handles:
                if was_ready:  # what a process takes to come up says nothing of how late hosts answer
                    self._took_s += _SMOOTHING * (time.monotonic() - asked_at - self._took_s)
                known = self._infos.get(name)
                self.served += max(0, info.served - (known.served if known is not None else info.served))
                self.clocks[name] = info.at - (asked_clock + time.time()) / 2
                self._infos[name] = info
                self._fleet.pulse(name, info.uss_bytes, info.cubes, time.monotonic())
                for cube_id in self._fleet.strays(name, info.cubes):
                    self.strays[cube_id] = name

    def patience_s(self) -> float:
        """How long a host may be silent. Where all answer late it is the machines that are slow, and ending processes
        would make them slower."""
        return max(self._settings.host_timeout_s, _MANY_TIMES * self._took_s)

    async def find(self) -> None:
        """Finds the hosts that outlived an earlier directory, and the cubes on them."""
        await self.look_at_nodes()
        found = {}
        for entry in await asyncio.to_thread(list_named_actors, all_namespaces=True):
            name = entry["name"]
            if entry["namespace"] == self._settings.namespace and name.startswith(HOST_PREFIX):
                with contextlib.suppress(ValueError):  # died since it was listed
                    found[name] = ray.get_actor(name, namespace=self._settings.namespace)
        # What is being attached right now is not told by a pulse: if nobody asks for it, it is sent away later.
        infos = await asyncio.gather(*(_pulsed(h, self._settings.host_timeout_s) for h in found.values()))
        for (name, handle), info in zip(found.items(), infos, strict=True):
            if info is None:
                log.warning("host %s does not answer the new directory", name, extra={"host": name})
                ray.kill(handle)
                continue
            self._handles[name], self._infos[name] = handle, info
            self._fleet.starting(name, info.node_id, time.monotonic()).ready = True
            for use in info.cubes:
                await self._take_over(info, use.cube_id, use.epoch, use.items)
        self._fleet.attached_at.clear()  # none of these is an activation that a pool has to keep up with

    async def _take_over(self, info: HostInfo, cube_id: str, epoch: int, items: int) -> None:
        """Of two hosts that hold the same cube, the one with the higher epoch owns it."""
        now = time.monotonic()
        if info.name not in self._handles:
            return  # it was given up, with all that it holds
        known = self._fleet.cubes.get(cube_id)
        if known is not None:
            stale = info.name if known.epoch >= epoch else known.host
            handle = self._handles[stale]
            if stale != info.name:
                self._fleet.gone(cube_id)
            try:
                await answer(handle.detach.remote(cube_id), self._settings.host_timeout_s)
            except (TimeoutError, ray.exceptions.RayError) as error:
                why = f"it holds {cube_id!r}, which it does not own: {_first_line(error)}"
                self.give_up(stale, why, kind="stale")
            if stale == info.name:
                return
        shared = self._policy.cubes_per_actor > 1
        packed = shared and (items <= self._policy.own_items or len(info.cubes) > 1)
        if shared and not packed:
            self._fleet.own.add(cube_id)
        self._fleet.attaching(cube_id, shard_of(cube_id), info.name, now, packed=packed)
        self._fleet.attached(cube_id, epoch, items, now)


async def _pulsed(handle: Any, timeout_s: float) -> HostInfo | None:
    try:
        info: HostInfo = await answer(handle.pulse.remote(), timeout_s)
    except (TimeoutError, ray.exceptions.RayError):
        return None
    return info


def _node(entry: dict[str, Any]) -> Node:
    resources = entry["Resources"]
    return Node(
        node_id=entry["NodeID"],
        cpus=float(resources.get("CPU", 1.0)),
        memory_bytes=float(resources.get("memory", 0.0)),
        labels=dict(entry.get("Labels") or {}),
    )


def _metrics_at(entry: dict[str, Any]) -> str:
    port = entry.get("MetricsExportPort")
    return f"{entry['NodeManagerAddress']}:{port}" if port else ""


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
