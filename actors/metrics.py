"""This process's figures on their way to Prometheus: gathered here, handed to `ray.util.metrics` by a thread.

Ray takes 4 to 6 µs for each figure and a histogram takes one at a time, so the callers only leave theirs in a queue.
Ray's agent on every node serves what it gets, by default every 10 s. Does not know what is measured: see
`memos_ray.telemetry`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict, deque
from typing import Any

from memos_ray import telemetry
from memos_ray.telemetry import METRICS, Kind

log = logging.getLogger(__name__)

_EVERY_S = 1.0
_MOST = 200_000  # figures that wait, 150 bytes each; older ones are dropped
_SLICE = 50  # figures after which the interpreter is left to others: some 0.25 ms

Tags = tuple[tuple[str, str], ...]


class RayMeter:
    """A `Meter` on Ray's metrics. One per process: see `start`."""

    def __init__(self) -> None:
        self._figures: deque[tuple[Kind, str, float, dict[str, str]]] = deque(maxlen=_MOST)
        self._made: dict[str, Any] = {}
        self._told: set[str] = set()
        self._flushing = threading.Lock()

    def count(self, name: str, n: float = 1, **tags: str) -> None:
        """Adds to a counter."""
        self._figures.append(("counter", name, n, tags))

    def observe(self, name: str, value: float, **tags: str) -> None:
        """Puts a value into a histogram."""
        self._figures.append(("histogram", name, value, tags))

    def gauge(self, name: str, value: float, **tags: str) -> None:
        """Sets a gauge. Has to be repeated: Ray forgets what it has not heard of for two of its intervals."""
        self._figures.append(("gauge", name, value, tags))

    def flush(self) -> None:
        """Hands everything gathered to Ray. From any thread."""
        with self._flushing:
            sums: dict[tuple[str, Tags], float] = defaultdict(float)
            latest: dict[tuple[str, Tags], float] = {}
            for i in range(len(self._figures)):
                kind, name, value, tags = self._figures.popleft()
                metric = self._metric(kind, name, tags)
                if metric is None:
                    continue
                key = name, tuple(sorted(tags.items()))
                if kind == "counter":
                    sums[key] += value
                elif kind == "gauge":
                    latest[key] = value
                else:
                    metric.observe(value, tags)
                if i % _SLICE == _SLICE - 1:
                    time.sleep(0)
            for (counter, labels), total in sums.items():
                if total > 0:
                    self._made[counter].inc(total, dict(labels))
            for (gauge, labels), now in latest.items():
                self._made[gauge].set(now, dict(labels))

    def run(self) -> None:
        """Flushes for ever."""
        while True:
            time.sleep(_EVERY_S)
            try:
                self.flush()
            except Exception:  # figures are lost; what they are about goes on
                log.exception("handing figures to Ray failed")

    def _metric(self, kind: Kind, name: str, tags: dict[str, str]) -> Any:
        """Ray's object for it; None, with a line in the log, for what is not in the table."""
        wrong = telemetry.misuse(name, kind, tags)
        if wrong is not None:
            if wrong not in self._told:
                self._told.add(wrong)
                log.error("a figure is dropped: %s", wrong)
            return None
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = _make(name)
        return made


def _make(name: str) -> Any:
    from ray.util.metrics import Counter, Gauge, Histogram

    metric = METRICS[name]
    text = f"{metric.help} Unit: {metric.unit}."
    if metric.kind == "counter":
        return Counter(name, text, metric.tags)
    if metric.kind == "gauge":
        return Gauge(name, text, metric.tags)
    return Histogram(name, text, list(metric.boundaries), metric.tags)


def start() -> None:
    """Begins to report this process's figures, once; what is measured before goes nowhere.

    That it has begun is known to `telemetry`, not to this module: Ray sends modules of this package by value where
    another package has its name, and there may be several of it in a process then.
    """
    if isinstance(telemetry.current(), telemetry.NoMeter):
        meter = RayMeter()
        telemetry.use(meter)
        threading.Thread(target=meter.run, name="memos-metrics", daemon=True).start()
