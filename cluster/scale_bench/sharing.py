"""Many cubes in a few processes: what they take and serve, and what one of them can do to another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from cluster.scale_bench.system import system, wait_for_pool
from memos_ray.bench.load import Load, press
from memos_ray.bench.report import Report, quantile
from memos_ray.cube_handle import AsyncCube
from memos_ray.memos import AsyncMemOS

Step = Callable[[str, int, int], None]
_CALLERS = 16
_ATTACHES = 4  # at once that a process is given; more would start another one
_QUERIES = ("water", "a friend", "the last journey", "work")


async def packed(
    report: Report,
    data: str,
    cubes: Sequence[str],
    seconds: float,
    step: Step,
    *,
    processes: Sequence[int] = (1, 2, 4),
) -> None:
    """All of `cubes` active at once in so many processes, searched and written by concurrent callers."""
    for i, n in enumerate(processes):
        step(f"{len(cubes)} cubes in {n} processes", i, len(processes))
        share = -(-len(cubes) // n) + 2 * _ATTACHES  # a little room, or the last ones would have to wait
        # So many processes and no more, however busy they are: that is what is compared.
        async with system(
            data, cubes_per_actor=share, warm_actors=n, warm_actors_max=n, idle_s=3600.0, full_busy=1e6
        ) as memory:
            await wait_for_pool(memory, n)
            handles = [await memory.cube(cube_id) for cube_id in cubes]
            await _press(report, memory, handles, n, seconds)


async def _press(
    report: Report, memory: AsyncMemOS, handles: Sequence[AsyncCube], n: int, seconds: float
) -> None:
    begun = time.perf_counter()
    together = max(1, _ATTACHES * n // 2)
    for i in range(0, len(handles), together):
        await asyncio.gather(*(h.get_all(limit=1) for h in handles[i : i + together]))
    up = time.perf_counter() - begun

    async def search(k: int) -> None:
        await _some(handles, k).search(_QUERIES[k % len(_QUERIES)], top_k=5)

    async def add(k: int) -> None:
        await _some(handles, k).add(f"note {k} about {_QUERIES[k % len(_QUERIES)]}")

    for i in range(0, len(handles), _CALLERS):  # indexes and vectors are there before it is measured
        await asyncio.gather(*(h.search("water", top_k=1) for h in handles[i : i + _CALLERS]))
    searches = await press(search, callers=_CALLERS, seconds=seconds)
    adds = await press(add, callers=_CALLERS, seconds=seconds)
    hosts = (await memory.status())["hosts"]
    used = [h for h in hosts if h["cubes"]]
    held, bytes_ = sum(len(h["cubes"]) for h in used), sum(h["uss_bytes"] for h in used)
    name = f"{len(handles)} cubes in {n} processes"
    report.check(name, len(used) == n and held == len(handles), f"{held} in {len(used)}")
    report.figure(f"{name}, activation", len(handles) / up, "cubes/s", note=f"{together} at a time")
    _pressed(report, f"{name}, searches", searches)
    _pressed(report, f"{name}, adds", adds)
    note = f"{bytes_ / 1e6:,.0f} MB that only these processes have (USS)"
    report.figure(f"{name}, memory", bytes_ / held / 1e6, "MB a cube", note=note)


def _some(handles: Sequence[AsyncCube], k: int) -> AsyncCube:
    return handles[(k * 7919) % len(handles)]


async def fairness(report: Report, data: str, cubes: Sequence[str], seconds: float, step: Step) -> None:
    """One cube's searches, alone in a process and beside a neighbour that is asked by many at once."""
    step("a noisy neighbour", 0, 1)
    async with system(data, cubes_per_actor=len(cubes), warm_actors=1, idle_s=3600.0) as memory:
        noisy, quiet = await memory.cube(cubes[0]), await memory.cube(cubes[1])

        async def ask_quiet() -> list[float]:
            taken, end = [], time.perf_counter() + seconds
            while (begun := time.perf_counter()) < end:
                await quiet.search("water", top_k=5)
                taken.append(time.perf_counter() - begun)
                await asyncio.sleep(0.05)
            return taken

        async def ask_noisy(k: int) -> None:
            if k % 4:
                await noisy.search(f"water {k}", top_k=5)
            else:
                await noisy.add(f"noise {k}")

        for cube in (quiet, noisy):
            await cube.search("water", top_k=5)
        alone = await ask_quiet()
        noise = asyncio.create_task(press(ask_noisy, callers=64, seconds=seconds + 1.0))
        beside = await ask_quiet()
        loud = await noise
    for name, taken in (("alone", alone), ("beside 64 callers of a neighbour", beside)):
        for q in (0.5, 0.95):
            figure = f"quiet cube's search, {name}, p{100 * q:.0f}"
            report.figure(figure, 1000 * quantile(taken, q), "ms", note=f"in the same process; {len(taken)}")
    report.figure(
        "the neighbour's calls meanwhile", loud.per_second, "calls/s", note=f"p50 {loud.p(0.5):.0f} ms"
    )


async def moving(report: Report, data: str, cube_id: str, moves: int, step: Step) -> None:
    """A cube moves from process to process while it is written to."""
    step("moving a cube", 0, moves)
    async with system(data, warm_actors=2, idle_s=3600.0) as memory:
        cube = await memory.cube(cube_id)
        before = len(await cube.get_all())
        written, slowest, took, stop = 0, 0.0, [], asyncio.Event()

        async def write(caller: int) -> None:
            nonlocal written, slowest
            while not stop.is_set():
                begun = time.perf_counter()
                await cube.add(f"caller {caller} writes {written} while it moves")
                written, slowest = written + 1, max(slowest, time.perf_counter() - begun)

        writers = [asyncio.create_task(write(i)) for i in range(4)]
        for i in range(moves):
            step("moving a cube", i, moves)
            await wait_for_pool(memory, 1)
            begun = time.perf_counter()
            await memory.move(cube_id)
            took.append(time.perf_counter() - begun)
        stop.set()
        await asyncio.gather(*writers)
        after = len(await cube.get_all())
    report.figure(
        "live move, p50",
        1000 * quantile(took, 0.5),
        "ms",
        note=f"{moves} moves under 4 writers; drain, checkpoint, attach",
    )
    report.figure("live move, slowest write", 1000 * slowest, "ms", note=f"of {written:,}; none failed")
    report.check(
        "live moves lose and double nothing", after - before == written, f"{after - before:,} of {written:,}"
    )


def _pressed(report: Report, name: str, load: Load) -> None:
    report.figure(
        name,
        load.per_second,
        "calls/s",
        note=f"{load.callers} callers, p50 {load.p(0.5):.1f} ms, p99 {load.p(0.99):.1f} ms",
    )
