"""How long the first call to a cube takes that nobody has active."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence

from cluster.scale_bench.system import system, wait_for_pool
from memos_ray.bench.report import Deadline, Report, quantile
from memos_ray.memos import AsyncMemOS

Step = Callable[[str, int, int], None]
_AIMS = {1_000: "p50 at most 30 ms", 10_000: "p50 at most 120 ms"}
_POOL = 6  # blank hosts: a batch of activations, then the pool fills again
_TICK_S = 3.0  # a batch is over by then: two cores cannot start processes and activate cubes at the same time


async def activations(
    report: Report, data: str, cubes: Mapping[int, Sequence[str]], rounds: int, deadline: Deadline, step: Step
) -> None:
    """Random cubes of each size, each into a blank process of the warm pool, through the client."""
    rng = random.Random(1)
    async with system(
        data, warm_actors=_POOL, warm_actors_max=_POOL, idle_s=3600.0, tick_s=_TICK_S
    ) as memory:
        await (await memory.cube(next(iter(cubes.values()))[0])).search("loads the embedder's model")
        for size, ids in cubes.items():
            wanted = rng.sample(list(ids)[1:], min(rounds, len(ids) - 1))
            located: list[float] = []
            first_get: list[float] = []
            first_search: list[float] = []
            for i in range(0, len(wanted), _POOL - 1):
                if deadline.expired():
                    report.notes.append(f"cut short by --max-seconds: activations of {size:,}")
                    break
                step(f"activating cubes of {size:,} items", i, len(wanted))
                await wait_for_pool(memory, _POOL)
                for cube_id in wanted[i : i + _POOL - 1]:
                    taken = await _activate(memory, cube_id)
                    for seconds, times in zip(taken, (located, first_get, first_search), strict=True):
                        times.append(seconds)
                for cube_id in wanted[i : i + _POOL - 1]:
                    await memory.passivate(cube_id)
            name = f"activation, {size:,} items"
            _figures(
                report,
                name,
                located,
                "look-up, attach, ready for calls, as the client sees it",
                _AIMS.get(size, ""),
            )
            _figures(report, f"{name}, to the first answer", first_get, "a list of one memory")
            _figures(report, f"{name}, to the first search", first_search, "a search, query embedded")


async def _activate(memory: AsyncMemOS, cube_id: str) -> tuple[float, float, float]:
    """Seconds from the begin to: attached, first memory read, first search answered."""
    connection = memory.connect()
    cube = await memory.cube(cube_id)
    begun = time.perf_counter()
    await connection.ask_directory("locate", cube_id, False)
    attached = time.perf_counter() - begun
    await cube.get_all(limit=1)
    listed = time.perf_counter() - begun
    hits = await cube.search("where does the water come from?", top_k=1)
    assert hits, f"{cube_id} was given memories and has none"
    return attached, listed, time.perf_counter() - begun


def _figures(report: Report, name: str, seconds: Sequence[float], note: str, aim: str = "") -> None:
    if not seconds:
        return
    report.figure(
        f"{name}, p50", 1000 * quantile(seconds, 0.5), "ms", note=f"{note}; {len(seconds)} cubes", aim=aim
    )
    report.figure(f"{name}, p99", 1000 * quantile(seconds, 0.99), "ms")
