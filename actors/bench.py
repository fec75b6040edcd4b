"""The host of a measured cube: the production host, with storage that can be left out and clocks inside.

For `memos-ray bench core` alone. What is timed is the same `MemCube` behind the same actor methods; only its
embedder is a synthetic one, which costs next to nothing.
"""

from __future__ import annotations

import asyncio
import time
from itertools import islice
from typing import Any, cast

import ray

from actors.mem_cube import Held, MemCubeActor, create_host
from actors.options import HOST, HOST_CLASS
from memos_ray.bench import brute
from memos_ray.bench.synthetic import Synthetic, SyntheticEmbedder
from memos_ray.clock import SystemClock
from memos_ray.config import Settings
from memos_ray.cube.cube import MemCube
from memos_ray.cube.opening import activate
from memos_ray.cube.vector_store import MemoryVectorStore
from memos_ray.ids import new_op_id
from memos_ray.retrieval.arms import DENSE, TEXT
from memos_ray.testing.memory_store import MemoryStore
from memos_ray.wire import Reply

_TOGETHER = 50  # sessions of 20 turns in flight while filling: a full group commit
_DEEP = 200  # hits asked for when an arm's first ten are to be seen whatever the others say


class BenchCubeActor(MemCubeActor):
    """`stored=False`: the journal is kept in memory, everything else is the same."""

    def __init__(self, name: str, settings: Settings, stored: bool) -> None:
        super().__init__(name, settings, None)
        self._synthetic = SyntheticEmbedder()
        self._embedder = cast(Any, self._synthetic)  # the same protocol, in this process
        self._stored = stored

    async def attach(self, cube_id: str, incarnation: str) -> Reply:
        """As in production; or the same parts on a journal in memory, which a second attach finds empty."""
        if self._stored:
            return await super().attach(cube_id, incarnation)
        cube = await activate(
            self._settings,
            cube_id,
            MemoryStore(),
            open_vectors=lambda *_: MemoryVectorStore(),
            embedder=self._synthetic,
            clock=SystemClock(),
            owner=self._name,
        )
        self._held[cube_id] = Held(cube, incarnation)
        return Reply()

    async def fill(self, n: int, seed: int) -> float:
        """Adds `n` synthetic turns and waits until all can be found. Returns the seconds that took."""
        begun = time.perf_counter()
        cube = self._cube()
        sessions = Synthetic(seed).sessions(n)
        while together := list(islice(sessions, _TOGETHER)):
            await asyncio.gather(*(cube.add_messages(**s, op_id=new_op_id()) for s in together))
        await cube.settled()
        return time.perf_counter() - begun

    async def time_searches(self, n: int, seed: int, recipe: str) -> list[float]:
        """Seconds of each of `n` searches, inside the process, ownership confirmed as always."""
        cube, taken = self._cube(), []
        queries = await self._queries(n, seed)
        for query in queries:  # once, so that the embedder remembers them: embedding is not what is measured
            await cube.search(query, top_k=10, recipe=recipe)
        for query in queries:
            begun = time.perf_counter()
            await cube.search(query, top_k=10, recipe=recipe)
            taken.append(time.perf_counter() - begun)
        return taken

    async def verify(self, n: int, seed: int, *, text: bool) -> list[str]:
        """Compares `n` searches with brute force. Returns what differs; `text`: the BM25 arm too (slow)."""
        cube, wrong = self._cube(), []
        items = await cube.get_all()
        vectors = await self._synthetic.embed([item.text for item in items])
        for query in await self._queries(n, seed):
            hits = await cube.search(query, top_k=_DEEP, explain=True)
            asked = (await self._synthetic.embed([self._synthetic.last_query]))[0]
            wrong.append(brute.difference(DENSE, brute.dense_scores(items, vectors, asked), hits))
            if text:
                wrong.append(brute.difference(TEXT, brute.text_scores(items, query), hits))
        return [w for w in wrong if w is not None]

    async def _queries(self, n: int, seed: int) -> list[str]:
        source = Synthetic(seed)
        items = await self._cube().get_all(limit=1_000)
        return [source.query_about(items[i * len(items) // n].text) for i in range(n)]

    def _cube(self) -> MemCube:
        if not self._held:
            raise RuntimeError("attach a cube first")
        return next(iter(self._held.values())).cube


def create_bench_host(name: str, settings: Settings, *, stored: bool) -> Any:
    """Starts one. It ends with the driver that started it: nobody else needs it."""
    options = {**HOST, "lifetime": None}
    return (
        ray.remote(**HOST_CLASS)(BenchCubeActor)
        .options(name=name, namespace=settings.namespace, **options)
        .remote(name, settings, stored)
    )


async def time_host_start(settings: Settings) -> float:
    """Seconds that a production host takes from being asked for until it answers; it is ended again."""
    begun = time.perf_counter()
    host = create_host(f"bench:{new_op_id()}", ray.get_runtime_context().get_node_id(), settings, None)
    try:
        await host.describe.remote()
        return time.perf_counter() - begun
    finally:
        ray.kill(host)
