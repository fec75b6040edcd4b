"""The directory's view of the whole system, as values: for `memos-ray status`, for `doctor`, and as gauges.

Reads the fleet; changes nothing and asks nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from statistics import median

from memos_ray import telemetry
from memos_ray.placement import pool
from memos_ray.placement.fleet import Fleet
from memos_ray.placement.policy import Policy
from memos_ray.wire import CubeLoad, HostInfo, NodeInfo


def node_infos(
    fleet: Fleet, policy: Policy, now: float, clocks: Mapping[str, float], metrics_at: Mapping[str, str]
) -> tuple[NodeInfo, ...]:
    """Every node that is alive. `clocks`: by host, how far its clock is ahead; `metrics_at`: by node, host:port."""
    found = []
    for node in fleet.nodes.values():
        hosts = list(fleet.on(node.node_id))
        ahead = [clocks[host.name] for host in hosts if host.name in clocks]
        found.append(
            NodeInfo(
                node_id=node.node_id,
                cpus=node.cpus,
                memory_bytes=int(node.memory_bytes),
                used_bytes=fleet.used_bytes(node.node_id),
                hosts=len(hosts),
                cubes=sum(len(host.cubes) for host in hosts),
                busy=sum(host.busy for host in hosts),
                draining=node.draining,
                labels=dict(node.labels),
                limit_bytes=int(policy.memory_share * node.memory_bytes),
                suspect=node.suspect_until > now,
                clock_s=median(ahead) if ahead else 0.0,
                metrics=metrics_at.get(node.node_id, ""),
            )
        )
    return tuple(found)


def cube_loads(fleet: Fleet, now: float, top: int) -> tuple[CubeLoad, ...]:
    """The `top` cubes that keep a core the busiest; among equals the largest first."""
    first = sorted(fleet.cubes.values(), key=lambda c: (-round(c.busy, 2), -c.items, c.cube_id))[:top]
    return tuple(
        CubeLoad(
            cube_id=cube.cube_id,
            host=cube.host,
            node_id=fleet.hosts[cube.host].node_id,
            items=cube.items,
            busy=cube.busy,
            memory_bytes=int(fleet.bytes_of(cube)),
            idle_s=max(0.0, now - cube.used_at),
        )
        for cube in first
        if cube.host in fleet.hosts
    )


def pool_counts(fleet: Fleet) -> tuple[int, int]:
    """(blank hosts that are ready, hosts that are starting)."""
    hosts = fleet.hosts.values()
    return sum(h.blank and h.ready for h in hosts), sum(not h.ready for h in hosts)


def tell(fleet: Fleet, policy: Policy, now: float, infos: Iterable[HostInfo]) -> None:
    """Sets the gauges."""
    waiting: Counter[str] = Counter()
    for info in infos:
        waiting[info.node_id] += info.waiting
    for node in node_infos(fleet, policy, now, {}, {}):
        states = Counter(
            "starting" if not host.ready else "blank" if host.blank else "holding"
            for host in fleet.on(node.node_id)
        )
        for state in ("starting", "blank", "holding"):
            telemetry.gauge(telemetry.HOSTS, states[state], node=node.node_id, state=state)
        telemetry.gauge(telemetry.CUBES, node.cubes, node=node.node_id)
        telemetry.gauge(telemetry.MEMORY, node.used_bytes, node=node.node_id)
        telemetry.gauge(telemetry.MEMORY_LIMIT, node.limit_bytes, node=node.node_id)
        telemetry.gauge(telemetry.BUSY, node.busy, node=node.node_id)
        telemetry.gauge(telemetry.CALLS_WAITING, waiting[node.node_id], node=node.node_id)
    telemetry.gauge(telemetry.POOL_WANTED, pool.wanted(fleet, policy, now))
