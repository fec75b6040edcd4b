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
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from memos_ray.cube.columns import to_us
from memos_ray.cube.fields import METADATA, SOURCE_FIELDS
from memos_ray.cube.filter_tree import ORDER, Every, Filter, Node, Not, Some, TimeTest, ValueTest
from memos_ray.cube.keys import SCOPE_FIELDS
from memos_ray.cube.rowstore import STATUSES
from memos_ray.cube.validate import check_kind, check_time
from memos_ray.errors import Invalid
from memos_ray.types import Status

OPERATORS = ("eq", "ne", "in", "nin", "gt", "gte", "lt", "lte", "contains", "icontains", "exists")
TIME_FIELDS = ("valid_from", "valid_to", "recorded_at", "created_at", "expires_at")
FIELDS = ("kind", "status", "entities", *SOURCE_FIELDS, *TIME_FIELDS, *SCOPE_FIELDS)
_NEGATED = {"ne": "eq", "nin": "in"}
_MAX_DEPTH = 16
_MAX_VALUES = 10_000


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
    if op in ORDER and not isinstance(operand, (str, int, float)):
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
