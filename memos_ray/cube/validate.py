"""Checks of what a request brings, before anything is changed; and its normal form, which is what is stored.

The normal form is what comes back from storage (UTC times, tuples, JSON types, float32 weights), so that a cube
that just took a memory in and one that read it back hold equal values. Every refusal is an `Invalid` that names
the argument and says what would be right.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from memos_ray.errors import Invalid
from memos_ray.types import Kind, Link, Source, TimeMention

_SURROGATE = re.compile(r"[\ud800-\udfff]")
_MAX_DEPTH = 32
_NAME_BYTES = 4096  # of a name: entity, link target, source field
_MAX_WEIGHT = 1e6
_MAX_INT_BITS = 256
_SPANS = ("span_start", "span_end")


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes that a request must not exceed. `max_names`: entities, links or times of one memory."""

    max_text_bytes: int = 256 * 1024
    max_metadata_bytes: int = 64 * 1024
    max_batch: int = 10_000
    max_names: int = 1_000


def check_text(value: object, argument: str, max_bytes: int) -> str:
    """A text with something in it. NUL and emoji are fine."""
    if not isinstance(value, str):
        raise Invalid(f"{argument} must be a string, not {type(value).__name__}", argument=argument)
    if not value.strip():
        raise Invalid(f"{argument} is empty; a memory needs some text", argument=argument)
    if not value.isascii():
        _no_surrogates(value, argument)
    size = len(value) if value.isascii() else len(value.encode())
    if size > max_bytes:
        raise Invalid(
            f"{argument} has {size} bytes of UTF-8; one memory holds at most {max_bytes}. "
            "Add longer texts as a document: it is split into memories with spans",
            argument=argument,
        )
    return value


def _no_surrogates(value: str, argument: str) -> None:
    if found := _SURROGATE.search(value):
        raise Invalid(
            f"{argument} holds a lone surrogate (U+{ord(found.group()):04X}) at position {found.start()}; it is not "
            "text that can be stored. Decode the input as UTF-8, or replace such characters",
            argument=argument,
        )


def check_name(value: object, argument: str) -> str:
    """A short string: an entity, a relation, an id from outside."""
    if not isinstance(value, str) or not value:
        raise Invalid(f"{argument} must be a non-empty string, not {value!r}", argument=argument)
    _no_surrogates(value, argument)
    if len(value) > _NAME_BYTES:
        raise Invalid(
            f"{argument} has {len(value)} characters; at most {_NAME_BYTES} are allowed", argument=argument
        )
    return value


def check_kind(value: object) -> Kind:
    """A `Kind`, or its name."""
    try:
        return Kind(value)  # type: ignore[arg-type]
    except ValueError:
        known = ", ".join(Kind)
        raise Invalid(f"unknown kind {value!r}; kinds are: {known}", argument="kind") from None


def check_time(value: object, argument: str) -> datetime:
    """A timezone-aware datetime -> UTC."""
    if not isinstance(value, datetime):
        raise Invalid(f"{argument} must be a datetime, not {value!r}", argument=argument)
    if value.tzinfo is None or value.utcoffset() is None:
        raise Invalid(
            f"{argument} {value.isoformat()} has no timezone; add one, as in .replace(tzinfo=timezone.utc)",
            argument=argument,
        )
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise Invalid(
            f"{argument} {value.isoformat()} lies outside the years 1 to 9999 in UTC", argument=argument
        ) from None


def check_span(valid_from: datetime, valid_to: datetime | None) -> None:
    """`valid_to` lies after `valid_from`."""
    if valid_to is not None and valid_to <= valid_from:
        raise Invalid(
            f"valid_to {valid_to.isoformat()} is not after valid_from {valid_from.isoformat()}",
            argument="valid_to",
        )


def check_metadata(value: object, limits: Limits) -> dict[str, Any]:
    """A JSON object -> itself with JSON's own types."""
    if not isinstance(value, Mapping):
        raise Invalid(f"metadata must be a mapping, not {type(value).__name__}", argument="metadata")
    if not value:
        return {}
    clean: dict[str, Any] = _json_value(value, "metadata", 0)
    size = len(json.dumps(clean, ensure_ascii=False).encode())
    if size > limits.max_metadata_bytes:
        raise Invalid(
            f"metadata has {size} bytes as JSON; at most {limits.max_metadata_bytes} are allowed",
            argument="metadata",
        )
    return clean


