"""A discrete-event simulation of placement: the decisions of the directory, carried out in no time.

Drives the same `Fleet`, `place`, `pool` and `upkeep` as the directory does, in the same order and within the same
bounds; what takes time on machines is drawn from `Costs`. No wall clock, no storage, no Ray: the same seed gives the
same run. Knows what the directory would have to find out (which process died when), and tells it when it would.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from memos_ray.placement import pool, upkeep
from memos_ray.placement.costs import Costs
from memos_ray.placement.fleet import CubeUse, Fleet, Node
from memos_ray.placement.outcome import Outcome, Recorder
from memos_ray.placement.place import Full, Start, Use, place
from memos_ray.placement.policy import Policy
from memos_ray.placement.shards import shard_of
from memos_ray.placement.traffic import Source, Traffic


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to nodes: at `at_s`, `kind` ("add", "fail", "drain" or "undrain") to the node of that name."""

    at_s: float
    kind: str
    node_id: str


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes of one kind, and how the directory is set."""

    nodes: int = 8
    cpus: float = 16.0
    memory_bytes: float = 64e9
    tick_s: float = 1.0
    pulse_s: float = (
        10.0  # each host says within so long how it is, in turns: every tick would take long to simulate
    )
    host_timeout_s: float = 5.0
    call_timeout_s: float = 60.0


@dataclass(slots=True)
class _Active:
    """A cube on a host, as it is: what the host would report. `up`: it answers."""

    cube_id: str
    host: str
    epoch: int
    items: int
    up: bool = False
    calls: int = 0
    busy_s: float = 0.0
    used_at: float = 0.0


@dataclass(slots=True)
class _Process:
    """A host process, as it is."""

    ready_at: float
    bytes: float
    free_at: float = 0.0  # attaches of one process are one after another: they are bound by its core
    dead: bool = False
    active: dict[str, _Active] = field(default_factory=dict)


class Simulation:
    """One run. `watch` is called after every event, with the simulation: for tests of what always holds."""

    def __init__(
        self,
        cluster: Cluster,
        policy: Policy,
        traffic: Traffic,
        costs: Costs,
        *,
        seed: int = 0,
        plans: Sequence[Plan] = (),
        watch: Callable[[Simulation], None] | None = None,
        calls: Iterable[tuple[float, int, bool]] | None = None,
        sizes: int | None = None,
    ) -> None:
        """`calls` in place of the traffic's own: (seconds, user, whether it adds), in order. `sizes`: what every cube
        holds at first, in place of sizes around the traffic's median."""
        self.cluster, self.policy, self.costs, self.traffic = cluster, policy, costs, traffic
        self.fleet, self.now = Fleet(), 0.0
        self.recorder = Recorder(cluster.tick_s)
        self._source, self._random, self._sizes = Source(traffic, seed), random.Random(seed), sizes
        self._watch = watch
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._n = 0
        self._items: dict[str, int] = {}  # of cubes that were added to
        self.active: dict[str, _Active] = {}
        self.processes: dict[str, _Process] = {}
        self._waiting: dict[str, list[float]] = {}  # calls of cubes that are not up: when they were made
        self.changes: set[str] = set()
        self._asked: set[str] = set()  # cubes that the directory is activating, or is about to
        self._epoch = self._hosts = 0
        self._directory_free_at = 0.0
        self._alive = {f"node-{i}": self._node(f"node-{i}") for i in range(cluster.nodes)}
        self.fleet.set_nodes(self._alive.values())
        for plan in plans:
            self._at(plan.at_s, self._carry_out_plan, plan)
        self._at(0.0, self._tick, 0)
        if calls is None:
            wait, user, n = self._source.session()
            self._at(wait, self._session, user, n)
        else:
            for at, user, adds in calls:
                self._at(at, self._call, user, adds)

    # -- time -------------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> Outcome:
        """Until that time."""
        events = self._events
        while events and events[0][0] <= seconds:
            self.now, _, act, args = heapq.heappop(events)
            act(*args)
            if self._watch is not None:
                self._watch(self)
        self.now = seconds
        return self.recorder.outcome(seconds, still_waiting=sum(map(len, self._waiting.values())))

    def _at(self, when: float, act: Callable[..., None], *args: object) -> None:
        self._n += 1
        heapq.heappush(self._events, (when, self._n, act, args))

    # -- callers ----------------------------------------------------------------------------------------------

    def _session(self, user: int, calls: int) -> None:
        wait, next_user, next_calls = self._source.session()
        self._at(self.now + wait, self._session, next_user, next_calls)
        self._in_session(user, calls)

    def _in_session(self, user: int, calls: int) -> None:
        self._call(user, self._source.adds())
        if calls > 1:
            self._at(self.now + self._source.gap(), self._in_session, user, calls - 1)

    def _call(self, user: int, adds: bool) -> None:
        cube_id = f"user:{user}"
        one = self.active.get(cube_id)
        up = one is not None and one.up
        self.recorder.call(up)
        if adds:
            self._items[cube_id] = self._items_of(cube_id) + 1
        if one is not None and up:
            self._serve(one, adds)
            return
        self._waiting.setdefault(cube_id, []).append(self.now)
        if one is None:
            self._ask(cube_id)

    def _items_of(self, cube_id: str) -> int:
        known = self._items.get(cube_id)
        if known is not None:
            return known
        return self._sizes or int(self._source.sizes[int(cube_id.removeprefix("user:"))])

    def _serve(self, one: _Active, adds: bool) -> None:
        one.calls += 1
        one.used_at = self.now
        if adds:
            one.items += 1
            one.busy_s += self.costs.add_cpu_s
            self.processes[one.host].bytes += self.costs.item_bytes
        else:
            one.busy_s += self.costs.search_cpu_s

    # -- the directory: where cubes are -----------------------------------------------------------------------

    def _directory(self, takes_s: float, *, asked: bool = False) -> float:
        """When the directory, one core, will have done this."""
        self._directory_free_at = max(self.now, self._directory_free_at) + takes_s
        self.recorder.directory(takes_s, asked=asked)
        return self._directory_free_at

    def _ask(self, cube_id: str) -> None:
        if cube_id not in self._asked:
            self._asked.add(cube_id)
            self._at(self._directory(self.costs.locate_s, asked=True), self._locate, cube_id)

    def _locate(self, cube_id: str) -> None:
        self._asked.discard(cube_id)
        waiting = [at for at in self._waiting.get(cube_id, ()) if self.now - at < self.cluster.call_timeout_s]
        self.recorder.failed += len(self._waiting.get(cube_id, ())) - len(waiting)
        if not waiting:
            self._waiting.pop(cube_id, None)
            return
        self._waiting[cube_id] = waiting
        if cube_id in self.active:
            return  # it is on its way, or on a host that nobody knows to be dead
        match place(self.fleet, self.policy, cube_id, shard_of(cube_id), self.now):
            case Use(name):
                self.recorder.activation(self.processes[name].ready_at <= self.now)
                self._attach(cube_id, name)
            case Start(node_id):
                self.recorder.activation(False)
                self._attach(cube_id, self._start(node_id))
            case Full(_, brief):
                self.recorder.refused += 1
                self._asked.add(cube_id)
                self._at(self.now + (0.2 if brief else self.cluster.tick_s), self._again, cube_id)

    def _again(self, cube_id: str) -> None:
        self._asked.discard(cube_id)
        self._ask(cube_id)

    def _attach(self, cube_id: str, name: str) -> None:
        packed = self.policy.cubes_per_actor > 1 and cube_id not in self.fleet.own
        self.fleet.attaching(cube_id, shard_of(cube_id), name, self.now, packed=packed)
        self._epoch += 1
        process, items = self.processes[name], self._items_of(cube_id)
        one = _Active(cube_id, name, self._epoch, items, used_at=self.now)
        self.active[cube_id] = process.active[cube_id] = one
        begins = max(self.now, process.ready_at, process.free_at)
        process.free_at = begins + self.costs.attach.draw(self._random) + items * self.costs.attach_item_s
        self._at(process.free_at, self._attached, one)

    def _attached(self, one: _Active) -> None:
        process = self.processes.get(one.host)
        if process is None or process.dead or self.active.get(one.cube_id) is not one:
            return
        one.up, one.used_at = True, self.now
        process.bytes += self.costs.cube_bytes + one.items * self.costs.item_bytes
        self.fleet.attached(one.cube_id, one.epoch, one.items, self.now)
        for at in self._waiting.pop(one.cube_id, ()):
            self.recorder.waited(self.now - at, self.now)
            one.calls += 1
        self._fill_pool()

    def _gone(self, one: _Active) -> None:
        """The cube is let go; its process keeps a little of its memory."""
        process = self.processes[one.host]
        process.bytes -= self.costs.returned * (self.costs.cube_bytes + one.items * self.costs.item_bytes)
        del self.active[one.cube_id], process.active[one.cube_id]
        self.fleet.gone(one.cube_id)

    # -- the directory: hosts ---------------------------------------------------------------------------------

    def _start(self, node_id: str) -> str:
        self._hosts += 1
        name = f"host-{self._hosts}"
        ready_at = self.now + self.costs.start.draw(self._random)
        self.processes[name] = _Process(ready_at, self.costs.process_bytes, dead=node_id not in self._alive)
        self.fleet.starting(name, node_id, self.now)
        self._at(ready_at, self._pulse, name)
        return name

    def _pulse(self, name: str) -> None:
        process = self.processes.get(name)
        if process is None or process.dead or process.ready_at > self.now:
            return
        uses = (
            CubeUse(one.cube_id, "", one.epoch, one.items, one.calls, one.busy_s, self.now - one.used_at)
            for one in process.active.values()
            if one.up
        )
        self.fleet.pulse(name, int(process.bytes), uses, self.now)

    def _lost(self, name: str, silent: bool) -> None:
        """The directory finds a host dead."""
        process = self.processes.pop(name, None)
        if process is None:
            return
        self.fleet.lost(name, self.now, silent_s=self.policy.suspect_s if silent else 0.0)
        self.recorder.lost += len(process.active)
        for cube_id, one in process.active.items():
            if self.active.get(cube_id) is one:
                del self.active[cube_id]
            if cube_id in self._waiting:
                self._ask(cube_id)

    def _fill_pool(self) -> None:
        for start in pool.fill(self.fleet, self.policy, self.now):
            self._start(start.node_id)

    def _tick(self, n: int) -> None:
        turns = max(1, round(self.cluster.pulse_s / self.cluster.tick_s))
        for name in list(self.fleet.hosts)[n % turns :: turns]:
            self._pulse(name)
        # What it costs the directory is as if every host were asked in every tick, as the real one does.
        self._directory(
            len(self.fleet.hosts) * self.costs.tick_host_s + len(self.active) * self.costs.tick_cube_s
        )
        for end in pool.drop(self.fleet, self.policy, self.now):
            self.fleet.lost(end.host, self.now)
            del self.processes[end.host]
        self._fill_pool()
        for passivation in upkeep.passivations(self.fleet, self.policy, self.now):
            self._begin(passivation.cube_id, self._passivate, passivation)
        for name in upkeep.worn_out(self.fleet, self.policy):
            self.fleet.hosts[name].leaving = True
        for move in upkeep.moves(self.fleet, self.policy, self.now):
            self._begin(move.cube_id, self._move, move)
        self.recorder.sample(
            self.now,
            active=len(self.active),
            hosts=len(self.fleet.hosts),
            bytes_used=sum(process.bytes for process in self.processes.values()),
        )
        self._at(self.now + self.cluster.tick_s, self._tick, n + 1)

    # -- the directory: changes -------------------------------------------------------------------------------

    def _begin(self, cube_id: str, act: Callable[..., None], change: object) -> None:
        if cube_id not in self.changes and len(self.changes) < 2 * self.policy.changes:
            self.changes.add(cube_id)
            act(change)

    def _passivate(self, passivation: upkeep.Passivate) -> None:
        one = self.active.get(passivation.cube_id)
        if one is None or not one.up:
            return self.changes.discard(passivation.cube_id)
        if passivation.why == "idle" and self.now - one.used_at < self.policy.idle_s:
            return self.changes.discard(passivation.cube_id)  # the host knows better: it was called since
        self._let_go(one, self._passivated, passivation.why)
        return None

    def _let_go(self, one: _Active, then: Callable[..., None], *args: object) -> None:
        self.fleet.cubes[one.cube_id].changing, one.up = True, False
        self._at(self.now + self.costs.drain.draw(self._random), then, one, *args)

    def _passivated(self, one: _Active, why: str) -> None:
        self.changes.discard(one.cube_id)
        if self.active.get(one.cube_id) is not one or self.processes[one.host].dead:
            return  # its host died meanwhile
        self._gone(one)
        self.recorder.passivated[why] += 1
        if one.cube_id in self._waiting:
            self._ask(one.cube_id)

    def _move(self, move: upkeep.Move) -> None:
        cube_id = move.cube_id
        one, own = self.active.get(cube_id), self.fleet.own
        if one is None or not one.up:
            return self.changes.discard(cube_id)
        had_own = cube_id in own
        if move.own:
            own.add(cube_id)
        where = place(
            self.fleet, self.policy, cube_id, shard_of(cube_id), self.now, avoid={one.host}, only=move.node_id
        )
        if isinstance(where, Full):
            if not had_own:
                own.discard(cube_id)
            return self.changes.discard(cube_id)
        target = self._start(where.node_id) if isinstance(where, Start) else where.host
        self.fleet.reserve(target, cube_id)
        ready_at = max(self.now, self.processes[target].ready_at)
        self._at(ready_at, self._target_ready, move, one, target, cube_id in own)
        return None

    def _target_ready(self, move: upkeep.Move, one: _Active, target: str, own: bool) -> None:
        if self._both_live(one, target):
            self._let_go(one, self._drained, move, target, own, self.now)
        else:
            self._moved(one, target)

    def _drained(self, one: _Active, move: upkeep.Move, target: str, own: bool, began: float) -> None:
        if self.active.get(one.cube_id) is not one or self.processes[one.host].dead:
            return self._moved(one, target)
        self._gone(one)
        if own:
            self.fleet.own.add(one.cube_id)
        if target in self.fleet.hosts:
            self._attach(one.cube_id, target)
            self.recorder.moved(move.why, self.processes[target].free_at - began)
        elif one.cube_id in self._waiting:
            self._ask(one.cube_id)
        return self._moved(one, target)

    def _moved(self, one: _Active, target: str) -> None:
        self.fleet.unreserve(target, one.cube_id)
        self.changes.discard(one.cube_id)

    def _both_live(self, one: _Active, target: str) -> bool:
        process = self.processes.get(target)
        here = self.active.get(one.cube_id) is one and one.up
        return here and process is not None and not process.dead

    # -- what happens to nodes --------------------------------------------------------------------------------

    def _node(self, node_id: str) -> Node:
        return Node(node_id, self.cluster.cpus, self.cluster.memory_bytes)

    def _carry_out_plan(self, plan: Plan) -> None:
        node = self.fleet.nodes.get(plan.node_id)
        if plan.kind == "add":
            self._alive[plan.node_id] = self._node(plan.node_id)
            self.fleet.set_nodes(self._known())
        elif plan.kind == "fail" and self._alive.pop(plan.node_id, None) is not None:
            self._fail(plan.node_id)
        elif plan.kind in ("drain", "undrain") and node is not None:
            node.draining = plan.kind == "drain"
            if node.draining:
                self._at(self.now, self._look_at_drain, plan.node_id, self.now)

    def _known(self) -> list[Node]:
        return [*{**self.fleet.nodes, **self._alive}.values()]

    def _fail(self, node_id: str) -> None:
        """Every process there ends; the directory finds out host by host as they stay silent, and then of the node."""
        cubes = 0
        for host in self.fleet.on(node_id):
            process = self.processes[host.name]
            process.dead = True
            for one in process.active.values():
                one.up = False
                cubes += 1
            patience_s = self.cluster.host_timeout_s + self._random.random() * self.cluster.tick_s
            self._at(self.now + patience_s, self._lost, host.name, True)
        self.recorder.failure(self.now, cubes)
        self._at(self.now + self.costs.node_found_dead_s, self._node_found_dead, node_id)

    def _node_found_dead(self, node_id: str) -> None:
        left = [node for node in self.fleet.nodes.values() if node.node_id != node_id]
        for name in self.fleet.set_nodes(left):
            self._lost(name, False)

    def _look_at_drain(self, node_id: str, began: float) -> None:
        node = self.fleet.nodes.get(node_id)
        if node is None or not node.draining:
            return
        if any(host.cubes for host in self.fleet.on(node_id)):
            self._at(self.now + self.cluster.tick_s, self._look_at_drain, node_id, began)
        else:
            self.recorder.drained.append(self.now - began)
