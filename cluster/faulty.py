"""A Ray cluster of several nodes on this machine, whose parts can be killed and stopped.

Nodes are real raylets with real worker processes; what they share is the machine, so its loss cannot be tried here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Sequence
from typing import Any

import ray
from ray.cluster_utils import Cluster

from actors.options import DIRECTORY_NAME, EMBEDDER_NAME
from cluster.launch import prepare_environment
from memos_ray.bench.chaos.plan import Fault
from memos_ray.errors import MemosError
from memos_ray.ids import new_op_id
from memos_ray.memos import AsyncMemOS
from memos_ray.wire import Call, Reply

log = logging.getLogger(__name__)

# Ray takes 13 s and more to find a dead node with its defaults.
QUICK_HEALTH_CHECKS = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 300,
    "health_check_timeout_ms": 300,
    "health_check_failure_threshold": 2,
}
_PATIENCE_S = 60.0
_LOOK_S = 0.05


class FaultyCluster:
    """Some nodes and a system on them. The head holds the GCS and this driver, and is spared."""

    def __init__(self, *, nodes: int = 3, cpus: int = 1) -> None:
        prepare_environment()
        self._cpus = cpus
        head = {"num_cpus": cpus, "include_dashboard": False, "_system_config": dict(QUICK_HEALTH_CHECKS)}
        self._cluster = Cluster(
            initialize_head=True, connect=False, shutdown_at_exit=False, head_node_args=head
        )
        self._workers = [self._cluster.add_node(num_cpus=cpus) for _ in range(nodes - 1)]
        self._cluster.wait_for_nodes()
        self.address: str = self._cluster.address
        self.woken = 0  # stopped owners that lived when they were continued

    def close(self) -> None:
        """Ends everything, this process's connection to Ray too."""
        ray.shutdown()
        self._cluster.shutdown()  # type: ignore[no-untyped-call]

    async def inject(
        self, fault: Fault, pick: float, memory: AsyncMemOS
    ) -> tuple[float, list[str], list[str]]:
        """Does it. Returns when (monotonic), the cubes that are concerned, and stale writes that were accepted."""
        hosts = [h for h in (await memory.status())["hosts"] if h["cubes"]]
        match fault:
            case Fault.ACTOR:
                host = _picked(hosts, pick)
                at = _signal(host["pid"], signal.SIGKILL)
                return at, _cubes([host]), []
            case Fault.DIRECTORY | Fault.EMBEDDER:
                name = DIRECTORY_NAME if fault is Fault.DIRECTORY else EMBEDDER_NAME
                actor: Any = ray.get_actor(name, namespace=memory.connect().settings.namespace)
                at = _signal(await _asked(actor.pid), signal.SIGKILL)
                return at, _cubes(hosts), []
            case Fault.NODE:
                at, node_id = await asyncio.to_thread(self._kill_node, pick, {h["node_id"] for h in hosts})
                there = [h for h in hosts if h["node_id"] == node_id]
                await self._ended_or_left(there, memory)
                return at, _cubes(there), []
            case Fault.STALL:
                return await self._stall(_picked(hosts, pick), memory)
            case Fault.MOVE:
                cube_id, at = _picked(_cubes(hosts), pick), time.monotonic()
                with contextlib.suppress(MemosError):  # it may have gone meanwhile; writes go on all the same
                    await memory.move(cube_id)
                return at, [cube_id], []

    async def mend(self, fault: Fault) -> None:
        """Puts a new node where one was lost."""
        if fault is Fault.NODE:
            self._workers.append(await asyncio.to_thread(self._cluster.add_node, num_cpus=self._cpus))

    def _kill_node(self, pick: float, holding: set[str]) -> tuple[float, str]:
        """Of one that holds cubes, if any does. Its processes notice by themselves that their raylet is gone."""
        node = _picked([n for n in self._workers if n.node_id in holding] or self._workers, pick)
        self._workers.remove(node)
        at = time.monotonic()
        node.kill_raylet()
        self._cluster.remove_node(node, allow_graceful=False)
        return at, node.node_id

    async def _ended_or_left(self, hosts: Sequence[dict[str, Any]], memory: AsyncMemOS) -> None:
        """Until each of these processes has ended, or none of its cubes is looked for there any more: what still lives
        may serve calls for a while."""
        namespace = memory.connect().settings.namespace
        directory: Any = ray.get_actor(DIRECTORY_NAME, namespace=namespace)
        async with asyncio.timeout(_PATIENCE_S):
            for host in hosts:
                for cube_id in _cubes([host]):
                    where = host["name"]
                    while _is_there(host["pid"]) and where == host["name"]:
                        where = await _asked(directory.whose, cube_id)
                        await asyncio.sleep(_LOOK_S)

    async def _stall(self, host: dict[str, Any], memory: AsyncMemOS) -> tuple[float, list[str], list[str]]:
        """Stops an owner until all its cubes are elsewhere, wakes it up, and asks it to write."""
        cubes = _cubes([host])
        namespace = memory.connect().settings.namespace
        old: Any = ray.get_actor(host["name"], namespace=namespace)
        directory: Any = ray.get_actor(DIRECTORY_NAME, namespace=namespace)
        at = _signal(host["pid"], signal.SIGSTOP)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                left = set(cubes)
                while left:
                    left = {c for c in left if await _asked(directory.whose, c) in (None, host["name"])}
                    await asyncio.sleep(_LOOK_S)
        finally:
            alive = _is_there(host["pid"])
            _signal(host["pid"], signal.SIGCONT)
        self.woken += alive
        accepted: list[str] = []
        for cube_id in cubes:
            write = {"messages": f"a stale owner writes into {cube_id}", "op_id": new_op_id()}
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    reply: Reply = await old.call.remote(
                        Call(cube_id, "add_messages", write, "stale", _PATIENCE_S)
                    )
            except (TimeoutError, ray.exceptions.RayError):
                continue
            if reply.error is None:
                accepted.append(cube_id)
        return at, cubes, accepted


async def _asked(method: Any, *args: Any) -> Any:
    """The answer of an actor that may be restarting."""
    give_up_at = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return await method.remote(*args)
        except ray.exceptions.RayActorError:
            if time.monotonic() > give_up_at:
                raise
            await asyncio.sleep(_LOOK_S)


def _picked(candidates: Sequence[Any], pick: float) -> Any:
    return candidates[int(pick * len(candidates))]


def _cubes(hosts: Sequence[dict[str, Any]]) -> list[str]:
    return [cube["cube_id"] for host in hosts for cube in host["cubes"]]


def _signal(pid: int, number: signal.Signals) -> float:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    return time.monotonic()


def _is_there(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:  # Linux: a zombie is not there
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
