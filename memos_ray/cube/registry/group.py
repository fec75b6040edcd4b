"""Group commit of one table: whatever came in during the last commit goes into the next one, without a timer.

Each caller brings changes and gets the outcome of each of them. Changes are decided in the order in which they came,
against the records as they are in storage and everything decided before them in the same group (`decide`, pure).
If another process commits first, the whole group is decided anew on what that one left.
"""

from __future__ import annotations

import copy
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from lance import LanceDataset

from memos_ray.cube.registry.indexed_table import IndexedTable
from memos_ray.cube.registry.records import CubeRecord
from memos_ray.cube.registry.table import RegistryTable
from memos_ray.errors import MemosError, Rejected, Unavailable

_PATIENCE_S = 20.0  # for one group, while other processes keep winning
_GROUP = 20_000  # changes in one commit, unless one caller brings more

Outcome = CubeRecord | Rejected
"""What then holds of the cube, or why nothing was changed."""


@dataclass(frozen=True, slots=True)
class Change:
    """`apply` gets the cube's record (None: there is none) and returns the one to be written, or the same one to leave
    it be; it raises what its caller is to get instead, a `Rejected`. It may be called more than once."""

    cube_id: str
    apply: Callable[[CubeRecord | None], CubeRecord]


@dataclass(slots=True)
class _Job:
    changes: Sequence[Change]
    outcomes: list[Outcome] = field(default_factory=list)
    error: BaseException | None = None
    done: bool = False


class GroupCommit:
    """The queue in front of one table, in one process."""

    def __init__(self, table: RegistryTable) -> None:
        self._table = table
        self.index: IndexedTable | None = None  # if there is one, it is told of changes, and spares reading
        self._queue: deque[_Job] = deque()
        self._lead = threading.Lock()  # whoever holds it commits for all who wait for it

    def submit(self, changes: Sequence[Change]) -> list[Outcome]:
        """The outcome of each change, in order. Blocks until they are in storage.

        Raises `Unavailable` (nothing is known of the changes then: look them up, or repeat them) or `Corrupt`.
        """
        job = _Job(changes)
        self._queue.append(job)
        with self._lead:
            while not job.done:
                self._next_group()
        if job.error is not None:
            raise job.error
        return job.outcomes

    def _next_group(self) -> None:
        group = [self._queue.popleft()]
        rows = len(group[0].changes)
        while self._queue and rows + len(self._queue[0].changes) <= _GROUP:
            group.append(self._queue.popleft())
            rows += len(group[-1].changes)
        changes = [change for job in group for change in job.changes]
        try:
            outcomes = iter(self._commit(changes))
        except BaseException as error:
            for job in group:
                job.error, job.done = _for_another(error), True
            if not isinstance(error, Exception):
                raise
            return
        for job in group:
            job.outcomes, job.done = [next(outcomes) for _ in job.changes], True

    def _commit(self, changes: Sequence[Change]) -> list[Outcome]:
        give_up_at = time.monotonic() + _PATIENCE_S
        ids = {change.cube_id for change in changes}
        while True:
            dataset = self._table.latest(create=True)
            assert dataset is not None
            outcomes, records = decide(self._find(dataset, ids), changes)
            if not records:
                return outcomes
            if (landed := self._table.put(dataset, records)) is not None:
                if self.index is not None:
                    self.index.committed(dataset.version, landed, records)
                return outcomes
            if time.monotonic() > give_up_at:
                path = self._table.path
                raise Unavailable(f"{path} is being changed by too many others; try again", what=path)
            time.sleep(random.uniform(0.001, 0.03))

    def _find(self, dataset: LanceDataset, ids: Collection[str]) -> dict[str, CubeRecord]:
        known = None if self.index is None else self.index.at_version(dataset.version, ids)
        return self._table.find(dataset, ids) if known is None else known


def decide(
    found: Mapping[str, CubeRecord], changes: Sequence[Change]
) -> tuple[list[Outcome], list[CubeRecord]]:
    """(the outcome of each change, the records to write: the last one of each cube that was changed)."""
    now = dict(found)
    changed: dict[str, CubeRecord] = {}
    outcomes: list[Outcome] = []
    for change in changes:
        before = now.get(change.cube_id)
        try:
            after = change.apply(before)
        except Rejected as error:
            outcomes.append(error)
            continue
        if after is not before:
            now[change.cube_id] = changed[change.cube_id] = after
        outcomes.append(after)
    return outcomes, list(changed.values())


def _for_another(error: BaseException) -> BaseException:
    """An error for each caller: a shared one would gather the tracebacks of all their threads."""
    if isinstance(error, MemosError):
        return copy.copy(error)
    if isinstance(error, Exception):
        return error
    return Unavailable("the thread that was committing this change was stopped; try again", what="registry")
