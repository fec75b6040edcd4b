"""The seam between the journal, which commits rows, and the planner, which decides on them.

The journal knows nothing of memories; the planner knows nothing of storage, commits or time of commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from memos_ray.cube.rows import JournalRow


@dataclass(frozen=True, slots=True)
class Planned:
    """The rows that one request wants committed, and how its answer is made.

    `rows` is empty when a request repeats one that is already answered or queued. `result` is called with this
    request's stamped rows after the whole group was applied, also when there are none.
    """

    rows: tuple[JournalRow, ...]
    result: Callable[[Sequence[JournalRow]], object]


class Planner(Protocol):
    """Decides, in queue order, what each request of a group commit does."""

    def begin_group(self) -> None:
        """Starts a group: forgets any draft of an earlier group that was not applied."""
        ...

    def plan(self, request: object) -> Planned:
        """Plans against the state and everything planned in this group. A `MemosError` fails this request alone."""
        ...

    def apply(self, rows: Sequence[JournalRow]) -> None:
        """Takes over committed rows, stamped with epoch, seq and recorded_at, in seq order."""
        ...
