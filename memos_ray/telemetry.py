"""What is measured: one table of all metrics, and the meter that figures go to.

Code that has something to tell calls `count`, `observe` or `gauge`; by default nobody listens. A process that reports
installs a meter with `use` (`actors.metrics` does, on `ray.util.metrics`). Knows neither Ray nor Prometheus. No metric
is ever labelled by cube, user or text: the values of every tag are few and known.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["counter", "histogram", "gauge"]

_CALL_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_STAGE_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0)
_START_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 15.0, 60.0)
_ROWS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 5000.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `values` says what each of its tags may be, in words; `boundaries` are a histogram's buckets."""

    name: str
    kind: Kind
    unit: str
    help: str
    tags: tuple[str, ...] = ()
    values: str = ""
    boundaries: tuple[float, ...] = ()

    @property
    def exported(self) -> str:
        """The name that Prometheus sees. Ray puts `ray_` before every name, and `_total` behind those of counters."""
        return f"ray_{self.name}" + ("_total" if self.kind == "counter" else "")


def _counter(name: str, unit: str, text: str, values: str = "", *tags: str) -> Metric:
    return Metric(name, "counter", unit, text, tags, values)


def _gauge(name: str, unit: str, text: str, values: str = "", *tags: str) -> Metric:
    return Metric(name, "gauge", unit, text, tags, values)


def _histogram(
    name: str, unit: str, text: str, boundaries: tuple[float, ...], values: str = "", *tags: str
) -> Metric:
    return Metric(name, "histogram", unit, text, tags, values, boundaries)


CALLS = "memos_calls"
CALL_SECONDS = "memos_call_seconds"
RETRIES = "memos_retries"
ADMISSION_SECONDS = "memos_admission_seconds"
CALLS_WAITING = "memos_calls_waiting"
SEARCH_SECONDS = "memos_search_seconds"
COMMIT_SECONDS = "memos_commit_seconds"
COMMIT_ROWS = "memos_commit_rows"
COMMIT_WAITING = "memos_commit_waiting"
ACTIVATIONS = "memos_activations"
ACTIVATION_SECONDS = "memos_activation_seconds"
PASSIVATIONS = "memos_passivations"
MOVES = "memos_moves"
HOSTS_LOST = "memos_hosts_given_up"
REGISTRY_CHANGES = "memos_registry_changes"
HOSTS = "memos_hosts"
CUBES = "memos_cubes"
MEMORY = "memos_memory_bytes"
MEMORY_LIMIT = "memos_memory_limit_bytes"
BUSY = "memos_busy_cores"
POOL_WANTED = "memos_pool_wanted"
EMBED_TEXTS = "memos_embed_texts"
EMBED_SECONDS = "memos_embed_seconds"
EMBED_WAITING = "memos_embed_waiting"
EMBED_QUERIES = "memos_embed_queries"
RERANK_SECONDS = "memos_rerank_seconds"

