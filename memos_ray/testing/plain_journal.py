"""A journal in a list: stamps what a cube's planner decides and applies it, without storage, threads or waiting.

For tests of whatever lies on top of a cube's core. `crash` drops the state and folds the rows again, as an
activation would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from memos_ray.cube.packing import stored_table
from memos_ray.cube.planner import CubePlanner, OnApply
from memos_ray.cube.rows import JournalRow
from memos_ray.cube.state import CubeState
from memos_ray.cube.validate import Limits
from memos_ray.errors import MemosError

START = datetime(2024, 1, 1, tzinfo=UTC)


class TickingClock:
    """Moves on by one second whenever it is read."""

    def __init__(self, start: datetime = START) -> None:
        self.time = start

    def now(self) -> datetime:
        """The next second."""
        self.time += timedelta(seconds=1)
        return self.time

    def monotonic(self) -> float:
        """Seconds since 1970 of the last reading."""
        return self.time.timestamp()


class PlainJournal:
    """Commits groups at once. `rows` is all that was ever committed."""

    def __init__(
        self, cube_id: str = "cube", *, limits: Limits | None = None, on_apply: OnApply | None = None
    ) -> None:
        self.cube_id, self.clock = cube_id, TickingClock()
        self.rows: list[JournalRow] = []
        self._limits, self._on_apply = limits, on_apply
        self._take_up(CubeState.empty(cube_id))

    def submit(self, request: object) -> Any:
        """Commits one request; returns its answer or raises its error."""
        answer = self.submit_group([request])[0]
        if isinstance(answer, MemosError):
            raise answer
        return answer

    def submit_group(self, requests: Sequence[object]) -> list[Any]:
        """Commits requests as one group; for each, its answer or the `MemosError` that refused it."""
        self.planner.begin_group()
        planned: list[Any] = []
        for request in requests:
            try:
                planned.append(self.planner.plan(request))
            except MemosError as error:
                planned.append(error)
        now = self.clock.now()
        stamped: list[list[JournalRow]] = []
        committed: list[JournalRow] = []
        for plan in planned:
            own = () if isinstance(plan, MemosError) else plan.rows
            rows = [
                replace(row, epoch=1, seq=len(self.rows) + len(committed) + i + 1, recorded_at=now)
                for i, row in enumerate(own)
            ]
            stamped.append(rows)
            committed += rows
        self.rows += committed
        self.planner.apply(committed)
        pairs = zip(planned, stamped, strict=True)
        return [plan if isinstance(plan, MemosError) else plan.result(rows) for plan, rows in pairs]

    def crash(self) -> None:
        """Loses everything but the rows, and folds them as they would come from storage."""
        self._take_up(CubeState.from_table(self.cube_id, stored_table(self.rows)))

    def _take_up(self, state: CubeState) -> None:
        self.state = state
        self.planner = CubePlanner(state, clock=self.clock, limits=self._limits, on_apply=self._on_apply)
