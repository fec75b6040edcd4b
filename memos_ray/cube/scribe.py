"""Writes the rows of one request into its draft, and keeps the order of its events.

It knows how a version follows from another and what every row of a request has in common; what should be written
is decided by its callers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from memos_ray.cube.draft import Draft
from memos_ray.cube.keys import KEY_FIELD
from memos_ray.cube.requests import Request
from memos_ray.cube.results import ALONG, EVENT, UNCHANGED
from memos_ray.cube.rows import EPOCH_START, JournalRow, Op
from memos_ray.cube.state import not_found
from memos_ray.cube.validate import Limits
from memos_ray.errors import Conflict
from memos_ray.ids import memory_id
from memos_ray.types import Status

DELIVERED = (
    "delivered"  # of a payload: digest of a message's text as delivered, where an update changed it since
)
INTO = "into"  # of a payload: the memory that a merged one was merged into
WAS = "was"  # of an archived row's payload: the status before
_CARRIED = (KEY_FIELD, DELIVERED)


class Scribe:
    """One request's rows in the making."""

    def __init__(self, cube_id: str, request: Request, draft: Draft, limits: Limits) -> None:
        self.draft, self.limits = draft, limits
        self._cube_id, self._request = cube_id, request
        self._unchanged: list[tuple[int, str, int]] = []
        self._events = 0

    def new_id(self, position: int) -> str:
        """The id of the `position`-th memory of this request. `Conflict` if another caller's `op_id` took it."""
        found = memory_id(self._cube_id, self._request.op_id, position)
        if self.draft.newest(found) is not None:
            raise Conflict(
                f"op_id {self._request.op_id} names memories of another caller; use a new one",
                op_id=self._request.op_id,
            )
        return found

    def row(self, op: Op, **values: Any) -> JournalRow:
        """Plans a row of this request."""
        request = self._request
        row = JournalRow(op, request.op_id, request.principal, request.digest, **values)
        self._emit(row)
        return row

    def version(
        self,
        current: JournalRow,
        op: Op,
        changes: Mapping[str, Any],
        *,
        event: str = "",
        payload: Mapping[str, Any] | None = None,
    ) -> JournalRow:
        """Plans the next version of a memory: `current` with `changes`."""
        carried = {k: current.payload[k] for k in _CARRIED if k in current.payload} | dict(payload or {})
        if event:
            carried[EVENT] = event
        request = self._request
        row = replace(
            current,
            op=op,
            op_id=request.op_id,
            principal=request.principal,
            digest=request.digest,
            version=current.version + 1,
            created_at=_created(current),
            payload={k: v for k, v in carried.items() if v is not None},
            epoch=0,
            seq=0,
            recorded_at=EPOCH_START,
            **changes,
        )
        self._emit(row)
        return row

    def hide(
        self, current: JournalRow, op: Op, status: Status, payload: Mapping[str, Any] | None = None
    ) -> JournalRow:
        """Plans the row that hides a memory. It holds nothing of what the memory said."""
        return self.row(
            op,
            memory_id=current.memory_id,
            version=current.version + 1,
            kind=current.kind,
            valid_from=current.valid_from,
            valid_to=current.valid_to,
            created_at=_created(current),
            status=status,
            payload=payload or {},
        )

    def unchanged(self, current: JournalRow) -> None:
        """Notes an event NONE: this memory stays as it is."""
        assert current.memory_id is not None
        self._unchanged.append((self._events, current.memory_id, current.version))
        self._events += 1

    def close(self) -> tuple[JournalRow, ...]:
        """The rows of the request: at least one, so that its `op_id` is on record."""
        if self._unchanged or not self.draft.rows:
            self.row(
                Op.NOOP, payload={UNCHANGED: [list(u) for u in self._unchanged]} if self._unchanged else {}
            )
        return tuple(self.draft.rows)

    def current(self, wanted: str, if_version: int | None = None) -> JournalRow:
        """The newest row of the memory that stands for `wanted`. `NotFound`; `Conflict` if its version is another."""
        found = self.draft.newest(self.draft.resolve(wanted))
        assert found is not None
        if found.status is Status.DELETED:
            raise not_found(wanted, known=True)
        if if_version is not None and found.version != if_version:
            raise Conflict(
                f"memory {wanted} is at version {found.version}, not at {if_version}; read it again",
                expected_version=if_version,
                version=found.version,
            )
        return found

    def _emit(self, row: JournalRow) -> None:
        self.draft.emit(row)
        if row.memory_id is not None and row.payload.get(EVENT) != ALONG:
            self._events += 1


def _created(row: JournalRow) -> datetime | None:
    """When the first version was committed; None while that is not known (it is in the same group)."""
    return row.created_at or (row.recorded_at if row.recorded_at != EPOCH_START else None)
