"""The simulation of placement beside the real thing: the same calls at the same times, the same settings, twice.

One node, small cubes, packed, made idle quickly. What things take is measured first on the same system, and given to
the simulation; then the same seeded calls are made through the client, and counted on both sides.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from memos_ray import _siblings
from memos_ray.bench.report import Report, quantile
from memos_ray.client import Connection
from memos_ray.config import Settings
from memos_ray.errors import MemosError
from memos_ray.ids import new_op_id
from memos_ray.placement.costs import Costs, Time
from memos_ray.placement.policy import Policy
from memos_ray.placement.simulation import Cluster, Simulation
from memos_ray.placement.traffic import Source, Traffic
from memos_ray.wire import HostInfo, NodeInfo

_WARM_UP_S = 20.0  # of the simulation, in which its first hosts come up: the real ones are up already
_LOOK_S = 0.25
_TRAFFIC = Traffic(cubes=40, sessions_per_s=1.5, calls=4.0, gap_s=1.5, items=20, skew=0.8)
_TOLERANCE = 0.15  # of counts…
_SLACK = 3  # …and so many, whichever is more

Step = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is run twice."""

    traffic: Traffic = _TRAFFIC
    seconds: float = 60.0
    cubes_per_actor: int = 10
    idle_s: float = 5.0
    tick_s: float = 0.5
    warm: int = 1
    warm_max: int = 3
    seed: int = 0

    def settings(self, data: str, namespace: str) -> Settings:
        """Of the real system."""
        return Settings(
            data=data,
            namespace=namespace,
            address="local",
            embedder="hash",
            cubes_per_actor=self.cubes_per_actor,
            idle_s=self.idle_s,
            tick_s=self.tick_s,
            warm_actors=self.warm,
            warm_actors_max=self.warm_max,
        )

    def calls(self) -> Iterator[tuple[float, int, bool]]:
        """(seconds, user, whether it adds), in order; none in the last fifth, so that cubes become idle."""
        source, begins, n = Source(self.traffic, self.seed), 0.0, 0
        waiting: list[tuple[float, int, int, int]] = []
        while True:
            wait, user, calls = source.session()
            begins += wait
            while waiting and waiting[0][0] <= begins:
                at, _, who, left = heapq.heappop(waiting)
                if at > 0.8 * self.seconds:
                    return
                yield at, who, source.adds()
                if left > 1:
                    n += 1
                    heapq.heappush(waiting, (at + source.gap(), n, who, left - 1))
            n += 1
            heapq.heappush(waiting, (begins, n, user, calls))


@dataclass(slots=True)
class Counts:
    """What one side saw."""

    calls: int = 0
    hits: int = 0
    activations: int = 0
    passivations: int = 0
    hosts_max: int = 0
    active_max: int = 0
    failed: int = 0
    hit_s: list[float] = field(default_factory=list)
    miss_s: list[float] = field(default_factory=list)


class _Observed(Connection):
    """A client that notes which of its calls had to ask the directory."""

    asked: ContextVar[list[bool]] = ContextVar("asked")

    async def _locate(self, *args: Any) -> Any:
        self.asked.get([]).append(True)
        return await super()._locate(*args)


async def compare(report: Report, scenario: Scenario, data: str, namespace: str, step: Step) -> None:
    """Runs both and reports each count beside the other. Checks that they agree within 15 %, or 3."""
    calls = list(scenario.calls())
    step("starting a system", 0, 4)
    connection = await asyncio.to_thread(_Observed, scenario.settings(data, namespace))
    real = _Real(connection, scenario)
    try:
        step("filling its cubes", 1, 4)
        await real.fill()
        step("measuring what things take", 2, 4)
        costs = await real.measure()
        step(f"{len(calls)} calls in {scenario.seconds:g} s", 3, 4)
        seen = await real.run(calls)
        node = (await connection.ask_directory("nodes"))[0]
    finally:
        await asyncio.to_thread(connection.close)
    said = simulate(scenario, costs, node, calls)
    _report(report, costs, seen, said)


def simulate(
    scenario: Scenario, costs: Costs, node: NodeInfo, calls: list[tuple[float, int, bool]]
) -> Counts:
    """The same calls on a simulated node."""
    settings = scenario.settings("simulated", "simulated")
    cluster = Cluster(
        nodes=1,
        cpus=node.cpus,
        memory_bytes=node.memory_bytes,
        tick_s=scenario.tick_s,
        pulse_s=scenario.tick_s,
    )
    sim = Simulation(
        cluster,
        Policy.from_settings(settings),
        scenario.traffic,
        costs,
        seed=scenario.seed,
        calls=[(at + _WARM_UP_S, user, adds) for at, user, adds in calls],
        sizes=scenario.traffic.items,
    )
    outcome = sim.run(_WARM_UP_S + scenario.seconds)
    during = [sample for sample in outcome.samples if sample.at_s >= _WARM_UP_S]
    return Counts(
        calls=outcome.calls,
        hits=outcome.hits,
        activations=outcome.activations,
        passivations=sum(outcome.passivations.values()),
        hosts_max=max(sample.hosts for sample in during),
        active_max=max(sample.active for sample in during),
        failed=outcome.failed + outcome.still_waiting,
        hit_s=[costs.answer.median],
        miss_s=[outcome.waits.p50 + costs.answer.median],
    )


