"""Who calls when, in a simulation: sessions arrive at random, popular users come more often. Seeded.

Sessions are a Poisson process; whose session it is follows Zipf's law (the user of rank r with a weight of
r**-skew); the calls of one are geometric in number, with exponential gaps.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from memos_ray.errors import Invalid

_BLOCK = 4096  # users drawn at once
_SIGMA = 1.0  # of the logarithm of sizes: the largest of a thousand cubes is some 20 times the median


@dataclass(frozen=True, slots=True)
class Traffic:
    """Load of a whole system. Times in seconds."""

    cubes: int = 1_000_000  # registered
    sessions_per_s: float = 20.0
    calls: float = 12.0  # of a session, in the mean
    gap_s: float = 20.0  # between two calls of a session, in the mean
    add_share: float = 0.5  # of calls that add a memory; the others search
    skew: float = 0.8  # Zipf's exponent; 0: everybody comes as often
    items: int = 1_000  # memories of a cube, the median

    def check(self) -> None:
        """Raises `Invalid`."""
        if self.cubes < 1:
            raise Invalid("there must be a cube at least", argument="cubes")
        for name in ("sessions_per_s", "gap_s", "items"):
            if getattr(self, name) <= 0:
                raise Invalid(f"{name} must be above 0", argument=name)
        if self.calls < 1:
            raise Invalid("a session has one call at least", argument="calls")
        if not 0 <= self.add_share <= 1 or self.skew < 0:
            raise Invalid("add_share lies from 0 to 1, skew is at least 0", argument="add_share")


class Source:
    """Draws sessions and sizes. The same seed draws the same."""

    def __init__(self, traffic: Traffic, seed: int) -> None:
        traffic.check()
        self._traffic = traffic
        self._rng = np.random.default_rng(seed)
        self._random = random.Random(seed)
        weights = np.arange(1, traffic.cubes + 1, dtype=float) ** -traffic.skew
        self._below = np.cumsum(weights / weights.sum())
        self.sizes = np.maximum(
            1, (traffic.items * self._rng.lognormal(0.0, _SIGMA, traffic.cubes)).astype(np.int64)
        )
        self._users = self._draw()

    def _draw(self) -> Iterator[int]:
        last = self._traffic.cubes - 1
        while True:
            for user in np.searchsorted(self._below, self._rng.random(_BLOCK)).tolist():
                yield min(user, last)

    def session(self) -> tuple[float, int, int]:
        """Seconds until the next session begins, its user (0 is the most active), and how many calls it has."""
        wait = self._random.expovariate(self._traffic.sessions_per_s)
        calls = 1
        if self._traffic.calls > 1:
            calls += int(self._rng.geometric(1 / self._traffic.calls)) - 1
        return wait, next(self._users), calls

    def gap(self) -> float:
        """Seconds until the next call of a session."""
        return self._random.expovariate(1 / self._traffic.gap_s)

    def adds(self) -> bool:
        """Whether the next call adds a memory."""
        return self._random.random() < self._traffic.add_share
