"""Runs a chaos plan: traffic on a faulty cluster, one fault after the other, and an audit of storage at the end."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any

from cluster.faulty import FaultyCluster
from memos_ray.bench.chaos.ledger import Books
from memos_ray.bench.chaos.load import Span, Traffic, longest_wait
from memos_ray.bench.chaos.plan import Fault, Planned
from memos_ray.config import Settings
from memos_ray.cube.live import survey, take_live
from memos_ray.cube.opening import journal_store
from memos_ray.cube.packing import readable
from memos_ray.cube.registry import Registry
from memos_ray.memos import AsyncMemOS

_RECOVERY_S = 60.0  # a cube that has not answered by then is said to be unavailable for so long
_LOOK_S = 0.02

Step = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one fault did: the cube whose caller waited longest, and for how long."""

    fault: Fault
    cube_id: str
    waited_s: float
    recovered: bool


@dataclass(frozen=True, slots=True)
class _Injected:
    """A fault that was done, and when each of its cubes had answered a call that began after it."""

    fault: Fault
    cubes: frozenset[str]
    first: int  # of the spans that ended after the fault
    at: float
    until: float
    silent: str | None  # a cube that did not answer

    def outcome(self, spans: Sequence[Span]) -> Outcome:
        """What it cost callers, those too that hung on to a call from before while others were answered."""
        if self.silent is not None:
            return Outcome(self.fault, self.silent, _RECOVERY_S, False)
        concerned = (s for s in islice(spans, self.first, None) if s.cube_id in self.cubes)
        return Outcome(self.fault, *longest_wait(concerned, self.at, self.until), True)


@dataclass(slots=True)
class Chaos:
    """What a run found."""

    books: Books = field(default_factory=Books)
    outcomes: list[Outcome] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)  # that callers got in spite of their retries
    woken: int = 0
    seconds: float = 0.0

    def waits(self, fault: Fault) -> list[float]:
        """The longest waits at faults of a kind that concerned any cube."""
        return [o.waited_s for o in self.outcomes if o.fault is fault and o.cube_id]


async def run(
    cluster: FaultyCluster,
    memory: AsyncMemOS,
    faults: Sequence[Planned],
    *,
    cubes: int,
    writers: int,
    readers: int,
    seed: int,
    until: Callable[[], bool],
    step: Step,
) -> Chaos:
    """All faults that come before `until()` is true, under load."""
    found, begun, injected = Chaos(), time.monotonic(), list[_Injected]()
    handles = [await memory.cube(f"chaos-{i}") for i in range(cubes)]
    for handle in handles:  # all active before the first fault
        found.books.added(handle.cube_id, *(await _first(handle)), time.monotonic())
    traffic = Traffic(handles, found.books)
    tasks = [asyncio.create_task(traffic.writer(i, random.Random(seed + i))) for i in range(writers)]
    tasks += [asyncio.create_task(traffic.reader(random.Random(seed - 1 - i))) for i in range(readers)]
    try:
        for i, planned in enumerate(faults):
            if until() or any(task.done() for task in tasks):
                break
            step(planned.fault, i, len(faults))
            await asyncio.sleep(planned.after_s)
            injected.append(await _one(cluster, memory, planned, traffic))
    finally:
        traffic.stop.set()
        await asyncio.gather(*tasks)
    found.outcomes = [one.outcome(traffic.spans) for one in injected]
    found.errors, found.woken = traffic.errors, cluster.woken
    step("looking at storage", len(faults), len(faults))
    for handle in handles:
        shown = {item.id: (item.version, item.text) for item in await handle.get_all()}
        op_ids = await asyncio.to_thread(operations, memory.connect().settings, handle.cube_id)
        found.books.audit(handle.cube_id, shown, op_ids)
    found.seconds = time.monotonic() - begun
    return found


async def _first(handle: Any) -> tuple[str, str, str]:
    op_id, text = f"first-{handle.cube_id}", f"the first of {handle.cube_id}"
    return op_id, (await handle.add(text, op_id=op_id)).ids[0], text


async def _one(cluster: FaultyCluster, memory: AsyncMemOS, planned: Planned, traffic: Traffic) -> _Injected:
    first = len(traffic.spans)
    at, cubes, accepted = await cluster.inject(planned.fault, planned.pick, memory)
    for cube_id in accepted:
        traffic.books.report("stale writes accepted", f"{cube_id}: by an owner that had been stopped")
    # What was answered while it was being done may have been answered by what was about to end.
    waiting, done, since = set(cubes), time.monotonic(), len(traffic.spans)
    while waiting and time.monotonic() < done + _RECOVERY_S:
        waiting -= {s.cube_id for s in traffic.spans[since:] if s.ok and s.began > done}
        await asyncio.sleep(_LOOK_S)
    until = time.monotonic()
    await cluster.mend(planned.fault)
    return _Injected(planned.fault, frozenset(cubes), first, at, until, min(waiting, default=None))


def operations(settings: Settings, cube_id: str) -> Counter[str]:
    """How often each operation is in a cube's journal, by looking at storage alone: see `runs`."""
    record = Registry(settings.data).lookup(cube_id)
    assert record is not None
    store = journal_store(settings, cube_id, record.incarnation)
    store.open()
    _, table = store.read()
    live = readable(take_live(table, survey(table)))
    return runs(zip(*(live[name].to_pylist() for name in ("op_id", "epoch", "recorded_at")), strict=True))


def runs(rows: Iterable[tuple[Any, ...]]) -> Counter[str]:
    """In how many runs of equal ones each `op_id`, the first of these values, comes. All rows of an operation are in
    one commit: of one epoch, and of one time."""
    return Counter(key[0] for key, _ in groupby(rows))
