"""Cubes that share processes, come and go, and move, on a real system."""

import asyncio
import itertools
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray

from memos_ray import AsyncMemOS, MemOS
from memos_ray.errors import Invalid, NotFound, Overloaded

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]
NAMESPACE = "test-fleet"
IDLE_S = 6.0


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemOS]:
    data = str(tmp_path_factory.mktemp("data"))
    with MemOS(
        data=data,
        address="local",
        namespace=NAMESPACE,
        embedder="hash",
        cubes_per_actor=4,
        own_actor_items=150,
        idle_s=IDLE_S,
        tick_s=0.2,
    ) as memory:
        yield memory


def where(memory: MemOS, cube_id: str) -> tuple[str, int] | None:
    """(host, epoch) of an active cube."""
    for host in memory.status()["hosts"]:
        for cube in host["cubes"]:
            if cube["cube_id"] == cube_id:
                return host["name"], cube["epoch"]
    return None


async def until(found: Callable[[], Any], patience_s: float = 60.0) -> Any:
    async with asyncio.timeout(patience_s):
        while not (value := await asyncio.to_thread(found)):  # noqa: ASYNC110 - other processes change it
            await asyncio.sleep(0.05)
    return value


def test_small_cubes_share_a_process_and_a_large_one_leaves_it(memory: MemOS):
    for i in range(4):
        memory.cube(f"small-{i}").add(f"the cube of number {i}")
    found = {where(memory, f"small-{i}") for i in range(4)}
    assert len({name for name, _ in found if name}) == 1
    shared = where(memory, "small-0")
    large = memory.cube("small-3")
    large.add([f"line {i}" for i in range(160)])

    def alone() -> bool:
        now = where(memory, "small-3")
        (host,) = [h for h in memory.status()["hosts"] if now and h["name"] == now[0]] or [None]
        return host is not None and now[0] != shared[0] and len(host["cubes"]) == 1

    asyncio.run(until(alone))
    assert len(large.get_all()) == 161
    assert memory.cube("small-0").search("cube of number")[0].item.text == "the cube of number 0"


def test_an_idle_cube_is_let_go_and_comes_back(memory: MemOS):
    cube = memory.cube("idle")
    cube.add("still here afterwards")
    before = where(memory, "idle")
    asyncio.run(until(lambda: where(memory, "idle") is None))
    assert cube.get_all()[0].text == "still here afterwards"
    after = where(memory, "idle")
    assert after[1] == before[1] + 1


def test_a_cube_moves_under_writes_and_none_is_lost(memory: MemOS):
    async def main() -> tuple[int, list[str]]:
        client = AsyncMemOS(namespace=NAMESPACE)
        cube = await client.cube("moving")
        await cube.add("the first")
        written, stop, hosts = 1, asyncio.Event(), []

        async def write(caller: int) -> None:
            nonlocal written
            n = 0
            while not stop.is_set():
                await cube.add(f"caller {caller} writes {n}")
                n, written = n + 1, written + 1

        writers = [asyncio.create_task(write(i)) for i in range(4)]
        for _ in range(3):
            goal = written + 10
            while written < goal:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            hosts.append((await client.move("moving"))["host"])
        stop.set()
        await asyncio.gather(*writers)
        texts = [item.text for item in await cube.get_all()]
        assert len(set(texts)) == len(texts)
        return written - len(texts), hosts

    lost, hosts = asyncio.run(main())
    assert lost == 0
    assert all(a != b for a, b in itertools.pairwise(hosts))


def test_what_cannot_be_moved_is_refused_clearly(memory: MemOS):
    with pytest.raises(NotFound, match="not active"):
        memory.move("nobody")
    memory.cube("here").add("x")
    with pytest.raises(Invalid, match="no node"):
        memory.move("here", node_id="0" * 56)
    with pytest.raises(Invalid, match="no node"):
        memory.drain("0" * 56)
    assert memory.passivate("nobody") is False
    assert memory.passivate("here") is True
    assert where(memory, "here") is None


def test_a_draining_node_that_is_the_only_one_says_so(memory: MemOS):
    (node,) = memory.status()["nodes"]
    memory.drain(node["node_id"])
    try:
        quick = MemOS(namespace=NAMESPACE, call_timeout_s=1.0)
        # What the directory knows of the node may be a moment old.
        with pytest.raises(Overloaded, match="draining"):
            quick.cube("nowhere to go").add("x")
        assert memory.status()["nodes"][0]["draining"] is True
    finally:
        memory.drain(node["node_id"], draining=False)
    memory.cube("nowhere to go").add("x")


def test_a_new_directory_finds_what_runs(memory: MemOS):
    for i in range(3):
        memory.cube(f"kept-{i}").add("x")
    before = {where(memory, f"kept-{i}") for i in range(3)}
    directory = ray.get_actor("directory", namespace=NAMESPACE)
    os.kill(ray.get(directory.pid.remote()), signal.SIGKILL)

    def found_again() -> bool:
        for i in range(3):
            memory.cube(f"kept-{i}").add("y")  # through cached handles, and so that none is idle
        return {where(memory, f"kept-{i}") for i in range(3)} == before

    asyncio.run(until(found_again))
