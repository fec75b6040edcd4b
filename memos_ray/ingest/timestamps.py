"""Timestamps as callers write them -> aware datetimes. Knows formats, but no relative dates: see `dates`."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import Any

from memos_ray.errors import Invalid

_MS_FROM = 1e11  # as seconds that is the year 5138, as milliseconds 1973
_MS_UNTIL = 1e14
_FORMS = "an aware datetime, a date, an ISO 8601 string, or unix seconds or milliseconds"


def parse_timestamp(value: Any, what: str, argument: str = "timestamp") -> datetime:
    """Any accepted form -> an aware datetime in the zone that it was given in.

    Accepted: datetime, date (its midnight), ISO 8601 string, unix seconds (below 1e11) or milliseconds
    (1e11 to 1e14). A form without a zone means UTC. `what` opens the message of the `Invalid` raised.
    """
    if isinstance(value, str):
        moment = _from_iso(value, what, argument)
    elif isinstance(value, datetime):
        moment = value
    elif isinstance(value, date):
        moment = datetime(value.year, value.month, value.day)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        moment = _from_unix(value, what, argument)
    else:
        raise Invalid(f"{what} must be {_FORMS}, not {type(value).__name__}", argument=argument)
    if moment.tzinfo is None or moment.utcoffset() is None:
        return moment.replace(tzinfo=UTC)
    try:
        moment.astimezone(UTC)
    except OverflowError:
        raise Invalid(f"{what} is outside the years 1 to 9999 in UTC: {value!r}", argument=argument) from None
    return moment


def parse_utc(value: Any, what: str, argument: str = "timestamp") -> datetime:
    """`parse_timestamp`, converted to UTC."""
    return parse_timestamp(value, what, argument).astimezone(UTC)


def _from_iso(value: str, what: str, argument: str) -> datetime:
    try:
        return datetime.fromisoformat(value.strip())
    except ValueError:
        shown = value if len(value) <= 60 else value[:60] + "…"
        message = f"{what} is not ISO 8601, like 2023-05-07T13:56:00+00:00: {shown!r}"
        raise Invalid(message, argument=argument) from None


def _from_unix(value: float, what: str, argument: str) -> datetime:
    size = abs(value)
    if not math.isfinite(size) or size >= _MS_UNTIL:
        raise Invalid(f"{what} is no unix time in seconds or milliseconds: {value!r}", argument=argument)
    seconds = value / 1000 if size >= _MS_FROM else value
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        message = f"{what} is no unix time in the years 1 to 9999: {value!r}"
        raise Invalid(message, argument=argument) from None
