"""The tree that a filter is parsed into, and what each part of it means: for one memory, or for all slots at once.

Knows nothing of how a filter is written (see `filters`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from memos_ray.cube.columns import FOREVER, to_us
from memos_ray.cube.fields import Cell, cell_of
from memos_ray.cube.rowstore import KINDS, STATUSES
from memos_ray.cube.state import CubeState
from memos_ray.types import MemoryItem

Mask = NDArray[np.bool_]
ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


class Node(Protocol):
    """A part of a filter."""

    def mask(self, state: CubeState) -> Mask:
        """Which slots fit."""
        ...

    def matches(self, item: MemoryItem) -> bool:
        """Whether a memory fits."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """All parts hold; none is no condition at all."""

    parts: tuple[Node, ...]

    def mask(self, state: CubeState) -> Mask:
        """See `Node`."""
        out = np.ones(state.n_slots, np.bool_)
        for part in self.parts:
            out &= part.mask(state)
        return out

    def matches(self, item: MemoryItem) -> bool:
        """See `Node`."""
        return all(p.matches(item) for p in self.parts)


@dataclass(frozen=True, slots=True)
class Some:
    """At least one part holds."""

    parts: tuple[Node, ...]

    def mask(self, state: CubeState) -> Mask:
        """See `Node`."""
        out = np.zeros(state.n_slots, np.bool_)
        for part in self.parts:
            out |= part.mask(state)
        return out

    def matches(self, item: MemoryItem) -> bool:
        """See `Node`."""
        return any(p.matches(item) for p in self.parts)


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Node

    def mask(self, state: CubeState) -> Mask:
        """See `Node`."""
        return ~self.part.mask(state)

    def matches(self, item: MemoryItem) -> bool:
        """See `Node`."""
        return not self.part.matches(item)


@dataclass(frozen=True, slots=True)
class TimeTest:
    """A comparison of a time with microseconds since 1970 (None: the memory has no such time)."""

    field: str
    op: str
    operand: int | None

    def mask(self, state: CubeState) -> Mask:
        """See `Node`."""
        return self._test(state.times(self.field))

    def matches(self, item: MemoryItem) -> bool:
        """See `Node`."""
        return bool(self._test(np.array([to_us(getattr(item, self.field))]))[0])

    def _test(self, values: NDArray[np.int64]) -> Mask:
        there: Mask = values != FOREVER
        if self.operand is None:
            return there if self.op == "exists" else ~there
        if self.op == "eq":
            out: Mask = values == self.operand
        else:
            out = ORDER[self.op](values, self.operand)
        return out & there


@dataclass(frozen=True, slots=True)
class ValueTest:
    """A question about the values of a field; see the module for what each operator means."""

    field: str
    op: str
    operand: Any

    def mask(self, state: CubeState) -> Mask:
        """See `Node`."""
        if self.field == "kind":
            kinds: Mask = self._table([k.value for k in KINDS])[state.slot_kind.view]
            return kinds
        if self.field == "status":
            statuses: Mask = self._table([s.value for s in STATUSES])[state.slot_status.view]
            return statuses
        column = state.fields.column(self.field)
        table = column.answers((self.op, repr(self.operand)), self.test)
        out: Mask = table[column.codes.view] if len(table) else np.zeros(state.n_slots, np.bool_)
        return out

    def matches(self, item: MemoryItem) -> bool:
        """See `Node`."""
        if self.field in ("kind", "status"):
            return self.test((False, (getattr(item, self.field).value,)))
        return self.test(cell_of(self.field, item.entities, item.sources, item.metadata))

    def _table(self, values: list[str]) -> Mask:
        return np.array([self.test((False, (v,))) for v in values])

    def test(self, cell: Cell) -> bool:
        """Whether one of the cell's values fits."""
        is_list, values = cell
        operand = self.operand
        if self.op == "exists":
            return bool(values) is bool(operand)
        if self.op == "in":
            return any(_equal(v, x) for v in values for x in operand)
        if self.op == "eq":
            if isinstance(operand, tuple):
                return is_list and len(values) == len(operand) and all(map(_equal, values, operand))
            return any(_equal(v, operand) for v in values) if operand is not None else not values
        if self.op == "contains":
            return any(_equal(v, operand) if is_list else isinstance(v, str) and operand in v for v in values)
        if self.op == "icontains":
            return any(isinstance(v, str) and operand in v.casefold() for v in values)
        return any(_comparable(v, operand) and bool(ORDER[self.op](v, operand)) for v in values)


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed filter."""

    root: Node

    def mask(self, state: CubeState) -> Mask:
        """Which slots fit: (n_slots,) bool."""
        return self.root.mask(state)

    def slots(self, state: CubeState, within: Mask) -> NDArray[np.int64]:
        """The slots of a view that fit, ascending."""
        return np.flatnonzero(self.root.mask(state) & within)

    def matches(self, item: MemoryItem) -> bool:
        """Whether one memory fits."""
        return self.root.matches(item)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return bool(a == b)


def _comparable(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return False
    return isinstance(a, str) == isinstance(b, str) and isinstance(a, (str, int, float))
