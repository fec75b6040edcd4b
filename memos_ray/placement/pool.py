"""How many blank hosts are kept ready, and where.

As many as activations take while one starts (Little's law: arrivals a second times the seconds that a start
takes), between the two bounds of the policy; more are ended.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from memos_ray.placement.fleet import Fleet
from memos_ray.placement.place import room, score, starting, starts_at_once, usable
from memos_ray.placement.policy import Policy

_WINDOW_S = 30.0  # activations of so long ago still count
SAFETY = 1.5  # arrivals come in bursts
_LIGHT = 1.3  # a host that held a cube is blank again if it takes no more than this many times a fresh one


@dataclass(frozen=True, slots=True)
class StartBlank:
    """Start a blank host on this node."""

    node_id: str


@dataclass(frozen=True, slots=True)
class End:
    """End this host: nothing is on it."""

    host: str


def wanted(fleet: Fleet, policy: Policy, now: float) -> int:
    """How many blank hosts there should be."""
    recent = sum(1 for at in fleet.attached_at if now - at <= _WINDOW_S)
    needed = math.ceil(SAFETY * policy.start_s * recent / _WINDOW_S)
    return max(policy.warm_min, min(policy.warm_max, needed))


def fill(fleet: Fleet, policy: Policy, now: float) -> list[StartBlank]:
    """The hosts to start now, spread over the nodes that have room, no more of each than should start at once."""
    nodes = {node.node_id: node for node in usable(fleet, policy, now) if room(fleet, policy, node)}
    may = {name: starts_at_once(fleet, policy, name) - starting(fleet, name) for name in nodes}
    blank = dict.fromkeys(nodes, 0)
    for host in fleet.hosts.values():
        if host.blank and host.node_id in blank:
            blank[host.node_id] += 1
    missing = min(wanted(fleet, policy, now) - sum(blank.values()), sum(max(0, n) for n in may.values()))
    if missing <= 0:
        return []
    base = {name: score(fleet, policy, node, None) for name, node in nodes.items()}
    started = []
    for _ in range(missing):
        best = min((n for n in nodes if may[n] > 0), key=lambda name: (blank[name], base[name], name))
        blank[best] += 1
        may[best] -= 1
        started.append(StartBlank(best))
    return started


def drop(fleet: Fleet, policy: Policy, now: float) -> list[End]:
    """The blank hosts to end now: those that keep memory of cubes they held, those that are leaving, those on nodes
    that are, and those beyond what is wanted, first where memory is short (there `fill` does not count them)."""
    ends = []
    good = []
    able = {node.node_id: room(fleet, policy, node) for node in usable(fleet, policy, now)}
    for host in fleet.hosts.values():
        if host.cubes or host.coming or not host.ready:
            continue
        heavy = bool(host.blank_bytes) and host.uss_bytes > _LIGHT * host.blank_bytes
        if host.leaving or heavy or host.node_id not in able:
            ends.append(End(host.name))
        else:
            good.append(host)
    surplus = len(good) - wanted(fleet, policy, now)
    good.sort(key=lambda host: (not able[host.node_id], host.uss_bytes, host.name), reverse=True)
    return ends + [End(host.name) for host in good[: max(0, surplus)]]
