"""The same state machine, with the real journal on real Lance under it: a crash drops the owner, and another
activates from storage."""

import asyncio
import contextlib
import tempfile
from datetime import datetime
from typing import Any

import test_cube_model as core
from hypothesis import settings

from memos_ray.cube.journal import Journal, JournalConfig
from memos_ray.cube.lance_store import LanceStore
from memos_ray.cube.planner import CubePlanner
from memos_ray.cube.requests import Request
from memos_ray.cube.state import CubeState
from memos_ray.errors import MemosError, Moved
from memos_ray.testing.plain_journal import TickingClock


class JournalSut:
    """Compacts after every few commits, so that crashes fall around compactions too."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._loop = asyncio.new_event_loop()
        self._clock = TickingClock()
        self._loop.run_until_complete(self._activate())

    async def _activate(self) -> None:
        """Like a client, tries again while something that the crashed owner had begun still lands."""
        while True:
            with contextlib.suppress(Moved):
                return await self._try_to_activate()

    async def _try_to_activate(self) -> None:
        store = LanceStore(f"{self._folder.name}/memories.lance")
        config = JournalConfig(compact_every=3)
        self._journal = await Journal.activate(store, clock=self._clock, config=config, owner="test")
        self.state = CubeState.from_table("cube", self._journal.live)
        self._journal.start(CubePlanner(self.state, clock=self._clock))

    def group(self, requests: list[Request]) -> list[Any]:
        async def submit() -> list[Any]:
            return await asyncio.gather(*(self._journal.submit(r) for r in requests), return_exceptions=True)

        answers = self._loop.run_until_complete(submit())
        while any(isinstance(answer, Moved) for answer in answers):
            self._loop.run_until_complete(self._activate())
            answers = self._loop.run_until_complete(submit())
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, MemosError):
                raise answer
        return answers

    def crash(self) -> None:
        """The owner is abandoned where it stands; what it had begun in a thread may still land, as after a stall."""

        async def die() -> None:
            tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._loop.run_until_complete(die())
        self._loop.run_until_complete(self._activate())

    def now(self) -> datetime:
        return self._clock.time

    def close(self) -> None:
        with contextlib.suppress(MemosError, asyncio.CancelledError):
            self._loop.run_until_complete(self._journal.close())
        self._loop.close()
        self._folder.cleanup()


class JournalMachine(core.CubeMachine):
    def make(self) -> JournalSut:
        return JournalSut()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            if hasattr(self, "sut"):
                self.sut.close()


# On Lance an example takes several times as long as in memory.
JournalMachine.TestCase.settings = settings(
    core.CubeMachine.TestCase.settings, max_examples=settings.default.max_examples // 3
)
TestJournalModel = JournalMachine.TestCase
