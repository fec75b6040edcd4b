"""SIGKILL of a cube's process at random moments, under concurrent writers: nothing acknowledged is lost or doubled."""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator

import pytest

from memos_ray import AsyncMemOS, MemOS
from memos_ray.cube_handle import AsyncCube

pytestmark = [pytest.mark.ray, pytest.mark.fault, pytest.mark.timeout(300)]

WRITERS = 16
SEED = 20_261_122


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemOS]:
    """The hash embedder: vectors are not what is tested, and the model would take a core from the writers."""
    data = str(tmp_path_factory.mktemp("data"))
    with MemOS(data=data, address="local", namespace="test-kill", embedder="hash", warm_actors=2) as memory:
        yield memory


class Ledger:
    """What was acknowledged: text -> id, and the versions of every memory that was updated."""

    def __init__(self) -> None:
        self.added: dict[str, str] = {}
        self.updated: Counter[str] = Counter()
        self.sent = 0


async def _write(
    cube: AsyncCube, ledger: Ledger, stop: asyncio.Event, writer: int, rng: random.Random
) -> None:
    mine: list[str] = []
    while not stop.is_set():
        ledger.sent += 1
        if mine and rng.random() < 0.3:
            memory_id = rng.choice(mine)
            result = await cube.update(
                memory_id, text=f"writer {writer} changed {memory_id} at {ledger.sent}"
            )
            ledger.updated[memory_id] += 1
            assert result.events[0].version == ledger.updated[memory_id] + 1
        else:
            text = f"writer {writer} says {ledger.sent}"
            memory_id = (await cube.add(text)).ids[0]
            assert text not in ledger.added
            ledger.added[text] = memory_id
            mine.append(memory_id)


async def _round(client: AsyncMemOS, cube: AsyncCube, ledger: Ledger, rng: random.Random) -> None:
    pid = (await cube.stats())["pid"]
    stop = asyncio.Event()
    writers = [asyncio.create_task(_write(cube, ledger, stop, w, rng)) for w in range(WRITERS)]
    goal = len(ledger.added) + rng.randint(1, 120)
    while len(ledger.added) < goal:
        await asyncio.wait(writers, timeout=0.001)  # raises below if a writer failed
        assert not any(w.done() for w in writers)
    os.kill(pid, signal.SIGKILL)
    goal = len(ledger.added) + WRITERS  # everybody goes on behind the kill
    while len(ledger.added) < goal:
        await asyncio.wait(writers, timeout=0.01)
        assert not any(w.done() for w in writers)
    stop.set()
    await asyncio.gather(*writers)


@pytest.mark.parametrize("rounds", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_no_acknowledged_memory_is_lost_or_doubled(memory: MemOS, rounds: int):
    async def main() -> None:
        client = AsyncMemOS(namespace="test-kill")
        cube = await client.cube(f"killed {rounds} times")
        await cube.add("the first")
        ledger, rng = Ledger(), random.Random(SEED)
        for _ in range(rounds):
            await _round(client, cube, ledger, rng)
        stats = await cube.stats()
        assert stats["epoch"] == rounds + 1
        items = {item.id: item for item in await cube.get_all()}
        first_texts = Counter[str]()
        for memory_id in ledger.added.values():
            assert memory_id in items
        for memory_id, item in items.items():
            history = await cube.history(memory_id)
            assert [entry.item.version for entry in history] == list(range(1, item.version + 1))
            assert len({entry.op_id for entry in history}) == len(history)
            first_texts[history[0].item.text] += 1
            assert item.version == ledger.updated[memory_id] + 1
        assert set(first_texts) == set(ledger.added) | {
            "the first"
        }  # every writer was answered: nothing else
        assert set(first_texts.values()) == {1}

    asyncio.run(main())
