"""Load from concurrent callers on one event loop: each calls again when it has been answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from memos_ray.bench.report import quantile


@dataclass(frozen=True, slots=True)
class Load:
    """What the callers saw: `latencies` in seconds, one a call; `seconds` from first call to last answer."""

    callers: int
    latencies: tuple[float, ...]
    seconds: float

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def p(self, q: float) -> float:
        """The `q`-quantile of the latencies, in milliseconds."""
        return 1000 * quantile(self.latencies, q)


async def press(call: Callable[[int], Awaitable[object]], *, callers: int, seconds: float) -> Load:
    """`call(n)`, n = 0, 1, 2, …, from `callers` callers for `seconds`. An error of any call ends it all."""
    latencies: list[float] = []
    numbers = iter(range(10**9))
    begun = time.perf_counter()

    async def caller() -> None:
        while (sent := time.perf_counter()) - begun < seconds:
            await call(next(numbers))
            latencies.append(time.perf_counter() - sent)

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return Load(callers, tuple(latencies), time.perf_counter() - begun)
