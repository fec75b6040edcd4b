"""What a benchmark reports: figures, checks, and the machine and versions they were taken on.

Figures are never judged: timings differ between machines. Checks are about correctness and decide the exit
code.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from memos_ray import __version__

_PACKAGES = ("ray", "pylance", "pyarrow", "numpy", "scipy", "torch", "sentence-transformers")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. `aim` is what the design asks for, in words; it is shown, not enforced."""

    name: str
    value: float
    unit: str
    note: str = ""
    aim: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One statement about correctness."""

    name: str
    holds: bool
    detail: str = ""


@dataclass(slots=True)
class Report:
    """Collects figures and checks of one benchmark run."""

    title: str
    command: str
    figures: list[Figure] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def figure(self, name: str, value: float, unit: str, *, note: str = "", aim: str = "") -> None:
        """Adds a number."""
        self.figures.append(Figure(name, float(value), unit, note, aim))

    def check(self, name: str, holds: bool, detail: str = "") -> None:
        """Adds a statement about correctness. One made before under this name is replaced unless it failed."""
        same = next((c for c in self.checks if c.name == name), None)
        if same is not None and same.holds:
            self.checks.remove(same)
        if same is None or same.holds:
            self.checks.append(Check(name, bool(holds), detail))

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        return {
            "title": self.title,
            "command": self.command,
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - self.started, 1),
            "machine": machine(),
            "versions": versions(),
            "passed": self.passed,
            "figures": [asdict(f) for f in self.figures],
            "checks": [asdict(c) for c in self.checks],
            "notes": list(self.notes),
        }


@dataclass(slots=True)
class Deadline:
    """Bounds a run: `expired()` once `seconds` have passed since it was made."""

    seconds: float
    started: float = field(default_factory=time.monotonic)

    def expired(self) -> bool:
        """Whether the time is up."""
        return self.left() <= 0

    def left(self) -> float:
        """Seconds left, negative afterwards."""
        return self.seconds - (time.monotonic() - self.started)


class Lap:
    """Seconds that the block of `timed` took; filled in at its end."""

    seconds: float = 0.0


@contextmanager
def timed() -> Iterator[Lap]:
    """`with timed() as lap: …` and then `lap.seconds`."""
    lap, begun = Lap(), time.perf_counter()
    try:
        yield lap
    finally:
        lap.seconds = time.perf_counter() - begun


def quantile(values: Sequence[float], q: float) -> float:
    """The `q`-quantile (0 to 1), interpolated linearly between order statistics. Needs a value at least."""
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def machine() -> dict[str, Any]:
    """The machine as far as it matters for a timing. `load` is the load average of the last minute."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Versions of the packages that a timing depends on."""
    found = {"memos-ray": __version__}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def cpu_seconds(pids: Sequence[int]) -> float | None:
    """CPU time that all threads of these processes have used, in seconds; None where the kernel does not say.

    From /proc/<pid>/task/<tid>/schedstat, which counts nanoseconds (`stat` counts in ticks of 10 ms).
    """
    total = 0
    try:
        for pid in pids:
            for task in Path(f"/proc/{pid}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return total / 1e9


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
