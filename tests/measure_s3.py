"""Counts the requests that a cube makes to an object store, and times it, on an S3 server on loopback.

    PYTHONPATH=. python tests/measure_s3.py

Counts are exact (a proxy on the way sees every request); times are of the server without the proxy, medians.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from itertools import islice
from pathlib import Path

from s3_server import BUCKET, Proxy, Server, environment

from memos_ray.clock import SystemClock
from memos_ray.config import Settings
from memos_ray.cube.cube import MemCube
from memos_ray.cube.opening import open_cube
from memos_ray.cube.paths import checkpoints_path
from memos_ray.cube.registry import Registry
from memos_ray.cube.registry.index import RegistryIndex
from memos_ray.ids import new_op_id
from memos_ray.models.batching import BatchingEmbedder
from memos_ray.models.embedder import HashEmbedder
from memos_ray.placement.shards import table_of
from memos_ray.storage.files import Files
from memos_ray.testing.local import LocalCubes

KINDS = ("GET", "HEAD", "LIST", "PUT", "POST", "DELETE")
ITEMS, GROUP, TIMES, IDLE_S = 1_000, 100, 15, float(os.environ.get("IDLE", "60"))


Measured = Callable[[str, Callable[[], Awaitable[object]]], Awaitable[None]]


async def fill(root: str, settings: Settings) -> None:
    async with LocalCubes(root, settings=settings) as cubes:
        cube = await cubes.cube("c")
        for start in range(0, ITEMS, 50):
            await cube.add([f"Memory {start + i} of the {i}th jar of lemons." for i in range(50)])


async def registry_life(root: str, measured: Measured) -> None:
    first, second = in_one_table(2)
    registry = Registry(root)

    async def register(cube_id: str) -> None:
        await asyncio.to_thread(
            lambda: registry.create_if_absent(cube_id, incarnation=new_op_id(), embedder="hash")
        )

    async def look_up(where: Registry | RegistryIndex) -> None:
        assert await asyncio.to_thread(where.lookup, first) is not None

    await measured("register the first cube of one of the 64 tables", lambda: register(first))
    await measured("register another in that table", lambda: register(second))
    await measured("look a cube up, the table not open yet", lambda: look_up(Registry(root)))
    await measured("look a cube up, the table open", lambda: look_up(registry))
    index = registry.index()
    await measured(
        "read the registry into memory, two tables there", lambda: asyncio.to_thread(index.refresh)
    )
    await measured("register one more, the registry in memory", lambda: register(in_one_table(3)[2]))
    await measured("look a cube up in memory, as the directory does", lambda: look_up(index))
    await measured("refresh what is in memory, as before a listing", lambda: asyncio.to_thread(index.refresh))


def in_one_table(n: int) -> list[str]:
    found = (f"user:{i}" for i in range(10_000) if table_of(f"user:{i}") == table_of("user:0"))
    return list(islice(found, n))


async def life(root: str, measured: Measured, idle: bool) -> None:
    settings = Settings(data=root)
    await measured(
        "make a cube, activate it, add 1,000 memories in 20 calls, passivate", lambda: fill(root, settings)
    )
    await registry_life(root, measured)
    incarnation = Registry(root).lookup("c").incarnation
    embedder = BatchingEmbedder(HashEmbedder())

    async def activate() -> MemCube:
        return await open_cube(
            settings, "c", incarnation, embedder=embedder, clock=SystemClock(), owner="measured"
        )

    async def once(what: str) -> None:
        opened: list[MemCube] = []

        async def attach() -> None:
            opened.append(await activate())

        await measured(f"activate a cube of {ITEMS:,}, {what}", attach)
        await measured(f"its first search, {what}", lambda: opened[0].search("jar of lemons number 7"))
        await asyncio.sleep(1)
        await measured(f"passivate it, {what}", opened[0].close)

    files = Files(checkpoints_path(root, "c", incarnation))
    warm = await activate()
    await warm.search("jar of lemons number 7")
    await warm.settled()
    await warm.close()
    await once("with checkpoints")
    for file in list(files.list()):
        files.delete(file.name)
    await once("without")
    cubes = LocalCubes(root, settings=settings)
    cube, active = await cubes.cube("c"), await cubes.active("c")
    number = iter(range(10**9))

    async def add() -> None:
        await cube.add(f"Something new, number {next(number)}.")

    async def group() -> None:
        await asyncio.gather(*(add() for _ in range(GROUP)))

    await add()
    await asyncio.sleep(4)  # its vectors are stored, 2 s after
    await measured("add, to its acknowledgement", add)
    await measured("its vectors, once for all adds until none came for 2 s", lambda: asyncio.sleep(4))
    await measured(f"{GROUP} adds at once, to the last acknowledgement", group)
    await asyncio.sleep(4)
    await measured("confirm the ownership", lambda: active._journal.confirm(latest=True))
    await measured(
        "search, ownership confirmed within the last second", lambda: cube.search("jar of lemons number 7")
    )
    for _ in range(8):
        await add()
    await asyncio.sleep(4)
    await measured("compact and clean up", lambda: active._journal._compact())
    if idle:
        await measured("an idle active cube, a minute", lambda: asyncio.sleep(IDLE_S))
    await measured("passivate, with a tenth of it new", cubes.close)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        proxy = Proxy(server.endpoint)
        try:
            os.environ.update(environment(proxy.endpoint))
            counted: dict[str, dict[str, int]] = {}

            async def count(name: str, what: Callable[[], Awaitable[object]]) -> None:
                proxy.counts.clear()
                proxy.paths.clear()
                await what()
                counted[name] = dict(proxy.counts)
                if os.environ.get("SHOW"):
                    print(name, *proxy.paths, sep="\n    ")

            await life(f"s3://{BUCKET}/counted", count, idle=True)
            os.environ.update(environment(server.endpoint))
            times: dict[str, list[float]] = {}

            async def clock(name: str, what: Callable[[], Awaitable[object]]) -> None:
                started = time.perf_counter()
                await what()
                times.setdefault(name, []).append((time.perf_counter() - started) * 1e3)

            for i in range(int(os.environ.get("TIMES", TIMES))):
                await life(f"s3://{BUCKET}/timed-{i}", clock, idle=False)
        finally:
            proxy.stop()
            server.stop()
    print("| |", " | ".join(KINDS), "| median ms |")
    for name, counts in counted.items():
        median = f"{statistics.median(times[name]):.0f}" if name in times else ""
        print(f"| {name} |", " | ".join(str(counts.get(kind, 0)) for kind in KINDS), f"| {median} |")


if __name__ == "__main__":
    asyncio.run(main())