class _Real:
    """The system that runs."""

    def __init__(self, connection: _Observed, scenario: Scenario) -> None:
        self._connection, self._scenario = connection, scenario
        self._cubes = [f"user:{i}" for i in range(scenario.traffic.cubes)]

    async def fill(self) -> None:
        """Every cube exists, holds as many memories as the simulation is told, and is passive."""
        for cube_id in self._cubes:
            messages = [
                {"role": "user", "content": f"Note {i}."} for i in range(self._scenario.traffic.items)
            ]
            arguments = {"messages": messages, "op_id": new_op_id()}
            await self._connection.call(cube_id, "add_messages", arguments, create=True)
            await self._passivate(cube_id)

    async def measure(self) -> Costs:
        """What an activation on a host that is up takes, a call, a passivation, and the start of a host."""
        attach, answer, drain = [], [], []
        for cube_id in self._cubes:
            attach.append(await _timed(self._call(cube_id, adds=False)))
            answer += [await _timed(self._call(cube_id, adds=adds)) for adds in (True, False)]
            drain.append(await _timed(self._passivate(cube_id)))
        start = await _siblings.load("actors.bench").time_host_start(self._connection.settings)
        call = Time(quantile(answer, 0.5), quantile(answer, 0.99))
        blank = [host.uss_bytes for host in await self._hosts()]
        return Costs(
            start=Time(start, start),
            attach=Time(max(1e-3, quantile(attach, 0.5) - call.median), max(1e-3, quantile(attach, 0.95))),
            attach_item_s=0.0,
            drain=Time(quantile(drain, 0.5), quantile(drain, 0.95)),
            answer=call,
            locate_s=1e-3,
            tick_cube_s=1e-5,
            tick_host_s=1e-3,
            search_cpu_s=call.median,
            add_cpu_s=call.median,
            process_bytes=max(blank),
            cube_bytes=1_000_000,
            item_bytes=8_000,
        )

    async def run(self, calls: list[tuple[float, int, bool]]) -> Counts:
        """Makes the calls when they are due, and looks at the hosts meanwhile."""
        counts = Counts(calls=len(calls))
        before = await self._epochs()
        for cube_id in self._cubes:
            await self._passivate(cube_id)
        began = time.monotonic()

        async def one(at: float, user: int, adds: bool) -> None:
            await asyncio.sleep(max(0.0, began + at - time.monotonic()))
            asked: list[bool] = []
            _Observed.asked.set(asked)
            try:
                taken = await _timed(self._call(self._cubes[user], adds=adds))
            except MemosError:
                counts.failed += 1
                return
            (counts.miss_s if asked else counts.hit_s).append(taken)
            counts.hits += not asked

        async def look() -> None:
            while True:
                hosts = await self._hosts()
                counts.hosts_max = max(counts.hosts_max, len(hosts))
                counts.active_max = max(counts.active_max, sum(len(host.cubes) for host in hosts))
                await asyncio.sleep(_LOOK_S)

        looking = asyncio.create_task(look())
        try:
            await asyncio.gather(*(one(*call) for call in calls))
            await asyncio.sleep(max(0.0, began + self._scenario.seconds - time.monotonic()))
        finally:
            looking.cancel()
        active = {cube.cube_id for host in await self._hosts() for cube in host.cubes}
        after = await self._epochs()
        # To read the epoch of a passive cube activates it.
        counts.activations = sum(after[c] - before[c] - (c not in active) for c in self._cubes)
        counts.passivations = counts.activations - len(active)
        return counts

    async def _epochs(self) -> dict[str, int]:
        return {c: int((await self._connection.call(c, "stats", {}))["epoch"]) for c in self._cubes}

    async def _call(self, cube_id: str, *, adds: bool) -> None:
        if adds:
            messages = [{"role": "user", "content": f"Seen at {time.monotonic()}."}]
            arguments: dict[str, Any] = {"messages": messages, "op_id": new_op_id()}
            await self._connection.call(cube_id, "add_messages", arguments)
        else:
            await self._connection.call(cube_id, "search", {"query": "what was noted", "top_k": 5})

    async def _passivate(self, cube_id: str) -> None:
        await self._connection.ask_directory("passivate", cube_id)
        self._connection.forget(cube_id)

    async def _hosts(self) -> list[HostInfo]:
        hosts: list[HostInfo] = await self._connection.ask_directory("hosts")
        return hosts


async def _timed(act: Coroutine[Any, Any, None]) -> float:
    began = time.perf_counter()
    await act
    return time.perf_counter() - began


def _report(report: Report, costs: Costs, seen: Counts, said: Counts) -> None:
    for name, value in (
        ("host start", costs.start),
        ("activation on a host that is up, p50", costs.attach),
        ("call, p50", costs.answer),
        ("passivation, p50", costs.drain),
    ):
        report.figure(
            name, 1000 * value.median, "ms", note="measured on this system, given to the simulation"
        )
    for name, real, simulated in (
        ("calls", seen.calls, said.calls),
        ("calls that found their cube active", seen.hits, said.hits),
        ("activations", seen.activations, said.activations),
        ("passivations", seen.passivations, said.passivations),
        ("active cubes, at most", seen.active_max, said.active_max),
        ("hosts, at most", seen.hosts_max, said.hosts_max),
    ):
        report.figure(name, real, "", note=f"simulated: {simulated}")
        allowed = max(_SLACK, _TOLERANCE * max(real, simulated))
        report.check(
            f"{name}: agree within {_TOLERANCE:.0%}, or {_SLACK}",
            abs(real - simulated) <= allowed,
            f"{real}, {simulated}",
        )
    for name, taken, simulated_s in (
        ("call of an active cube, p50", seen.hit_s, said.hit_s),
        ("call that had to activate, p50", seen.miss_s, said.miss_s),
    ):
        if taken:
            note = f"simulated: {1000 * simulated_s[0]:.1f} ms"
            report.figure(name, 1000 * quantile(taken, 0.5), "ms", note=note)
    report.check("every call was answered", seen.failed == said.failed == 0, f"{seen.failed}, {said.failed}")