_ALL = (
    _counter(
        CALLS,
        "calls",
        "Calls that a cube's process answered.",
        "the cube's verbs, else unknown; ok, moved, overloaded, late, unavailable, rejected, corrupt, failed, gone",
        "verb",
        "outcome",
    ),
    _histogram(
        CALL_SECONDS,
        "s",
        "Time that a call took in its process, waiting included.",
        _CALL_S,
        "as above",
        "verb",
    ),
    _counter(
        RETRIES,
        "calls",
        "Calls that a client made again, by what the attempt before came to.",
        "Moved, Overloaded, Unavailable",
        "error",
    ),
    _histogram(
        ADMISSION_SECONDS,
        "s",
        "Time that a call waited for its turn in a process that was busy.",
        _STAGE_S,
        "read, write",
        "kind",
    ),
    _gauge(CALLS_WAITING, "calls", "Calls that wait for their turn.", "node id", "node"),
    _histogram(
        SEARCH_SECONDS,
        "s",
        "Time of one part of a search in one cube.",
        _STAGE_S,
        "embedding, vectors, index, dense, text, graph, tokens, ranking, hits",
        "stage",
    ),
    _histogram(COMMIT_SECONDS, "s", "Time of one group commit, until it is known to have landed.", _STAGE_S),
    _histogram(COMMIT_ROWS, "rows", "Rows in one group commit.", _ROWS),
    _histogram(COMMIT_WAITING, "requests", "Writes of the cube that wait as a group commit begins.", _ROWS),
    _counter(
        ACTIVATIONS,
        "cubes",
        "Activations of cubes: on a blank process that was ready, one that was starting, one started for it, or beside "
        "other cubes.",
        "warm, starting, started, packed; ok, failed",
        "source",
        "outcome",
    ),
    _histogram(
        ACTIVATION_SECONDS,
        "s",
        "Time of a successful activation, from the look-up in the registry on.",
        _START_S,
        "as above",
        "source",
    ),
    _counter(PASSIVATIONS, "cubes", "Cubes let go.", "idle, memory, asked", "why"),
    _counter(
        MOVES,
        "cubes",
        "Cubes taken to another process.",
        "large, hot, crowded, draining, spread, asked; ok, failed",
        "why",
        "outcome",
    ),
    _counter(
        HOSTS_LOST,
        "processes",
        "Cube processes that were given up.",
        "died, silent, node, attach, detach, caller, stale",
        "why",
    ),
    _counter(
        REGISTRY_CHANGES, "changes", "Changes of the registry by the directory.", "create, reset", "kind"
    ),
    _gauge(HOSTS, "processes", "Cube processes.", "node id; holding, blank, starting", "node", "state"),
    _gauge(CUBES, "cubes", "Active cubes.", "node id", "node"),
    _gauge(
        MEMORY,
        "bytes",
        "Memory that the cube processes of a node have for themselves (USS).",
        "node id",
        "node",
    ),
    _gauge(
        MEMORY_LIMIT, "bytes", "Memory that they may take before cubes are passivated.", "node id", "node"
    ),
    _gauge(BUSY, "cores", "Cores that calls keep busy, smoothed.", "node id", "node"),
    _gauge(POOL_WANTED, "processes", "Blank cube processes that should be ready."),
    _histogram(EMBED_TEXTS, "texts", "Texts in one batch of the embedder.", _ROWS),
    _histogram(
        EMBED_SECONDS, "s", "Time that the embedder takes for one batch.", _CALL_S, "ok, failed", "outcome"
    ),
    _gauge(EMBED_WAITING, "texts", "Texts that wait to be embedded."),
    _counter(
        EMBED_QUERIES,
        "queries",
        "Queries that the embedder was asked for: known, being embedded for another caller, or new.",
        "hit, joined, miss",
        "cache",
    ),
    _histogram(RERANK_SECONDS, "s", "Time of one call of the reranker.", _CALL_S, "ok, failed", "outcome"),
)

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _ALL}
"""Every metric there is, by name."""


class Meter(Protocol):
    """Where figures go. Called on hot paths: a microsecond at most, and never an error."""

    def count(self, name: str, n: float = 1, **tags: str) -> None:
        """Adds to a counter."""
        ...

    def observe(self, name: str, value: float, **tags: str) -> None:
        """Puts a value into a histogram."""
        ...

    def gauge(self, name: str, value: float, **tags: str) -> None:
        """Sets a gauge."""
        ...


class NoMeter:
    """Nobody listens."""

    def count(self, name: str, n: float = 1, **tags: str) -> None:
        """Nothing."""

    def observe(self, name: str, value: float, **tags: str) -> None:
        """Nothing."""

    def gauge(self, name: str, value: float, **tags: str) -> None:
        """Nothing."""


_meter: Meter = NoMeter()


def current() -> Meter:
    """This process's meter."""
    return _meter


def use(meter: Meter) -> Meter:
    """Installs this process's meter; returns the one before."""
    global _meter
    before, _meter = _meter, meter
    return before


def count(name: str, n: float = 1, **tags: str) -> None:
    """Adds `n` to a counter of the table."""
    _meter.count(name, n, **tags)


def observe(name: str, value: float, **tags: str) -> None:
    """Puts a value (seconds, rows…) into a histogram of the table."""
    _meter.observe(name, value, **tags)


def gauge(name: str, value: float, **tags: str) -> None:
    """Sets a gauge of the table."""
    _meter.gauge(name, value, **tags)


class Stages:
    """Times the parts of a search, one after the other."""

    __slots__ = ("_at",)

    def __init__(self) -> None:
        self._at = time.perf_counter()

    def done(self, stage: str) -> None:
        """What has passed since the last one was `stage`."""
        now = time.perf_counter()
        _meter.observe(SEARCH_SECONDS, now - self._at, stage=stage)
        self._at = now


def misuse(name: str, kind: Kind, tags: Mapping[str, str]) -> str | None:
    """Why such a figure is not one of the table; None if it is."""
    metric = METRICS.get(name)
    if metric is None:
        return f"there is no metric {name!r}"
    if metric.kind != kind:
        return f"{name} is a {metric.kind}, not a {kind}"
    if set(tags) != set(metric.tags):
        return f"{name} has the tags {metric.tags}, not {tuple(tags)}"
    return None
