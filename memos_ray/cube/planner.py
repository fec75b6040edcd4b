"""Requests -> rows, decided in queue order against the state and everything planned before.

Responsible for the protocol of a group, exactly-once answers, and dispatch; the decisions themselves are in
`plan_add`, `plan_edit` and `plan_snapshot`. Knows nothing of commits: rows leave unstamped and come back
through `apply`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from memos_ray.cube import plan_add, plan_edit, plan_snapshot
from memos_ray.cube.draft import Draft
from memos_ray.cube.indexes import Indexes
from memos_ray.cube.planned import Planned
from memos_ray.cube.requests import (
    AddMemories,
    ArchiveMemory,
    CreateSnapshot,
    DeleteAll,
    DeleteMemories,
    MergeMemories,
    Request,
    RestoreMemory,
    RestoreSnapshot,
    SnapshotResult,
    UpdateMemory,
    WriteResult,
)
from memos_ray.cube.results import result_of
from memos_ray.cube.rows import JournalRow
from memos_ray.cube.scribe import Scribe
from memos_ray.cube.state import CubeState
from memos_ray.cube.validate import Limits
from memos_ray.errors import Conflict, Invalid
from memos_ray.ids import check_id
from memos_ray.protocols import Clock

OnApply = Callable[[range, Sequence[JournalRow]], None]


class CubePlanner:
    """The `Planner` of one cube. `on_apply(new slots, rows)` is called after the state took rows over."""

    def __init__(
        self, state: CubeState, *, clock: Clock, limits: Limits | None = None, on_apply: OnApply | None = None
    ) -> None:
        self.state = state
        self.indexes = Indexes(state)
        self._clock = clock
        self._limits = limits or Limits()
        self._on_apply = on_apply
        self._group = Draft(state, self.indexes)

    def begin_group(self) -> None:
        """Starts a group; a draft of an earlier one that was not applied is forgotten."""
        self._group = Draft(self.state, self.indexes)

    def plan(self, request: object) -> Planned:
        """Plans one request. Refusals (`Invalid`, `NotFound`, `Conflict`) leave no trace in the group."""
        if not isinstance(request, Request):
            raise Invalid(f"a cube does not know the request {type(request).__name__}", argument="request")
        check_id(request.op_id, "op_id")
        draft = Draft(self.state, self.indexes, below=self._group)
        scribe = Scribe(self.state.cube_id, request, draft, self._limits)
        run = self._checked(request, scribe)
        if self._is_repeated(request):
            return Planned((), lambda _: self.recorded(request.principal, request.op_id))
        run()
        rows = scribe.close()
        self._group.absorb(draft)
        self._group.operations[request.principal, request.op_id] = request.digest
        return Planned(rows, self._result)

    def apply(self, rows: Sequence[JournalRow]) -> None:
        """Takes committed rows over: state, indexes, then whoever listens."""
        first = len(self.state.store)
        slots = self.state.apply(rows)
        self.indexes.update(first)
        if self._on_apply is not None:
            self._on_apply(slots, rows)

    def recorded(self, principal: str, op_id: str) -> WriteResult | SnapshotResult | None:
        """The answer that an applied operation was given; None if it is not known (any more)."""
        r = self.indexes.operations.get((principal, op_id))
        if r is None:
            return None
        rows, store = [], self.state.store
        while r < len(store):
            row = store.row(r)
            if (row.principal, row.op_id) != (principal, op_id):
                break
            rows.append(row)
            r += 1
        return self._result(rows)

    def _result(self, rows: Sequence[JournalRow]) -> WriteResult | SnapshotResult:
        return result_of(rows, self.state.text_of)

    def _is_repeated(self, request: Request) -> bool:
        digest = self._group.planned_digest(request.principal, request.op_id)
        if digest is None:
            r = self.indexes.operations.get((request.principal, request.op_id))
            if r is None:
                return False
            digest = self.state.store.digest(r)
        if digest != request.digest:
            raise Conflict(
                f"op_id {request.op_id} came with another request before; use a new op_id for a new request",
                op_id=request.op_id,
            )
        return True

    def _checked(self, request: Request, scribe: Scribe) -> Callable[[], None]:
        """Checks the request by itself; returns what plans it against the state."""
        match request:
            case AddMemories():
                drafts = plan_add.checked(request, self._limits)
                return lambda: plan_add.add(request, drafts, scribe)
            case UpdateMemory():
                changes = plan_edit.checked_changes(request, self._limits)
                return lambda: plan_edit.update(request, changes, scribe)
            case DeleteMemories():
                plan_edit.check_ids(request, self._limits)
                return lambda: plan_edit.delete(request, scribe)
            case DeleteAll():
                wanted = plan_edit.checked_filters(request)
                return lambda: plan_edit.delete_all(wanted, self.state, scribe, self._clock.now())
            case ArchiveMemory():
                return lambda: plan_edit.archive(request, scribe)
            case RestoreMemory():
                return lambda: plan_edit.restore(request, scribe)
            case MergeMemories():
                return lambda: plan_edit.merge(request, scribe)
            case CreateSnapshot():
                check_id(request.name, "name")
                return lambda: plan_snapshot.create(request, self.state, scribe)
            case RestoreSnapshot():
                return lambda: plan_snapshot.restore(request, self.state, scribe)
            case _:
                raise Invalid(
                    f"a cube does not know the request {type(request).__name__}", argument="request"
                )
