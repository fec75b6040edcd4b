"""Between this project's values and the dicts that mem0's users know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from memos_ray.arguments import check_whole
from memos_ray.cube.requests import WriteResult
from memos_ray.errors import Invalid
from memos_ray.ingest.timestamps import parse_utc
from memos_ray.types import MemoryItem, to_jsonable

SCOPE_KEYS = ("user_id", "agent_id", "run_id")


def added(result: WriteResult, cube_id: str) -> dict[str, Any]:
    """A write's answer: `{"results": [{"id", "memory", "event", "version"}], "op_id", "cube_id"}`."""
    events = [
        {"id": e.memory_id, "memory": e.text, "event": e.event, "version": e.version} for e in result.events
    ]
    return {"results": events, "op_id": result.op_id, "cube_id": cube_id}


def one(item: MemoryItem) -> dict[str, Any]:
    """An item with its text as `memory`."""
    d = item.to_dict()
    d["memory"] = d.pop("text")
    return d


def listed(value: Any) -> dict[str, Any]:
    """A flat dataclass as a JSON-ready dict; an item inside it in mem0's shape."""
    return {
        f.name: one(v) if isinstance(v := getattr(value, f.name), MemoryItem) else to_jsonable(v)
        for f in fields(value)
    }


def parse_expiration(value: Any) -> datetime | None:
    """mem0's `expiration_date`: a time, or a date, at whose beginning (UTC) the memory expires."""
    return None if value is None else parse_utc(value, "expiration_date", "expiration_date")


def scoped_filters(
    filters: Mapping[str, Any] | None, **given: str | None
) -> tuple[dict[str, str | None], dict[str, Any]]:
    """Takes user_id, agent_id and run_id out of `filters` (mem0 v3 puts them there, v2 beside them).

    Returns (the three ids, the other filters). Raises `Invalid` if the two places contradict each other.
    """
    if filters is not None and not isinstance(filters, Mapping):
        raise Invalid(f"filters must be a mapping, not {type(filters).__name__}", argument="filters")
    rest = dict(filters or {})
    ids = dict(given)
    for key in SCOPE_KEYS:
        if not isinstance(rest.get(key), str):
            continue  # an operator such as {"in": …} stays a filter
        value = rest.pop(key)
        if ids.get(key) is not None and ids[key] != value:
            raise Invalid(
                f"{key}={ids[key]!r} and filters[{key!r}]={value!r} contradict each other", argument=key
            )
        ids[key] = value
    return ids, rest


def scoped_metadata(metadata: Mapping[str, Any] | None, scope: Mapping[str, str]) -> dict[str, Any]:
    """The metadata with the scope ids in it."""
    if metadata is not None and not isinstance(metadata, Mapping):
        raise Invalid(f"metadata must be a mapping, not {type(metadata).__name__}", argument="metadata")
    return {**(metadata or {}), **scope}


def within(
    filters: Mapping[str, Any], ids: Mapping[str, str | None], scope: Mapping[str, str]
) -> dict[str, Any] | None:
    """The filters in a cube that `ids` and perhaps more named, `scope` being what else they say.

    Both must hold, also where both speak of one id. None for no condition. Raises `Invalid` for a filter on the
    id that the cube is named after: no memory in it repeats that.
    """
    for key in filters.keys() & ids.keys():
        if ids[key] is not None and key not in scope:
            raise Invalid(
                f"{key}={ids[key]!r} names the whole cube; leave {key} out of the filters", argument="filters"
            )
    if scope.keys() & filters.keys():
        return {"AND": [dict(filters), dict(scope)]}
    return {**filters, **scope} or None


def one_number(top_k: int | None, limit: int | None) -> int | None:
    """mem0's `limit` is another name of `top_k`. Raises `Invalid` if they contradict each other."""
    if top_k is not None and limit is not None and top_k != limit:
        raise Invalid(f"top_k={top_k} and limit={limit} contradict each other; give top_k", argument="limit")
    return limit if top_k is None else check_whole(top_k, "top_k", 1)
