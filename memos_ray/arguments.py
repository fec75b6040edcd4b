"""Checks of single arguments, wherever a call comes in. Each raises `Invalid`, which names the argument."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, Literal

from memos_ray.errors import Invalid

MAX_QUERY_BYTES = 64 * 1024
DEFAULT_TOP_K = 20
MOST_IN_BUDGET = 1_000  # hits that a budget is packed with where the caller names no number
_LEAST_TOKENS = 4  # of a hit: with its date alone a message has some ten


def check_whole(value: object, argument: str, least: int) -> int:
    """A whole number, `least` or more."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise Invalid(f"{argument} must be a whole number, not {_shown(value)}", argument=argument)
    if value < least:
        raise Invalid(f"{argument} must be at least {least}, not {value}", argument=argument)
    return int(value)


def check_number(value: object, argument: str) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise Invalid(f"{argument} must be a finite number, not {_shown(value)}", argument=argument)
    return float(value)


def check_flag(value: object, argument: str) -> bool:
    """True or False: a string such as "no" would count as true."""
    if not isinstance(value, bool):
        raise Invalid(f"{argument} must be True or False, not {_shown(value)}", argument=argument)
    return value


def check_query(value: object) -> str:
    """A text to search for, of at most 64 KiB."""
    if not isinstance(value, str) or not value.strip():
        raise Invalid(f"query must be a non-empty text, not {_shown(value)}", argument="query")
    try:
        size = len(value) if len(value) > MAX_QUERY_BYTES else len(value.encode())
    except UnicodeEncodeError as error:
        raise Invalid(
            f"query holds a lone surrogate at character {error.start}, which is no Unicode text",
            argument="query",
        ) from None
    if size > MAX_QUERY_BYTES:
        raise Invalid(
            f"query has {size} bytes or more; at most {MAX_QUERY_BYTES} are taken", argument="query"
        )
    return value


def check_filters(value: object) -> Mapping[str, Any] | None:
    """None or a mapping: anything else that is empty would pass for no filter at all."""
    if value is not None and not isinstance(value, Mapping):
        raise Invalid(
            f"filters must be an object like {{'kind': 'fact'}}, not {_shown(value)}", argument="filters"
        )
    return value


def check_render(value: object) -> Literal["prompt"] | None:
    """None, or "prompt"."""
    if value is None:
        return None
    if value != "prompt":
        raise Invalid(f'render must be "prompt" or None, not {_shown(value)}', argument="render")
    return "prompt"


def wanted_hits(top_k: int | None, budget_tokens: int | None) -> int:
    """How many hits a search gives at most: `top_k`, else 20, else (under a budget) as many as could fit."""
    if budget_tokens is not None:
        check_whole(budget_tokens, "budget_tokens", 1)
    if top_k is not None:
        return check_whole(top_k, "top_k", 1)
    if budget_tokens is None:
        return DEFAULT_TOP_K
    return max(DEFAULT_TOP_K, min(MOST_IN_BUDGET, budget_tokens // _LEAST_TOKENS))


def _shown(value: object) -> str:
    return type(value).__name__ if isinstance(value, (list, tuple, set, dict)) else f"{value!r:.100}"
