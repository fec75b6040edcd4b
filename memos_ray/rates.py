"""How often things happen now: totals that only grow, looked at now and then. Knows no clock: it is told the time."""

from __future__ import annotations

from collections import Counter, deque


class Rates:
    """Totals by name, and what they grew by a second over the last `window_s` seconds."""

    def __init__(self, window_s: float = 10.0) -> None:
        self._window_s = window_s
        self._totals: Counter[str] = Counter()
        self._samples: deque[tuple[float, Counter[str]]] = deque()

    def add(self, name: str, n: int = 1) -> None:
        """It happened `n` times more."""
        self._totals[name] += n

    def sample(self, now: float) -> None:
        """Remembers the totals of this moment; those older than the window are forgotten, but for one."""
        self._samples.append((now, self._totals.copy()))
        while len(self._samples) > 2 and self._samples[1][0] <= now - self._window_s:
            self._samples.popleft()

    def per_s(self, name: str, now: float) -> float:
        """Since the oldest sample; 0 before there is one."""
        if not self._samples:
            return 0.0
        at, totals = self._samples[0]
        return (self._totals[name] - totals[name]) / (now - at) if now > at else 0.0
