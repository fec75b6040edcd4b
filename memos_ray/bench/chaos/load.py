"""Writers and readers of a chaos run, through the public client, and what each call cost its caller."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from memos_ray.bench.chaos.ledger import Books, Written
from memos_ray.cube_handle import AsyncCube
from memos_ray.errors import MemosError, NotFound
from memos_ray.ids import new_op_id

_PAUSE_S = 0.02  # between two calls of a caller: sixteen that never rest would measure the machine


@dataclass(frozen=True, slots=True)
class Span:
    """One call, as its caller saw it."""

    cube_id: str
    began: float
    ended: float
    ok: bool


@dataclass(slots=True)
class Traffic:
    """Callers that go on until `stop`."""

    cubes: Sequence[AsyncCube]
    books: Books
    spans: list[Span] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def writer(self, number: int, rng: random.Random) -> None:
        """Adds, updates and deletes memories of its own."""
        mine: dict[str, list[str]] = {cube.cube_id: [] for cube in self.cubes}
        sent = 0
        while not self.stop.is_set():
            cube = rng.choice(self.cubes)
            ids, sent = mine[cube.cube_id], sent + 1
            what = rng.random()
            if ids and what < 0.3:
                await self._update(cube, rng.choice(ids), f"writer {number} changed this, {sent}")
            elif ids and what < 0.45:
                await self._delete(cube, ids.pop(rng.randrange(len(ids))))
            else:
                memory_id = await self._add(cube, f"writer {number} says {sent}")
                if memory_id is not None:
                    ids.append(memory_id)
            await asyncio.sleep(_PAUSE_S * rng.uniform(0.5, 1.5))

    async def reader(self, rng: random.Random) -> None:
        """Gets, lists and searches, and compares what it sees with the books."""
        while not self.stop.is_set():
            cube = rng.choice(self.cubes)
            what, known = rng.random(), list(self.books.of(cube.cube_id).values())
            if known and what < 0.6:
                await self._get(cube, rng.choice(known[-200:]))
            elif what < 0.7:
                await self._list(cube)
            else:
                await self._search(cube, rng.randrange(1_000))
            await asyncio.sleep(_PAUSE_S * rng.uniform(0.5, 1.5))

    # -- writes -----------------------------------------------------------------------------------------------

    async def _add(self, cube: AsyncCube, text: str) -> str | None:
        op_id, began = new_op_id(), time.monotonic()
        try:
            memory_id = (await cube.add(text, op_id=op_id)).ids[0]
        except MemosError as error:
            self._failed(cube, began, error)
            self.books.unknown_texts.setdefault(cube.cube_id, set()).add(text)
            return None
        self.books.added(cube.cube_id, op_id, memory_id, text, self._ended(cube, began))
        return memory_id

    async def _update(self, cube: AsyncCube, memory_id: str, text: str) -> None:
        op_id, began = new_op_id(), time.monotonic()
        try:
            event = (await cube.update(memory_id, text=text, op_id=op_id)).events[0]
        except MemosError as error:
            self._failed(cube, began, error)
            self.books.of(cube.cube_id)[memory_id].doubtful = True
            return
        self.books.updated(cube.cube_id, op_id, memory_id, event.version, text, self._ended(cube, began))

    async def _delete(self, cube: AsyncCube, memory_id: str) -> None:
        written = self.books.of(cube.cube_id)[memory_id]
        op_id, began = new_op_id(), time.monotonic()
        written.deleting_at = began
        try:
            await cube.delete(memory_id, op_id=op_id)
        except MemosError as error:
            self._failed(cube, began, error)
            written.doubtful = True
            return
        self.books.deleted(cube.cube_id, op_id, memory_id, self._ended(cube, began))

    # -- reads ------------------------------------------------------------------------------------------------

    async def _get(self, cube: AsyncCube, written: Written) -> None:
        began = time.monotonic()
        version, text = None, ""
        try:
            item = await cube.get(written.memory_id)
            version, text = item.version, item.text
        except NotFound:
            pass
        except MemosError as error:
            self._failed(cube, began, error)
            return
        self.books.seen(cube.cube_id, written.memory_id, version, text, began, self._ended(cube, began))

    async def _list(self, cube: AsyncCube) -> None:
        began = time.monotonic()
        try:
            items = {item.id: (item.version, item.text) for item in await cube.get_all()}
        except MemosError as error:
            self._failed(cube, began, error)
            return
        ended = self._ended(cube, began)
        for memory_id in list(self.books.of(cube.cube_id)):
            version, text = items.get(memory_id, (None, ""))
            self.books.seen(cube.cube_id, memory_id, version, text, began, ended)

    async def _search(self, cube: AsyncCube, number: int) -> None:
        """Of a search only what it shows can be judged."""
        began = time.monotonic()
        try:
            hits = await cube.search(f"what did a writer say, {number}?", top_k=10)
        except MemosError as error:
            self._failed(cube, began, error)
            return
        ended = self._ended(cube, began)
        for hit in hits:
            self.books.seen(cube.cube_id, hit.item.id, hit.item.version, hit.item.text, began, ended)

    def _ended(self, cube: AsyncCube, began: float) -> float:
        ended = time.monotonic()
        self.spans.append(Span(cube.cube_id, began, ended, True))
        return ended

    def _failed(self, cube: AsyncCube, began: float, error: MemosError) -> None:
        self.spans.append(Span(cube.cube_id, began, time.monotonic(), False))
        self.errors.append(f"{type(error).__name__}: {error.message}")


def longest_wait(spans: Iterable[Span], at: float, until: float) -> tuple[str, float]:
    """(cube, seconds): the longest that a caller waited for an answer after `at`, of calls begun before `until`.

    To be asked once all these calls have ended: one that still waits is in no list."""
    waits = [(s.ended - max(s.began, at), s.cube_id) for s in spans if s.ended > at and s.began < until]
    if not waits:
        return "", 0.0
    seconds, cube_id = max(waits)
    return cube_id, seconds
