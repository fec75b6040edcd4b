"""Writes what an extractor derives from messages that are committed, exactly once.

More facts than one write takes are written in portions, numbered so that 0 is written last: once that is on
record, all of them are. Knows how operations repeat; what is derived is the extractor's business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from memos_ray.cube.planner import CubePlanner
from memos_ray.cube.requests import AddMemories, WriteEvent, WriteResult, call_digest
from memos_ray.cube.results import ALONG
from memos_ray.errors import NotFound
from memos_ray.ingest.deriving import derive, derived_op_id
from memos_ray.ingest.drafts import MemoryDraft
from memos_ray.protocols import Extractor


class Deriver:
    """Derives for one cube. `write` commits one request."""

    def __init__(
        self,
        planner: CubePlanner,
        write: Callable[[AddMemories], Awaitable[WriteResult]],
        extractor: Extractor,
        *,
        max_batch: int,
    ) -> None:
        self._planner = planner
        self._write = write
        self._extractor = extractor
        self._max_batch = max_batch

    async def derived(self, request: AddMemories, added: WriteResult) -> tuple[WriteEvent, ...]:
        """What became of the facts in the messages that `request` added. A repeated call finds what the first
        one derived; messages that are deleted by now are left out."""
        done = self._recorded(request)
        if not done:
            kept = [(d, i) for d, i in zip(request.drafts, added.ids, strict=False) if self._is_there(i)]
            drafts = await derive(self._extractor, [draft for draft, _ in kept]) if kept else []
            origins = [origin for _, origin in kept]
            starts = range(0, len(drafts) or 1, self._max_batch)
            for number, start in zip(reversed(range(len(starts))), starts, strict=True):
                portion = drafts[start : start + self._max_batch]
                done.append(await self._add(request, number, portion, origins))
        events = [event for result in done for event in result.events]
        return tuple(
            sorted(events, key=lambda event: event.event == ALONG)
        )  # of all portions, these come last

    def _recorded(self, request: AddMemories) -> list[WriteResult]:
        """The portions on record in the order of their drafts; none unless all are."""
        found: list[WriteResult] = []
        while isinstance(
            result := self._planner.recorded(request.principal, derived_op_id(request.op_id, len(found))),
            WriteResult,
        ):
            found.append(result)
        return found[::-1]

    async def _add(
        self, request: AddMemories, number: int, drafts: Sequence[MemoryDraft], origins: Sequence[str]
    ) -> WriteResult:
        """One portion, without what is derived only from messages that were deleted meanwhile."""
        while True:
            there = [self._is_there(origin) for origin in origins]
            kept = [
                replace(draft, derived_from=parents)
                for draft in drafts
                if (parents := tuple(p for p in draft.derived_from if there[p])) or not draft.derived_from
            ]
            used = sorted({p for draft in kept for p in draft.derived_from})
            at = {p: i for i, p in enumerate(used)}
            try:
                return await self._write(
                    AddMemories(
                        [replace(d, derived_from=tuple(at[p] for p in d.derived_from)) for d in kept],
                        origins=[origins[p] for p in used],
                        op_id=derived_op_id(request.op_id, number),
                        principal=request.principal,
                        call_digest=call_digest("derive", {"of": request.digest}),
                    )
                )
            except NotFound:  # one was deleted while this waited in the queue
                if all(self._is_there(origins[p]) for p in used):
                    raise

    def _is_there(self, memory_id: str) -> bool:
        return self._planner.state.find(memory_id) is not None