def _json_value(value: Any, path: str, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise Invalid(
            f"{path[:100]}… is nested more than {_MAX_DEPTH} deep, or holds itself", argument="metadata"
        )
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        _no_surrogates(value, path)
        return str(value)
    if isinstance(value, int):
        if value.bit_length() > _MAX_INT_BITS:
            raise Invalid(
                f"{path} has more than {_MAX_INT_BITS} bits; write it as a string", argument="metadata"
            )
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Invalid(
                f"{path} is {value}, which JSON cannot hold; leave it out or use None", argument="metadata"
            )
        return float(value)
    if isinstance(value, Mapping):
        out = {}
        for k, v in value.items():
            if not isinstance(k, str):
                raise Invalid(f"{path} has the key {k!r}; keys must be strings", argument="metadata")
            _no_surrogates(k, f"a key of {path}")
            out[str(k)] = _json_value(v, f"{path}.{k}", depth + 1)
        return out
    if isinstance(value, (list, tuple)):
        return [_json_value(v, f"{path}[{i}]", depth + 1) for i, v in enumerate(value)]
    hint = "; use its isoformat()" if isinstance(value, datetime) else ""
    raise Invalid(f"{path} is a {type(value).__name__}, which JSON cannot hold{hint}", argument="metadata")


def check_entities(values: Sequence[str], limits: Limits) -> tuple[str, ...]:
    """Distinct names, in order."""
    _few(values, "entities", limits)
    return tuple(dict.fromkeys(check_name(v, f"entities[{i}]") for i, v in enumerate(values)))


def check_links(values: Sequence[Link], limits: Limits) -> tuple[Link, ...]:
    """Links with a type, a target and a finite weight (rounded to float32, as stored)."""
    _few(values, "links", limits)
    out = []
    for i, x in enumerate(values):
        if not (isinstance(x.weight, (int, float)) and 0 <= x.weight <= _MAX_WEIGHT):
            raise Invalid(
                f"links[{i}].weight is {x.weight!r}; it must be from 0 to {_MAX_WEIGHT:g}", argument="links"
            )
        kind, target = check_name(x.type, f"links[{i}].type"), check_name(x.target, f"links[{i}].target")
        out.append(Link(kind, target, float(np.float32(x.weight))))
    return tuple(out)


def check_times(values: Sequence[TimeMention], limits: Limits) -> tuple[TimeMention, ...]:
    """Mentions with times in UTC."""
    _few(values, "times", limits)
    return tuple(
        TimeMention(
            check_name(x.text, f"times[{i}].text"),
            check_time(x.start, f"times[{i}].start"),
            check_time(x.end, f"times[{i}].end"),
        )
        for i, x in enumerate(values)
    )


def check_source(source: Source) -> Source:
    """Strings are storable; an empty one means None. Numbers given for a session or turn become strings."""
    changed: dict[str, Any] = {}
    for name in _SOURCE_FIELDS:
        value = getattr(source, name)
        if value is None:
            continue
        if name == "said_at":
            changed[name] = check_time(value, "source.said_at")
        elif name in _SPANS:
            if not isinstance(value, int) or not 0 <= value < 1 << 62:
                raise Invalid(
                    f"source.{name} is {value!r}; it must be a number of characters", argument="source"
                )
        elif value == "":
            changed[name] = None
        elif isinstance(value, int):
            changed[name] = str(value)
        else:
            check_name(value, f"source.{name}")
    return replace(source, **changed) if changed else source


_SOURCE_FIELDS = tuple(f.name for f in fields(Source))


def _few(values: Sequence[Any], argument: str, limits: Limits) -> None:
    if isinstance(values, str) or len(values) > limits.max_names:
        raise Invalid(f"{argument} must be a sequence of at most {limits.max_names}", argument=argument)
