"""What came of a simulated run: counts, waits as callers see them, and how it went over time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment. Rates are since the sample before, a second."""

    at_s: float
    active: int
    hosts: int
    bytes_used: float
    activations: float
    passivations: float
    moves: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A node that failed: how many cubes were on it, and how long calls that waited afterwards waited at most."""

    at_s: float
    cubes: int
    longest_wait_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a whole run. Waits are of calls that found their cube not active, in seconds."""

    seconds: float
    calls: int
    hits: int
    activations: int
    from_warm: int  # of the activations, those that found a host that was up
    refused: int  # times that the directory had to say: try again later
    failed: int  # calls that nobody served within their time
    still_waiting: int
    lost: int  # cubes whose host died
    waits: Waits
    passivations: dict[str, int]
    moves: dict[str, int]
    move_pauses: Waits  # how long a cube that moved was not served
    active_mean: float
    active_max: int
    hosts_mean: float
    hosts_max: int
    bytes_mean: float
    bytes_max: float
    directory_asks: int
    directory_busy: float  # share of one core
    failures: tuple[Failure, ...]
    drains_s: tuple[float, ...]
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Waits:
    """How many, and quantiles in seconds (0 if there are none)."""

    count: int
    p50: float
    p99: float
    longest: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Waits:
        """Nearest rank."""
        ordered = sorted(seconds)
        if not ordered:
            return cls(0, 0.0, 0.0, 0.0)

        def rank(q: float) -> float:
            return ordered[max(0, math.ceil(q * len(ordered)) - 1)]

        return cls(len(ordered), rank(0.5), rank(0.99), ordered[-1])


@dataclass(slots=True)
class Recorder:
    """Collects while a simulation runs."""

    tick_s: float
    calls: int = 0
    hits: int = 0
    activations: int = 0
    from_warm: int = 0
    refused: int = 0
    failed: int = 0
    lost: int = 0
    waits: list[float] = field(default_factory=list)
    passivated: Counter[str] = field(default_factory=Counter)
    moves: Counter[str] = field(default_factory=Counter)
    pauses: list[float] = field(default_factory=list)
    drained: list[float] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    asks: int = 0
    directory_s: float = 0.0
    _failures: list[list[float]] = field(default_factory=list)
    _counted: tuple[int, int, int] = (0, 0, 0)

    def call(self, hit: bool) -> None:
        """A call was made, of a cube that was up or not."""
        self.calls += 1
        self.hits += hit

    def activation(self, warm: bool) -> None:
        """A cube goes to a host that is up, or has yet to come up."""
        self.activations += 1
        self.from_warm += warm

    def waited(self, seconds: float, now: float) -> None:
        """A call was served that had found its cube not active."""
        self.waits.append(seconds)
        for failure in self._failures:
            if now - seconds <= failure[0] + 60.0 and now >= failure[0]:
                failure[2] = max(failure[2], seconds)

    def moved(self, why: str, pause_s: float) -> None:
        """A cube is on its new host, or about to be."""
        self.moves[why] += 1
        self.pauses.append(pause_s)

    def directory(self, takes_s: float, *, asked: bool) -> None:
        """The directory has something to do."""
        self.asks += asked
        self.directory_s += takes_s

    def failure(self, now: float, cubes: int) -> None:
        """A node is gone."""
        self._failures.append([now, cubes, 0.0])

    def sample(self, now: float, *, active: int, hosts: int, bytes_used: float) -> None:
        """How it is now."""
        counts = (self.activations, self.passivated.total(), self.moves.total())
        rates = [(new - old) / self.tick_s for new, old in zip(counts, self._counted, strict=True)]
        self._counted = counts
        self.samples.append(Sample(now, active, hosts, bytes_used, *rates))

    def outcome(self, seconds: float, *, still_waiting: int) -> Outcome:
        """All of it. Means and largest values are over the second half, when the run has settled."""
        late = [s for s in self.samples if s.at_s >= seconds / 2] or self.samples
        n = max(1, len(late))
        return Outcome(
            seconds=seconds,
            calls=self.calls,
            hits=self.hits,
            activations=self.activations,
            from_warm=self.from_warm,
            refused=self.refused,
            failed=self.failed,
            still_waiting=still_waiting,
            lost=self.lost,
            waits=Waits.of(self.waits),
            passivations=dict(self.passivated),
            moves=dict(self.moves),
            move_pauses=Waits.of(self.pauses),
            active_mean=sum(s.active for s in late) / n,
            active_max=max((s.active for s in late), default=0),
            hosts_mean=sum(s.hosts for s in late) / n,
            hosts_max=max((s.hosts for s in late), default=0),
            bytes_mean=sum(s.bytes_used for s in late) / n,
            bytes_max=max((s.bytes_used for s in late), default=0.0),
            directory_asks=self.asks,
            directory_busy=self.directory_s / seconds if seconds else 0.0,
            failures=tuple(Failure(at, int(cubes), wait) for at, cubes, wait in self._failures),
            drains_s=tuple(self.drained),
            samples=tuple(self.samples),
        )
