"""Small array helpers that all arms share: masks of any length, and the best k of many scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Saved = dict[str, NDArray[Any] | list[str]]
"""What an index keeps between activations: arrays, and lists of strings, by name."""

Mask = NDArray[np.bool_]
Slots = NDArray[np.intp]
Scores = NDArray[np.float32]

NO_SLOTS: Slots = np.empty(0, np.intp)
NO_SCORES: Scores = np.empty(0, np.float32)


def array_of(saved: Saved, name: str, kind: type) -> NDArray[Any]:
    """An array of that type. Raises `KeyError`, or `TypeError` for another one."""
    found = saved[name]
    if isinstance(found, list) or found.dtype != kind:
        raise TypeError(f"{name} is not an array of {np.dtype(kind)}")
    return found


def strings(saved: Saved, name: str) -> list[str]:
    """A list of strings. Raises `KeyError`, or `TypeError` for something else."""
    found = saved[name]
    if not isinstance(found, list):
        raise TypeError(f"{name} is not a list of strings")
    return found


def fit_mask(mask: Mask, size: int) -> Mask:
    """`mask` cut, or extended with False, to `size` slots: an index may know fewer or more than a view."""
    if len(mask) == size:
        return mask
    if len(mask) > size:
        return mask[:size]
    return np.concatenate((mask, np.zeros(size - len(mask), np.bool_)))


def best(scores: NDArray[np.floating], k: int, above: float = -np.inf) -> tuple[Slots, Scores]:
    """Positions and values of the `k` highest `scores` strictly `above` a bound, best first.

    Equal scores rank by position, lowest first, so that the answer never depends on the algorithm.
    """
    if k <= 0 or not len(scores):
        return NO_SLOTS, NO_SCORES
    if k < len(scores):
        # Values first, positions after: partition is several times faster than argpartition.
        kth = np.partition(scores, len(scores) - k)[len(scores) - k]
        slots = np.flatnonzero(scores >= kth if kth > above else scores > above)
    else:
        slots = np.flatnonzero(scores > above)
    values = scores[slots]
    order = np.argsort(-values, kind="stable")[:k]
    return slots[order], values[order].astype(np.float32, copy=False)
