"""Who is served next in a process that several cubes share: bounded mailboxes, emptied in turn.

So many calls run at once, and no cube has more than its part of them; who waits is served cube by cube, one call
each, however many a cube has waiting. A mailbox that is full says when to come back. On one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator

from memos_ray.errors import Overloaded

_SMOOTHING = 0.05  # weight of one call's time in what calls are said to take


class Admission:
    """Turns for calls of one kind."""

    def __init__(self, *, slots: int, per_cube: int, waiting: int) -> None:
        """At most `slots` calls run at once, `per_cube` of one cube; `waiting` of one cube may wait."""
        self._slots, self._per_cube, self._waiting_limit = slots, per_cube, waiting
        self._running: Counter[str] = Counter()
        self._total = 0
        self._mailboxes: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._takes_s = 0.01

    @property
    def waiting(self) -> int:
        """Calls that wait, of all cubes."""
        return sum(map(len, self._mailboxes.values()))

    @contextlib.asynccontextmanager
    async def turn(self, cube_id: str) -> AsyncIterator[None]:
        """Waits for a turn, and holds it. Raises `Overloaded` if the cube's mailbox is full."""
        await self._enter(cube_id)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            yield
        finally:
            self._takes_s += _SMOOTHING * (loop.time() - began - self._takes_s)
            self._leave(cube_id)

    async def _enter(self, cube_id: str) -> None:
        mailbox = self._mailboxes.get(cube_id)
        if not mailbox and self._total < self._slots and self._running[cube_id] < self._per_cube:
            self._take(cube_id)
            return
        queued = len(mailbox) if mailbox is not None else 0
        if queued >= self._waiting_limit:
            raise Overloaded(
                f"{queued} calls wait for this cube, the most it queues; try again later",
                retry_after_s=round(max(0.05, queued / 2 * self._takes_s / self._per_cube), 3),
            )
        if mailbox is None:
            mailbox = self._mailboxes[cube_id] = deque()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        mailbox.append(turn)
        try:
            await turn
        except BaseException:  # whoever called has gone, or its time is over
            if turn.done() and not turn.cancelled():
                self._leave(cube_id)  # the turn had just been given to it
            else:
                with contextlib.suppress(
                    ValueError
                ):  # taken out already, by whoever wanted to give it its turn
                    mailbox.remove(turn)
                self._forget_empty(cube_id)
            raise

    def _take(self, cube_id: str) -> None:
        self._running[cube_id] += 1
        self._total += 1

    def _leave(self, cube_id: str) -> None:
        self._total -= 1
        self._running[cube_id] -= 1
        if not self._running[cube_id]:
            del self._running[cube_id]
        while self._total < self._slots and self._give_turn():
            pass

    def _give_turn(self) -> bool:
        """To the first cube in turn that may run one more call; it then goes to the end."""
        for cube_id, mailbox in self._mailboxes.items():
            if self._running[cube_id] >= self._per_cube:
                continue
            turn = mailbox.popleft()
            self._mailboxes.move_to_end(cube_id)
            self._forget_empty(cube_id)
            if turn.cancelled():
                return True
            self._take(cube_id)
            turn.set_result(None)
            return True
        return False

    def _forget_empty(self, cube_id: str) -> None:
        if cube_id in self._mailboxes and not self._mailboxes[cube_id]:
            del self._mailboxes[cube_id]
