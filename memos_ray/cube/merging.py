"""Merges near duplicates after the fact: finds them among new memories and asks the journal to merge them.

Never on the acknowledgement path, and optional: whatever goes wrong, two memories that say nearly the same
stay two.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from memos_ray.cube.near import NearIndex
from memos_ray.cube.requests import MergeMemories
from memos_ray.cube.state import KIND_CODE, CubeState
from memos_ray.errors import MemosError, Rejected
from memos_ray.types import Kind

log = logging.getLogger(__name__)

_PORTION = 64  # slots looked at before other work gets its turn
_MESSAGE = KIND_CODE[Kind.MESSAGE]


class NearDuplicates:
    """Watches one cube's new slots. Messages are never merged, so they are not looked at."""

    def __init__(self, state: CubeState, submit: Callable[[object], Awaitable[object]]) -> None:
        self._state = state
        self._submit = submit
        self._near: NearIndex | None = None
        self._new: list[int] = []
        self._task: asyncio.Task[None] | None = None

    def added(self, slots: Sequence[int]) -> None:
        """New slots came to be."""
        kinds = self._state.slot_kind.view
        derived = [s for s in slots if kinds[s] != _MESSAGE]
        if not derived:
            return
        self._new += derived
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="memos-near-duplicates")

    async def settled(self) -> None:
        """Waits until nothing new is left to look at."""
        while self._task is not None and not self._task.done():
            await asyncio.wait({self._task})

    async def close(self) -> None:
        """Stops looking. A pair that is left is found when one of its memories is written again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        if self._near is None:
            self._near = NearIndex(self._state)
        while self._new:
            portion, self._new = self._new[:_PORTION], self._new[_PORTION:]
            for found in self._near.candidates(portion):
                versions = found.if_versions
                request = MergeMemories(
                    found.survivor,
                    found.merged,
                    versions,
                    op_id=f"merge:{found.merged[0]}:{versions[found.survivor]}:{versions[found.merged[0]]}",
                )
                try:
                    await self._submit(request)
                except Rejected as error:  # somebody changed one of them in the meantime
                    log.info("near duplicates stay two: %s", error)
                except MemosError as error:  # the cube was lost: its next owner has other things to do
                    log.info("merging stopped: %s", error)
                    return
            await asyncio.sleep(0)
