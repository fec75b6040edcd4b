"""Checks that messages, documents and triples share. Each raises `Invalid`, saying where."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from memos_ray.errors import Invalid

_SURROGATE = re.compile("[\ud800-\udfff]")


def check_text(value: Any, what: str, argument: str) -> str:
    """A string with something but white space in it, and without lone surrogates."""
    if not isinstance(value, str):
        raise Invalid(f"{what} must be text, not {type(value).__name__}", argument=argument)
    if not value.strip():
        raise Invalid(f"{what} is empty", argument=argument)
    if (bad := _SURROGATE.search(value)) is not None:
        message = f"{what} holds a lone surrogate at character {bad.start()}, which is no Unicode text"
        raise Invalid(message, argument=argument)
    return value


def optional_text(value: Any, what: str, argument: str) -> str | None:
    """None, a text, or a whole number, which becomes text."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return check_text(value, what, argument)


def check_keys(given: Mapping[Any, Any], known: Collection[str], what: str, argument: str) -> None:
    """Refuses keys outside `known` and lists what is known."""
    unknown = [key for key in given if key not in known]
    if unknown:
        names = ", ".join(repr(key) for key in unknown[:5])
        known_names = ", ".join(sorted(known))
        raise Invalid(f"{what} has unknown keys: {names}; known are {known_names}", argument=argument)


def check_metadata(value: Any, what: str, argument: str) -> dict[str, Any]:
    """A mapping with string keys, or None for an empty one."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise Invalid(f"{what} must be a mapping with string keys", argument=argument)
    return dict(value)


def one_of(given: Mapping[str, Any], names: tuple[str, ...], what: str, argument: str) -> Any:
    """The value under whichever of `names` is given and not None; they may not contradict one another."""
    values = [given[name] for name in names if given.get(name) is not None]
    if any(value != values[0] for value in values[1:]):
        raise Invalid(f"{what} gives different values for {' and '.join(names)}", argument=argument)
    return values[0] if values else None
