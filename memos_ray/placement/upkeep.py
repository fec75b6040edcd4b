"""What is done now and then: cubes that nobody uses are passivated, memory is relieved, load is evened out.

Every tick begins a bounded number of changes, and none on a cube that is being changed or was a moment ago: a
fleet that is far from where it should be gets there in steps, and calls go on meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from memos_ray.placement.fleet import Cube, Fleet, Host, Node
from memos_ray.placement.place import load, room, usable
from memos_ray.placement.policy import Policy

_WORN = 0.25  # share of its largest size that a host may keep for nothing
_GAIN = 0.5  # of the difference of two nodes' loads that one move may carry over: more would swing back


@dataclass(frozen=True, slots=True)
class Passivate:
    """Drain the cube, write its checkpoint, and let it go."""

    cube_id: str
    why: str  # "idle" or "memory"


@dataclass(frozen=True, slots=True)
class Move:
    """Take the cube from its host to another place. `own`: to a host that holds nothing else."""

    cube_id: str
    why: str  # "large", "hot", "crowded", "draining" or "spread"
    node_id: str | None = None
    own: bool = False


def worn_out(fleet: Fleet, policy: Policy) -> list[str]:
    """Hosts to let go as a whole, one a node, where memory is short: those that keep most for cubes which have left.
    Whoever marks one `leaving` has its cubes passivated, and the process ended."""
    found = []
    for node in fleet.nodes.values():
        if room(fleet, policy, node) or any(host.leaving for host in fleet.on(node.node_id)):
            continue
        worst = max(fleet.on(node.node_id), key=lambda h: (h.kept * h.most_bytes, h.name), default=None)
        if worst is not None and worst.cubes and worst.kept > _WORN:
            found.append(worst.name)
    return found


def passivations(fleet: Fleet, policy: Policy, now: float) -> list[Passivate]:
    """Cubes to let go, at most `policy.changes`: first where memory is short, then those idle for too long."""
    found: dict[str, Passivate] = {}
    for node in fleet.nodes.values():
        for cube in _relief(fleet, policy, node, now):
            found[cube.cube_id] = Passivate(cube.cube_id, "memory")
    hosts = (host for host in fleet.hosts.values() if now - host.oldest >= policy.idle_s)
    cubes = (cube for host in hosts for cube in host.cubes.values())
    idle = [c for c in cubes if now - c.used_at >= policy.idle_s and not c.changing]
    for cube in sorted(idle, key=lambda c: (c.used_at, c.cube_id)):
        found.setdefault(cube.cube_id, Passivate(cube.cube_id, "idle"))
    return list(islice(found.values(), policy.changes))


def _relief(fleet: Fleet, policy: Policy, node: Node, now: float) -> Iterator[Cube]:
    """The cubes of a node that has too little memory left, longest unused first, until it would have enough; before
    them those of hosts that are leaving: to move these needs room."""
    if room(fleet, policy, node):
        return
    for host in fleet.on(node.node_id):
        if host.leaving:
            yield from (cube for cube in host.cubes.values() if not cube.changing)
    excess = fleet.used_bytes(node.node_id) - policy.relieve_to * policy.memory_share * node.memory_bytes
    cubes = [c for host in fleet.on(node.node_id) for c in host.cubes.values()]
    excess -= sum(fleet.bytes_of(c) for c in cubes if c.changing)  # most of them are on their way out
    for cube in sorted((c for c in cubes if not c.changing), key=lambda c: (c.used_at, c.cube_id)):
        if excess <= 0:
            return
        excess -= fleet.bytes_of(cube)
        yield cube


def moves(fleet: Fleet, policy: Policy, now: float) -> list[Move]:
    """Cubes to take elsewhere, at most `policy.changes`, the most needed first."""
    found: dict[str, Move] = {}
    for kind in (_leave, _own_host, _crowded, _spread):
        for move in kind(fleet, policy, now):
            found.setdefault(move.cube_id, move)
            if len(found) >= policy.changes:
                return list(found.values())
    return list(found.values())


def _rested(cube: Cube, policy: Policy, now: float) -> bool:
    return not cube.changing and now - cube.since >= policy.rest_s


def _leave(fleet: Fleet, policy: Policy, now: float) -> Iterator[Move]:
    """Off the nodes that are draining, and the hosts that are leaving."""
    for host in fleet.hosts.values():
        node = fleet.nodes.get(host.node_id)
        if host.leaving or (node is not None and node.draining):
            yield from (Move(c.cube_id, "draining") for c in host.cubes.values() if not c.changing)


def _own_host(fleet: Fleet, policy: Policy, now: float) -> Iterator[Move]:
    """Large and hot cubes, out of the hosts that they share with others."""
    if policy.cubes_per_actor == 1:
        return
    for host in fleet.hosts.values():
        if len(host.cubes) < 2 or (host.largest <= policy.own_items and host.busy <= policy.own_busy):
            continue
        for cube in host.cubes.values():
            if cube.changing:
                continue
            if cube.items > policy.own_items:
                yield Move(cube.cube_id, "large", own=True)
            elif cube.busy > policy.own_busy and now - cube.since >= policy.rest_s / 2:
                yield Move(cube.cube_id, "hot", own=True)


def _crowded(fleet: Fleet, policy: Policy, now: float) -> Iterator[Move]:
    """The busiest cubes of packed hosts that are too busy, until the host would be well again."""
    for host in sorted(fleet.hosts.values(), key=lambda h: (-h.busy, h.name)):
        excess = host.busy - policy.full_busy
        if excess <= 0 or len(host.cubes) < 2:
            continue
        for cube in _busiest(host, policy, now):
            if excess <= 0:
                break
            excess -= cube.busy
            yield Move(cube.cube_id, "crowded")


def _spread(fleet: Fleet, policy: Policy, now: float) -> Iterator[Move]:
    """From the most to the least loaded node, while that evens things out."""
    nodes = usable(fleet, policy, now)
    if len(nodes) < 2:
        return
    loads = {node.node_id: load(fleet, policy, node) for node in nodes}
    high = max(nodes, key=lambda node: (loads[node.node_id], node.node_id))
    low = min(nodes, key=lambda node: (loads[node.node_id], node.node_id))
    difference = loads[high.node_id] - loads[low.node_id]
    if difference <= policy.spread or any(host.coming for host in fleet.on(low.node_id)):
        return  # what is on its way there is seen once it has come
    left = _GAIN * difference
    limit = max(policy.memory_share * low.memory_bytes, 1.0)
    for host in sorted(fleet.on(high.node_id), key=lambda h: h.name):
        for cube in _busiest(host, policy, now):
            # One that is alone takes a process there, and its old one goes.
            taken = fleet.bytes_of(cube) if len(host.cubes) > 1 else host.uss_bytes
            weight = max(taken / limit, cube.busy / max(low.cpus, 1.0))
            if 0 < weight <= left:
                left -= weight
                yield Move(cube.cube_id, "spread", node_id=low.node_id)


def _busiest(host: Host, policy: Policy, now: float) -> list[Cube]:
    cubes = [c for c in host.cubes.values() if _rested(c, policy, now)]
    return sorted(cubes, key=lambda c: (-c.busy, -c.items, c.cube_id))
