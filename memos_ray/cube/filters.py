"""The filter language: a JSON object -> a typed tree -> a mask over slots.

    {"kind": "fact", "speaker": {"in": ["Ann", "Bo"]}}            all of them must hold
    {"topic": "travel"}, {"metadata.trip.year": {"gte": 2024}}    metadata, by plain key or by path
    {"OR": [{…}, {…}]}, {"NOT": [{…}]}                            NOT: none of them holds
    operators: eq ne in nin gt gte lt lte contains icontains exists

Where a memory has several values in a field (entities, several sources, a list in the metadata), one that fits is
enough; `ne` and `nin` say that none does. `contains` means part of a string, or an element of a list. A missing
value fits only `ne`, `nin` and `exists: false`. Times are datetimes with a timezone or ISO 8601 strings (UTC if
they name no timezone). Values of different types are different, and no order holds between them.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from memos_ray.cube.columns import FOREVER, to_us
from memos_ray.cube.fields import METADATA, SOURCE_FIELDS, Cell, cell_of
from memos_ray.cube.keys import SCOPE_FIELDS
from memos_ray.cube.rowstore import KINDS, STATUSES
from memos_ray.cube.state import CubeState
from memos_ray.cube.validate import check_kind, check_time
from memos_ray.errors import Invalid
from memos_ray.types import MemoryItem, Status

Mask = NDArray[np.bool_]
OPERATORS = ("eq", "ne", "in", "nin", "gt", "gte", "lt", "lte", "contains", "icontains", "exists")
TIME_FIELDS = ("valid_from", "valid_to", "recorded_at", "created_at", "expires_at")
FIELDS = ("kind", "status", "entities", *SOURCE_FIELDS, *TIME_FIELDS, *SCOPE_FIELDS)
_ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le,
}  # fmt: skip
_NEGATED = {"ne": "eq", "nin": "in"}
_MAX_DEPTH = 16
_MAX_VALUES = 10_000


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
            out = _ORDER[self.op](values, self.operand)
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
        table = np.fromiter((self.test(c) for c in column.cells), np.bool_, len(column.cells))
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
        return any(_comparable(v, operand) and bool(_ORDER[self.op](v, operand)) for v in values)


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


def parse_filter(filters: Mapping[str, Any] | None) -> Filter:
    """The filter that this object means (None or empty: everything fits). Raises `Invalid`, with a hint."""
    return Filter(_every({} if filters is None else filters, 0))


def scope_filter(scope: Mapping[str, str]) -> dict[str, Any]:
    """Scope ids (user_id, agent_id, run_id) as a filter."""
    return {name: {"eq": value} for name, value in scope.items()}


def _every(filters: object, depth: int) -> Node:
    if not isinstance(filters, Mapping):
        raise Invalid(f"a filter is an object like {{'kind': 'fact'}}, not {filters!r}", argument="filters")
    if depth > _MAX_DEPTH:
        raise Invalid(f"filters are nested more than {_MAX_DEPTH} deep", argument="filters")
    parts = tuple(_part(name, value, depth) for name, value in filters.items())
    return parts[0] if len(parts) == 1 else Every(parts)


def _part(name: object, value: object, depth: int) -> Node:
    if not isinstance(name, str) or not name:
        raise Invalid(f"a filter's keys are names of fields, not {name!r}", argument="filters")
    if name in ("AND", "OR", "NOT"):
        if isinstance(value, Mapping) and name == "NOT":
            value = [value]
        if not isinstance(value, (list, tuple)) or not value:
            raise Invalid(f"{name} takes a list of filters, not {value!r}", argument="filters")
        parts = tuple(_every(v, depth + 1) for v in value)
        return Every(parts) if name == "AND" else Some(parts) if name == "OR" else Not(Some(parts))
    field = _field(name)
    if not isinstance(value, Mapping):
        if isinstance(value, (list, tuple)):
            hint = f"write {{{name!r}: {{'in': [...]}}}} for one of several values"
            raise Invalid(f"{name} is compared with a list; {hint}", argument="filters")
        return _test(field, "eq", value)
    if not value:
        raise Invalid(
            f"{name} has an empty condition; give an operator: {', '.join(OPERATORS)}", argument="filters"
        )
    tests = tuple(_test(field, op, operand) for op, operand in value.items())
    return tests[0] if len(tests) == 1 else Every(tests)


def _field(name: str) -> str:
    if name in SCOPE_FIELDS:
        return METADATA + name
    if name in FIELDS or (name.startswith(METADATA) and len(name) > len(METADATA)):
        return name
    near = difflib.get_close_matches(name.removeprefix("source."), (*FIELDS, "AND", "OR", "NOT"), 1, 0.8)
    if not near and name.upper() in ("AND", "OR", "NOT"):
        near = [name.upper()]
    if near or "." in name:
        meant = f"did you mean {near[0]!r}? " if near else f"fields are {', '.join(FIELDS)}. "
        raise Invalid(
            f"unknown field {name!r}; {meant}For metadata write {METADATA + name!r}", argument="filters"
        )
    return METADATA + name


def _test(field: str, op: object, operand: Any) -> Node:
    if op not in OPERATORS:
        near = difflib.get_close_matches(str(op).lstrip("$"), OPERATORS, 1, 0.5)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise Invalid(
            f"unknown operator {op!r}; {meant}Operators are {', '.join(OPERATORS)}", argument="filters"
        )
    assert isinstance(op, str)
    if op in _NEGATED:
        return Not(_test(field, _NEGATED[op], operand))
    if op == "exists" and not isinstance(operand, bool):
        raise Invalid(f"exists takes true or false, not {operand!r}", argument="filters")
    if op == "in" and (not isinstance(operand, (list, tuple, set, frozenset)) or len(operand) > _MAX_VALUES):
        raise Invalid(
            f"in and nin take a list of at most {_MAX_VALUES} values, not {operand!r}", argument="filters"
        )
    if field in TIME_FIELDS:
        return _time_test(field, op, operand)
    if op in ("contains", "icontains") and not isinstance(operand, (str, int, float)):
        raise Invalid(f"{op} takes a string or a number, not {operand!r}", argument="filters")
    if op == "icontains" or (op == "contains" and field in SOURCE_FIELDS):
        operand = str(operand)
    if op in _ORDER and not isinstance(operand, (str, int, float)):
        raise Invalid(f"{op} takes a number or a string, not {operand!r}", argument="filters")
    if isinstance(operand, Mapping):
        raise Invalid(f"{field} is compared with an object; compare its parts by path", argument="filters")
    if field in ("kind", "status"):
        for value in operand if op == "in" else (operand,):
            _known(field, op, value)
    if op == "icontains":
        operand = operand.casefold()
    return ValueTest(
        field, op, tuple(operand) if isinstance(operand, (list, tuple, set, frozenset)) else operand
    )


def _known(field: str, op: str, value: Any) -> None:
    if op not in ("eq", "in"):
        return
    if field == "kind":
        check_kind(value)
    elif value not in STATUSES:
        raise Invalid(f"unknown status {value!r}; they are {', '.join(Status)}", argument="filters")


def _time_test(field: str, op: str, operand: Any) -> Node:
    if op == "exists":
        test = TimeTest(field, "exists", None)
        return test if operand else Not(test)
    if op == "in":
        return Some(tuple(_time_test(field, "eq", v) for v in operand))
    if op in ("contains", "icontains"):
        raise Invalid(f"{field} is a time; compare it with gt, gte, lt, lte or eq", argument="filters")
    if operand is None and op == "eq":
        return TimeTest(field, "missing", None)
    return TimeTest(field, op, to_us(_time(field, operand)))


def _time(field: str, value: Any) -> datetime:
    if isinstance(value, str):
        try:
            parsed = datetime.fromisoformat(value)
        except ValueError:
            raise Invalid(
                f"{field}: {value!r} is not an ISO 8601 time like '2024-05-01'", argument="filters"
            ) from None
        return check_time(parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC), field)
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return check_time(value, field)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return bool(a == b)


def _comparable(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return False
    return isinstance(a, str) == isinstance(b, str) and isinstance(a, (str, int, float))
