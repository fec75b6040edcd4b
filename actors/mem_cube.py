"""The process that holds active cubes. Comes up blank; only the directory attaches cubes to it."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import weakref
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ray

from actors.observed import note_call, observe_process, outcome_of
from actors.options import CONTROL, HOST, HOST_CLASS
from actors.remote_embedder import RemoteEmbedder
from memos_ray import logs, telemetry
from memos_ray.admission import Admission
from memos_ray.clock import SystemClock
from memos_ray.config import Settings
from memos_ray.cube.cube import READING, VERBS, MemCube
from memos_ray.cube.opening import open_cube
from memos_ray.cube.warming import warm_up
from memos_ray.errors import Invalid, MemosError, Moved, Overloaded
from memos_ray.placement.fleet import CubeUse
from memos_ray.process import release_memory, uss_bytes
from memos_ray.wire import Call, HostInfo, Reply

log = logging.getLogger(__name__)

_READS, _WRITES = 8, 256  # at once in a process: a core is busy with fewer; writes that queue share a commit
_WAITED_S = 0.0005  # a turn that came at once takes less
_LATE_S = 0.5  # between two looks at how late the event loop is


@dataclass(slots=True, eq=False)
class Held:
    """A cube in this process, and what it was asked."""

    cube: MemCube
    incarnation: str
    calls: int = 0
    spent_s: float = 0.0  # in calls, waiting included: by this the process's time is divided among its cubes
    told_s: float = 0.0  # of that, what is in `busy_s` already
    busy_s: float = 0.0
    used_at: float = field(default_factory=time.monotonic)


class MemCubeActor:
    """Hosts up to `cubes_per_actor` cubes and passes verbs through to them.

    An owner that lost its cube (fenced off, or storage failed) answers `Moved` until it is attached again.
    """

    def __init__(self, name: str, settings: Settings, embedder: Any) -> None:
        # Before it is ready, and before anything is counted. In a thread: this one may have an event loop already.
        warming = threading.Thread(target=warm_up, args=(settings,))
        warming.start()
        warming.join()
        self._name = name
        self._settings = settings
        self._embedder = RemoteEmbedder(embedder)
        self._held: dict[str, Held] = {}
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        alone = settings.cubes_per_actor == 1
        self._reads = Admission(
            slots=_READS, per_cube=_READS if alone else _READS // 2, waiting=settings.queue_limit
        )
        self._writes = Admission(
            slots=_WRITES, per_cube=_WRITES if alone else _WRITES // 4, waiting=settings.queue_limit
        )
        self._cpu_s = time.process_time()
        self._looked_at = time.monotonic()
        self._watch: asyncio.Task[None] | None = None
        self._served = 0
        self._node_id = observe_process(settings, actor="host", name=name)

    async def attach(self, cube_id: str, incarnation: str) -> Reply:
        """Activates the cube here; answers with its `CubeUse`. Repeated for the same one: only if it was lost.

        Whatever fails, the cube is not here afterwards. A host that holds as many others as it may answers `Moved`
        (`reason` "full").
        """
        if self._watch is None:
            self._watch = asyncio.create_task(self._look_at_clock())
        async with self._lock(cube_id):
            try:
                held = self._held.get(cube_id)
                if held is not None and (held.cube.lost is not None or held.incarnation != incarnation):
                    await self._release(cube_id)
                    held = None
                if held is None:
                    if len(self._held) >= self._settings.cubes_per_actor:
                        message = f"this host holds {len(self._held)} cubes already"
                        return Reply(error=Moved(message, cube_id=cube_id, reason="full"))
                    held = Held(await self._open(cube_id, incarnation), incarnation)
                    self._held[cube_id] = held
                return Reply(_use(held, time.monotonic()))
            except Exception as error:
                return _failed(error, f"activating {cube_id!r}")

    async def _open(self, cube_id: str, incarnation: str) -> MemCube:
        return await open_cube(
            self._settings,
            cube_id,
            incarnation,
            embedder=self._embedder,
            clock=SystemClock(),
            owner=self._name,
        )

    async def detach(self, cube_id: str, idle_for_s: float = 0.0) -> Reply:
        """Drains what is queued and lets the cube go. False if it was called within the last `idle_for_s` seconds, and
        is therefore still here."""
        async with self._lock(cube_id):
            held = self._held.get(cube_id)
            if held is not None and time.monotonic() - held.used_at < idle_for_s:
                return Reply(False)
            try:
                await self._release(cube_id)
                return Reply(True)
            except Exception as error:
                return _failed(error, f"letting {cube_id!r} go")

    async def detach_all(self) -> Reply:
        """`detach` of every cube, one after the other: the process is blank then. Answers with the first error."""
        replies = [await self.detach(cube_id) for cube_id in list(self._held)]
        return next((reply for reply in replies if reply.error is not None), Reply(True))

    async def call(self, call: Call) -> Reply:
        """One verb of a cube. Raises nothing: errors come back in the `Reply`."""
        began, outcome, error = time.monotonic(), "gone", None
        with logs.serving(call.request_id, call.cube_id):
            try:
                reply = await self._serve(call)
                outcome, error = outcome_of(reply.error), reply.error
                return reply
            finally:
                self._served += 1
                verb = call.verb if call.verb in VERBS else "unknown"
                note_call(verb, call, outcome, error, time.monotonic() - began)

    async def _serve(self, call: Call) -> Reply:
        held = self._held.get(call.cube_id)
        if held is None:
            message = f"this host does not hold {call.cube_id!r}"
            return Reply(error=Moved(message, cube_id=call.cube_id, reason="not attached"))
        if held.cube.lost is not None:
            return Reply(error=held.cube.lost)
        if call.verb not in VERBS:
            return Reply(
                error=Invalid(
                    f"unknown verb {call.verb!r}; known: {', '.join(sorted(VERBS))}", argument="verb"
                )
            )
        reads = call.verb in READING
        admission = self._reads if reads else self._writes
        held.calls += 1
        held.used_at = began = time.monotonic()
        try:
            # Nobody waits for the answer any longer than this. A write whose commit has begun is not taken back.
            async with asyncio.timeout(call.within_s), admission.turn(call.cube_id):
                if (waited_s := time.monotonic() - began) > _WAITED_S:
                    kind = "read" if reads else "write"
                    telemetry.observe(telemetry.ADMISSION_SECONDS, waited_s, kind=kind)
                return Reply(await getattr(held.cube, call.verb)(**call.arguments))
        except TimeoutError:
            message = f"{call.verb} was not served within the {call.within_s:.3g} s that its caller waits"
            return Reply(error=Overloaded(message, retry_after_s=0.0, reason="late"))
        except Exception as error:
            return _failed(error, f"{call.verb} on {call.cube_id!r} (request {call.request_id})")
        finally:
            held.used_at = time.monotonic()
            held.spent_s += held.used_at - began

    async def ping(self) -> None:
        """Answers as soon as the loop that serves calls gets to it: whatever is being attached or let go meanwhile."""

    async def describe(self) -> HostInfo:
        """What this host holds and costs, on the loop that serves calls; waits for attaches that are under way."""
        for lock in list(self._locks.values()):
            async with lock:
                pass
        return self._info()

    @ray.method(concurrency_group=CONTROL)
    async def pulse(self) -> HostInfo:
        """The same at once, from a thread of its own: it answers while this process runs at all."""
        return self._info()

    def _lock(self, cube_id: str) -> asyncio.Lock:
        return self._locks.setdefault(cube_id, asyncio.Lock())

    async def _release(self, cube_id: str) -> None:
        held = self._held.pop(cube_id, None)
        if held is None:
            return
        try:
            await held.cube.close()
        finally:
            del held
            # Beside the answer: whoever moves or resets the cube waits for that.
            asyncio.get_running_loop().run_in_executor(None, partial(release_memory, collect=not self._held))

    async def _look_at_clock(self) -> None:
        while True:
            self._looked_at = time.monotonic()
            await asyncio.sleep(_LATE_S)

    def _info(self) -> HostInfo:
        now = time.monotonic()
        held = list(self._held.values())
        self._divide_time(held)
        return HostInfo(
            name=self._name,
            pid=os.getpid(),
            node_id=self._node_id,
            cubes=tuple(_use(one, now) for one in held),
            uss_bytes=uss_bytes(),
            lag_s=max(0.0, now - self._looked_at - _LATE_S) if self._watch is not None else 0.0,
            waiting=self._reads.waiting + self._writes.waiting,
            served=self._served,
            at=time.time(),
        )

    def _divide_time(self, held: list[Held]) -> None:
        """The process's CPU time since the last look, among the cubes by the time that their calls took."""
        cpu_s = time.process_time()
        passed, self._cpu_s = cpu_s - self._cpu_s, cpu_s
        spent = [one.spent_s - one.told_s for one in held]
        total = sum(spent)
        for one, mine in zip(held, spent, strict=True):
            one.told_s += mine
            one.busy_s += passed * (mine / total if total > 0 else 0.0)


def _use(held: Held, now: float) -> CubeUse:
    return CubeUse(
        cube_id=held.cube.cube_id,
        incarnation=held.incarnation,
        epoch=held.cube.epoch,
        items=held.cube.items,
        calls=held.calls,
        busy_s=held.busy_s,
        idle_s=now - held.used_at,
    )


def _failed(error: Exception, doing: str) -> Reply:
    """Typed errors as they are; anything else is a defect, which the caller is told of and the log in full."""
    if isinstance(error, MemosError):
        return Reply(error=error)
    log.exception("%s failed", doing)
    return Reply(error=MemosError(f"{doing} failed unexpectedly: {error!r}"))


def create_host(name: str, node_id: str, settings: Settings, embedder: Any) -> Any:
    """Starts a blank host process on a node. Returns its handle at once; the process comes up behind it."""
    on_node = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node_id, soft=False)
    return (
        ray.remote(**HOST_CLASS)(MemCubeActor)
        .options(name=name, namespace=settings.namespace, scheduling_strategy=on_node, **HOST)
        .remote(name, settings, embedder)
    )
