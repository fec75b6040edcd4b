"""Runs a chaos plan: traffic on a faulty cluster, one fault after the other, and an audit of storage at the end."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.faulty import FaultyCluster
from memos_ray.bench.chaos.ledger import Books
from memos_ray.bench.chaos.load import Traffic, longest_wait
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


@dataclass(slots=True)
class Chaos:
    """What a run found."""

    books: Books = field(default_factory=Books)
    outcomes: list[Outcome] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)  # that callers got in spite of their retries
    woken: int = 0
    seconds: float = 0.0

    def waits(self, fault: Fault) -> list[float]:
        """The longest waits at faults of a kind."""
        return [o.waited_s for o in self.outcomes if o.fault is fault]


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
    found, begun = Chaos(), time.monotonic()
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
            found.outcomes.append(await _one(cluster, memory, planned, traffic))
    finally:
        traffic.stop.set()
        await asyncio.gather(*tasks)
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


async def _one(cluster: FaultyCluster, memory: AsyncMemOS, planned: Planned, traffic: Traffic) -> Outcome:
    start = len(traffic.spans)
    at, cubes, accepted = await cluster.inject(planned.fault, planned.pick, memory)
    for cube_id in accepted:
        traffic.books.report("stale writes accepted", f"{cube_id}: by an owner that had been stopped")
    waiting, end = set(cubes), time.monotonic() + _RECOVERY_S
    while waiting and time.monotonic() < end:
        waiting -= {s.cube_id for s in traffic.spans[start:] if s.ok and s.began > at}
        await asyncio.sleep(_LOOK_S)
    # Callers that hang on to a call from before the fault are counted too: by now another call has been answered.
    recovered_at = time.monotonic()
    await cluster.mend(planned.fault)
    await asyncio.sleep(_LOOK_S)
    concerned = [s for s in traffic.spans[start:] if s.cube_id in cubes]
    cube_id, waited = longest_wait(concerned, at, recovered_at)
    if waiting:
        cube_id, waited = min(waiting), _RECOVERY_S
    return Outcome(planned.fault, cube_id, waited, not waiting)


def operations(settings: Settings, cube_id: str) -> Counter[str]:
    """How often each operation is in a cube's journal, by looking at storage alone: runs of rows with its `op_id`."""
    record = Registry(settings.data).lookup(cube_id)
    assert record is not None
    store = journal_store(settings, cube_id, record.incarnation)
    store.open()
    _, table = store.read()
    live = readable(take_live(table, survey(table)))
    found: Counter[str] = Counter()
    before = None
    for op_id in live["op_id"].to_pylist():
        if op_id != before:
            found[op_id] += 1
        before = op_id
    return found
