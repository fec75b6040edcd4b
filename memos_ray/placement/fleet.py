"""What is known of nodes, host processes and active cubes: the state that placement decides on.

Knows nothing of Ray, storage or clocks: whoever drives it (the directory, or the simulation) says what happened
and when. Soft state: all of it can be learnt again from the hosts that answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

_HEARD_S = 3.0  # a host that answered so lately says that its node is well
_SMOOTHING_S = 10.0  # time constant of busy shares and call rates
_ATTACHES = 2048  # remembered: more than the largest pool can follow within its window


@dataclass(frozen=True, slots=True)
class CubeUse:
    """What a host reports of one cube it holds. `calls` since it was attached; `idle_s` since the last one."""

    cube_id: str
    incarnation: str
    epoch: int
    items: int  # versions that hold text
    calls: int
    busy_s: float  # seconds that its calls took of the process, about
    idle_s: float


@dataclass(slots=True)
class Node:
    """A machine of the cluster. `memory_bytes` is what it has for everything."""

    node_id: str
    cpus: float
    memory_bytes: float
    labels: Mapping[str, str] = field(default_factory=dict)
    draining: bool = False  # nothing new goes there, and what is there leaves
    suspect_until: float = float("-inf")


@dataclass(slots=True)
class Cube:
    """An active cube. `busy` is the share of a core that it takes, smoothed."""

    cube_id: str
    shard: int
    host: str
    epoch: int = 0
    items: int = 0
    since: float = 0.0  # when it came up here
    used_at: float = 0.0
    calls: int = 0
    busy_s: float = 0.0
    busy: float = 0.0
    changing: bool = False  # it is being attached, moved or passivated


@dataclass(slots=True)
class Host:
    """A host process. Blank while it holds nothing and nothing is on its way to it."""

    name: str
    node_id: str
    started_at: float
    ready: bool = False
    leaving: bool = False  # it gets nothing new, and ends once it is empty
    own: bool = False  # reserved for the one cube it holds
    held: bool = False  # it has held a cube, or does
    cubes: dict[str, Cube] = field(default_factory=dict)
    coming: dict[str, float] = field(default_factory=dict)  # still on their old hosts; how busy they are
    busy: float = 0.0  # share of a core that its cubes take, those that are coming too
    largest: int = 0  # at least as many items as any of its cubes has
    oldest: float = float("inf")  # no cube of it was used longer ago
    uss_bytes: int = 0
    blank_bytes: int = 0  # what it took before it held anything
    items: int = 0  # of all its cubes
    most_items: int = 0  # that it ever held…
    most_bytes: int = 0  # …and took beyond a blank one
    seen_at: float = 0.0

    @property
    def blank(self) -> bool:
        """Free for anybody."""
        return not self.cubes and not self.leaving and not self.coming

    def count(self) -> None:
        """Brings `busy`, `largest` and `oldest` up to date: so that a tick need not look at every cube of a fleet."""
        cubes = self.cubes.values()
        self.busy = sum([cube.busy for cube in cubes]) + sum(self.coming.values())
        self.largest = max([cube.items for cube in cubes], default=0)
        self.oldest = min([cube.used_at for cube in cubes], default=float("inf"))
        self.items = sum([cube.items for cube in cubes])
        self.most_items = max(self.most_items, self.items)

    @property
    def kept(self) -> float:
        """Of what it took at most, the share that it keeps for cubes which have left: allocators give little back."""
        if not self.most_items or not self.most_bytes:
            return 0.0
        taken = max(0, self.uss_bytes - self.blank_bytes) / self.most_bytes
        return max(0.0, taken - self.items / self.most_items)


class Fleet:
    """Nodes, hosts and active cubes by name. Every method is told the time, in seconds of any one clock."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.hosts: dict[str, Host] = {}
        self.cubes: dict[str, Cube] = {}
        self.shards: dict[int, str] = {}  # where the packed cubes of a shard go
        self.own: set[str] = set()  # active cubes that get a host of their own, in spite of packing
        self.attached_at: deque[float] = deque(maxlen=_ATTACHES)  # when cubes took blank hosts
        self.blank_bytes = 0  # what a fresh host takes
        self._on: dict[str, dict[str, Host]] = {}  # hosts by node
        self._used: dict[str, int] = {}  # what the hosts of a node take

    # -- what happened ----------------------------------------------------------------------------------------

    def set_nodes(self, nodes: Iterable[Node]) -> list[str]:
        """The nodes that are alive now. Returns the names of hosts whose node is gone."""
        known, self.nodes = self.nodes, {}
        for node in nodes:
            if (before := known.get(node.node_id)) is not None:
                node.draining, node.suspect_until = before.draining, before.suspect_until
            self.nodes[node.node_id] = node
        return [host.name for host in self.hosts.values() if host.node_id not in self.nodes]

    def starting(self, name: str, node_id: str, now: float) -> Host:
        """A host process was asked for."""
        host = self.hosts[name] = Host(name, node_id, now, seen_at=now)
        self._on.setdefault(node_id, {})[name] = host
        return host

    def reserve(self, name: str, cube_id: str) -> None:
        """The cube is to move to this host: its place there is taken from now on, and nobody ends the host."""
        self.hosts[name].coming[cube_id] = self.cubes[cube_id].busy
        self.hosts[name].count()

    def unreserve(self, name: str, cube_id: str) -> None:
        """It does not come, or has come."""
        host = self.hosts.get(name)
        if host is not None and host.coming.pop(cube_id, None) is not None:
            host.count()

    def attaching(self, cube_id: str, shard: int, name: str, now: float, *, packed: bool = False) -> Cube:
        """A cube is on its way to a host: nobody else may take its place there. `packed`: beside others. Where one was
        reserved for it, it is taken to be as busy as it was."""
        host = self.hosts[name]
        if not host.cubes:
            self.attached_at.append(now)
            host.blank_bytes = host.blank_bytes or self.blank_bytes
        host.own, host.held = not packed, True
        if packed:
            self.shards[shard] = name
        busy = host.coming.pop(cube_id, 0.0)
        cube = Cube(cube_id, shard, name, since=now, used_at=now, busy=busy, changing=True)
        host.cubes[cube_id] = self.cubes[cube_id] = cube
        host.oldest = min(host.oldest, now)
        return cube

    def attached(self, cube_id: str, epoch: int, items: int, now: float) -> None:
        """It is there."""
        cube = self.cubes[cube_id]
        cube.epoch, cube.items, cube.since, cube.used_at, cube.changing = epoch, items, now, now, False
        host = self.hosts[cube.host]
        host.ready, host.largest = True, max(host.largest, items)

    def gone(self, cube_id: str) -> Host | None:
        """The cube is on no host any more (passivated, moved away, never came up). Returns the host it was on."""
        cube = self.cubes.pop(cube_id, None)
        self.own.discard(cube_id)
        if cube is None:
            return None
        host = self.hosts.get(cube.host)
        if host is not None:
            if host.cubes.pop(cube_id, None) is not None:
                host.busy = max(0.0, host.busy - cube.busy)
            if not host.cubes:
                host.count()
                host.own = False
                self._unassign(host.name)
        return host

    def lost(self, name: str, now: float, *, silent_s: float = 0.0) -> list[str]:
        """A host process is gone. Returns its cubes.

        `silent_s`: it fell silent; for so long its node is suspected to have as well, unless another host on it was
        heard of a moment ago.
        """
        host = self.hosts.pop(name, None)
        if host is None:
            return []
        del self._on[host.node_id][name]
        self._used[host.node_id] = self.used_bytes(host.node_id) - host.uss_bytes
        self._unassign(name)
        node = self.nodes.get(host.node_id)
        heard = any(other.ready and now - other.seen_at < _HEARD_S for other in self.on(host.node_id))
        if node is not None and silent_s > 0 and not heard:
            node.suspect_until = now + silent_s
        for cube_id in host.cubes:
            if (cube := self.cubes.get(cube_id)) is not None and cube.host == name:
                del self.cubes[cube_id]
                self.own.discard(cube_id)
        return list(host.cubes)

    def pulse(self, name: str, uss_bytes: int, uses: Iterable[CubeUse], now: float) -> None:
        """What a host says of itself. Cubes that are being changed are left to whoever changes them."""
        host = self.hosts.get(name)
        if host is None:
            return
        elapsed = max(now - host.seen_at, 1e-3)
        self._used[host.node_id] = self.used_bytes(host.node_id) + uss_bytes - host.uss_bytes
        host.ready, host.seen_at, host.uss_bytes = True, now, uss_bytes
        if not host.held:
            host.blank_bytes = uss_bytes
            self.blank_bytes = min(self.blank_bytes or uss_bytes, uss_bytes)
        weight = min(1.0, elapsed / _SMOOTHING_S)
        for use in uses:
            cube = host.cubes.get(use.cube_id)
            if cube is None or cube.changing:
                continue
            if use.epoch == cube.epoch:  # else it came up anew: its counters began again
                cube.busy += weight * (max(use.busy_s - cube.busy_s, 0.0) / elapsed - cube.busy)
            cube.epoch, cube.items, cube.calls, cube.busy_s = use.epoch, use.items, use.calls, use.busy_s
            cube.used_at = now - use.idle_s
        host.count()
        if host.held:
            host.most_bytes = max(host.most_bytes, uss_bytes - host.blank_bytes)

    def strays(self, name: str, uses: Iterable[CubeUse]) -> list[str]:
        """Cubes that a host says it holds and that are not looked for there: an attach that was given up came about
        after all. Each takes a place that others are sent to."""
        cubes = self.hosts[name].cubes if name in self.hosts else {}
        return [use.cube_id for use in uses if use.cube_id not in cubes]

    def _unassign(self, name: str) -> None:
        for shard in [s for s, host in self.shards.items() if host == name]:
            del self.shards[shard]

    # -- what follows from it ---------------------------------------------------------------------------------

    def on(self, node_id: str) -> Iterator[Host]:
        """The hosts of a node."""
        return iter(self._on.get(node_id, {}).values())

    def used_bytes(self, node_id: str) -> int:
        """Memory that the hosts of a node have for themselves (USS)."""
        return self._used.get(node_id, 0)

    def bytes_of(self, cube: Cube) -> float:
        """About what a cube takes: its part, by items, of what its host took beyond a blank one."""
        host = self.hosts[cube.host]
        items = sum(other.items for other in host.cubes.values())
        return max(0, host.uss_bytes - host.blank_bytes) * (
            cube.items / items if items else 1 / len(host.cubes)
        )
