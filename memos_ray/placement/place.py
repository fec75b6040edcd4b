"""Where a cube that is asked for goes: to which host, or to which node if a host has to be started.

A cube runs in one place at a time; there are no replicas. Packed cubes go by shard, so that a shard's cubes are
together and move together; a cube that is hot or large has a host of its own.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from memos_ray.placement.fleet import Fleet, Host, Node
from memos_ray.placement.policy import Policy

_NEAR = 0.25  # how much more loaded a node may be and still be chosen because the cube is read there


@dataclass(frozen=True, slots=True)
class Use:
    """Attach the cube to this host."""

    host: str


@dataclass(frozen=True, slots=True)
class Start:
    """Start a host on this node, and attach the cube to it."""

    node_id: str


@dataclass(frozen=True, slots=True)
class Full:
    """Every node has as much as it may hold, or starts as many hosts as it should at once (`brief`)."""

    why: str
    brief: bool = False


Place = Use | Start | Full


def place(
    fleet: Fleet,
    policy: Policy,
    cube_id: str,
    shard: int,
    now: float,
    *,
    near: str | None = None,
    avoid: Collection[str] = (),
    only: str | None = None,
) -> Place:
    """Where `cube_id` goes. `near` is a node that it should be on if that has room, `only` one that it must be on;
    `avoid` are hosts that it must not be on."""
    nodes = [n for n in usable(fleet, policy, now) if only is None or n.node_id == only]
    nodes = [n for n in nodes if room(fleet, policy, n)]
    if not nodes:
        return Full(_why(fleet, policy, now, only))
    packed = policy.cubes_per_actor > 1 and cube_id not in fleet.own
    busy = fleet.cubes[cube_id].busy if cube_id in fleet.cubes else 0.0
    if packed:  # looked at first: most cubes that are asked for have one, and it saves looking at all hosts
        home = fleet.hosts.get(fleet.shards.get(shard, ""))
        if (
            home is not None
            and home.name not in avoid
            and any(node.node_id == home.node_id for node in nodes)
            and takes(home, policy, busy)
            and not _attaches_enough(home, policy)
        ):
            return Use(home.name)
    roomy = {node.node_id: score(fleet, policy, node, near) for node in nodes}
    hosts = [h for h in fleet.hosts.values() if h.node_id in roomy and h.name not in avoid and not h.leaving]
    if packed:
        open_to_it = [h for h in hosts if h.cubes and takes(h, policy, busy)]
        calm = [h for h in open_to_it if not _attaches_enough(h, policy)]
        if not calm and any(h.blank and h.ready for h in hosts):
            open_to_it = []  # an empty process has the cube sooner than one that activates others
        if open_to_it := calm or open_to_it:
            return Use(min(open_to_it, key=lambda h: (h.busy + roomy[h.node_id], len(h.cubes), h.name)).name)
    blanks = [h for h in hosts if h.blank]
    if blanks:  # one that is up before one that is coming up, whatever the node
        return Use(min(blanks, key=lambda h: (not h.ready, roomy[h.node_id], h.started_at, h.name)).name)
    free = [node_id for node_id in roomy if starting(fleet, node_id) < starts_at_once(fleet, policy, node_id)]
    if not free:
        return Full("as many host processes are starting as should at once", brief=True)
    return Start(min(free, key=lambda node_id: (roomy[node_id], node_id)))


def starts_at_once(fleet: Fleet, policy: Policy, node_id: str) -> int:
    """How many hosts may be starting on a node."""
    return max(2, round(policy.starts_per_cpu * fleet.nodes[node_id].cpus))


def starting(fleet: Fleet, node_id: str) -> int:
    """How many are."""
    return sum(not host.ready for host in fleet.on(node_id))


def takes(host: Host, policy: Policy, busy: float = 0.0) -> bool:
    """Whether another packed cube, which keeps a core busy by so much, may go there."""
    return (
        not host.own
        and not host.leaving
        and len(host.cubes) + len(host.coming) < policy.cubes_per_actor
        and host.busy + busy < policy.full_busy
    )


def _attaches_enough(host: Host, policy: Policy) -> bool:
    return sum([cube.changing for cube in host.cubes.values()]) >= policy.attaches


def usable(fleet: Fleet, policy: Policy, now: float) -> list[Node]:
    """Nodes that may get something new. Where all others have fallen silent, they are tried all the same."""
    wanted = policy.labels.items()
    able = [
        node
        for node in fleet.nodes.values()
        if not node.draining and all(node.labels.get(k) == v for k, v in wanted)
    ]
    return [node for node in able if node.suspect_until <= now] or able


def room(fleet: Fleet, policy: Policy, node: Node) -> bool:
    """Whether the hosts of a node take less memory than they may."""
    return fleet.used_bytes(node.node_id) < policy.memory_share * node.memory_bytes


def load(fleet: Fleet, policy: Policy, node: Node) -> float:
    """How loaded a node is: the larger of its memory's and its cores' share in use; 1 is all it may give."""
    memory = fleet.used_bytes(node.node_id) / max(policy.memory_share * node.memory_bytes, 1.0)
    busy = sum(host.busy for host in fleet.on(node.node_id)) / max(node.cpus, 1.0)
    return max(memory, busy)


def score(fleet: Fleet, policy: Policy, node: Node, near: str | None) -> float:
    """Lower is better: the load, and so little for each active cube that idle nodes fill up evenly."""
    cubes = sum(len(host.cubes) for host in fleet.on(node.node_id))
    wanted = near is not None and node.node_id == near
    return load(fleet, policy, node) + 0.001 * cubes / max(node.cpus, 1.0) - (_NEAR if wanted else 0.0)


def _why(fleet: Fleet, policy: Policy, now: float, only: str | None) -> str:
    if only is not None and only not in fleet.nodes:
        return f"there is no node {only!r}"
    if not fleet.nodes:
        return "no node is alive"
    able = usable(fleet, policy, now)
    if not any(only is None or n.node_id == only for n in able):
        labels = ", ".join(f"{k}={v}" for k, v in policy.labels.items())
        return f"no node may take cubes: {len(fleet.nodes)} are alive, draining or silent" + (
            f", or without the labels {labels}" if labels else ""
        )
    return f"the hosts of every node take more than {policy.memory_share:.0%} of its memory"
