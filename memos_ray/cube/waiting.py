"""Requests that wait for a group commit, and the futures that their callers wait on. On one event loop.

Knows the planner, and nothing of commits or ownership.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from memos_ray.cube.packing import stored_table
from memos_ray.cube.planned import Planned, Planner
from memos_ray.cube.rows import JournalRow
from memos_ray.errors import Invalid, MemosError


@dataclass(slots=True)
class Waiting:
    """A request, and where its answer goes."""

    request: object
    answer: asyncio.Future[object]

    def refuse(self, error: BaseException) -> None:
        """Gives the caller this error, unless it has gone."""
        if not self.answer.done():
            self.answer.set_exception(again(error) if isinstance(error, MemosError) else error)


class Group:
    """Requests that were planned together, in order."""

    def __init__(self) -> None:
        self._members: list[tuple[Waiting, Planned]] = []
        self.drafts: list[JournalRow] = []  # all their rows, not stamped yet

    def add(self, waiting: Waiting, planned: Planned) -> None:
        """Puts a request at the end."""
        self._members.append((waiting, planned))
        self.drafts += planned.rows

    def members(self) -> list[Waiting]:
        """Its requests."""
        return [waiting for waiting, _ in self._members]

    def refuse(self, error: BaseException) -> None:
        """Nothing of it was done."""
        for waiting, _ in self._members:
            waiting.refuse(error)

    def answer(self, rows: Sequence[JournalRow]) -> None:
        """All of it is committed and applied; `rows` are its drafts, stamped."""
        at = 0
        for waiting, planned in self._members:
            own = rows[at : at + len(planned.rows)]
            at += len(own)
            if waiting.answer.done():  # its caller has gone
                continue
            try:
                waiting.answer.set_result(planned.result(own))
            except Exception as error:
                waiting.answer.set_exception(error)

    def storable(self) -> list[Waiting]:
        """Refuses the requests whose rows no table can hold; returns the others."""
        left = []
        for waiting, planned in self._members:
            try:
                stored_table(planned.rows)
            except Exception as error:
                waiting.refuse(Invalid(f"the request cannot be stored: {error}", argument="request"))
            else:
                left.append(waiting)
        return left


class RequestQueue:
    """First come, first planned."""

    def __init__(self) -> None:
        self._queue: deque[Waiting] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, request: object) -> asyncio.Future[object]:
        """Puts a request at the end; its answer comes through the future."""
        waiting = Waiting(request, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        return waiting.answer

    def put_back(self, members: Sequence[Waiting]) -> None:
        """Puts requests back at the head, in their order."""
        self._queue.extendleft(reversed(members))

    def refuse_all(self, error: BaseException) -> None:
        """Empties the queue."""
        while self._queue:
            self._queue.popleft().refuse(error)

    def plan_group(self, planner: Planner, row_limit: int) -> Group:
        """Plans requests until there are `row_limit` rows; the last one may go beyond.

        A request that the planner rejects is answered here, and so is one whose caller has gone.
        """
        planner.begin_group()
        group = Group()
        while self._queue and len(group.drafts) < row_limit:
            waiting = self._queue.popleft()
            if waiting.answer.done():
                continue
            try:
                planned = planner.plan(waiting.request)
            except MemosError as error:
                waiting.refuse(error)
            except Exception as error:
                # a bug; it may have left something in the planner's draft: the others are planned anew
                waiting.refuse(error)
                self.put_back(group.members())
                planner.begin_group()
                group = Group()
            else:
                group.add(waiting, planned)
        return group


def again(error: MemosError) -> MemosError:
    """An equal error for another caller: a raise writes to the traceback of the instance it raises."""
    return type(error)(error.message, **error.fields)
