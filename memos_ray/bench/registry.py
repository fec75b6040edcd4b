"""What a registry of a million cubes costs: registration, one process's index of it, look-ups, listings.

Runs by itself, `python -m memos_ray.bench.registry --cubes 1000000`, and in `memos-ray bench cluster`. Cubes are
registered in this process; what a directory or a host does is measured in a fresh one (`registry_probe.py`).
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from memos_ray.bench.report import Report, quantile, timed
from memos_ray.cube.registry import Grant, NewCube, Registry

EMBEDDER = "minilm-int8:384"
SEED = 7
_CHUNK = 100_000  # cubes in one call of `create_many`
_SINGLE = 4_000  # registered one by one
_CALLERS = 64  # that do so at once
_PROBE_TIMEOUT_S = 600
Step = Callable[[str, int, int], None]


def made_cubes(n: int, seed: int, first: int = 0) -> Iterator[NewCube]:
    """Cubes `first` … `first + n` of a seed: ids of 20 bytes; every other one is its user's own, the rest belong to 500
    organisations; one in a hundred is granted to somebody."""
    rng = random.Random(f"{seed}:{first}")
    for i in range(first, first + n):
        cube_id = f"user:{rng.getrandbits(28):07x}{i:08x}"
        owner = cube_id if i % 2 else f"org:{rng.randrange(500)}"
        grants = (Grant(f"user:g{rng.randrange(1_000)}", "reader"),) if i % 100 == 0 else ()
        incarnation = str(uuid.UUID(int=rng.getrandbits(128)))
        yield NewCube(cube_id, incarnation, EMBEDDER, owner, grants)


def measure(
    report: Report, root: str, n: int = 1_000_000, seed: int = SEED, step: Step | None = None
) -> list[str]:
    """Registers `n` cubes under `root`, which has no registry yet, and adds the figures; returns some of the ids.

    A million take 130 MB of storage, and 40 s of processor time to register.
    """
    step = step or (lambda what, done, of: None)
    some = [cube.cube_id for cube in islice(made_cubes(min(n, _CHUNK), seed), 10_000)]
    _register(report, root, n, seed, step)
    _register_single(report, root, n, seed, step)
    step("asking", 0, 1)
    _ask(report, root, n + min(n, _SINGLE), seed)
    step("asking", 1, 1)
    return some


def _register(report: Report, root: str, n: int, seed: int, step: Step) -> None:
    registry = Registry(root)
    seconds = 0.0
    for first in range(0, n, _CHUNK):
        step("registering in bulk", first, n)
        cubes = list(made_cubes(min(_CHUNK, n - first), seed, first))
        with timed() as lap:
            made = registry.create_many(cubes)
        seconds += lap.seconds
    again = registry.create_many(cubes)
    report.figure("bulk registration", n / seconds, "cubes/s", note=f"{n:,} in calls of {_CHUNK:,}")
    report.check("the same registration again changes nothing", again == made)
    step("registering in bulk", n, n)


def _register_single(report: Report, root: str, n: int, seed: int, step: Step) -> None:
    step("registering one by one", 0, 1)
    registry = Registry(root)
    registry.index().refresh()  # as a directory does
    cubes = list(made_cubes(min(n, _SINGLE), seed, n))
    took: list[float] = []

    def register(cube: NewCube) -> None:
        with timed() as lap:
            registry.create_if_absent(
                cube.cube_id,
                incarnation=cube.incarnation,
                embedder=cube.embedder,
                owner=cube.owner,
                grants=cube.grants,
            )
        took.append(lap.seconds)

    with ThreadPoolExecutor(_CALLERS) as pool, timed() as lap:
        list(pool.map(register, cubes))
    note = f"{_CALLERS} threads"
    report.figure("single registration", len(cubes) / lap.seconds, "cubes/s", note=note)
    report.figure("single registration p50", quantile(took, 0.5) * 1e3, "ms", note=note)
    report.figure("single registration p99", quantile(took, 0.99) * 1e3, "ms", note=note)
    record = registry.lookup(cubes[0].cube_id)
    assert record is not None
    alone: list[float] = []
    for i in range(min(50, max(5, n // 100))):
        with timed() as lap:
            record = registry.compare_and_set(record.cube_id, record.revision, owner=f"user:{i}")
        alone.append(lap.seconds)
    report.figure("compare-and-set p50", quantile(alone, 0.5) * 1e3, "ms", note="one caller")


def _ask(report: Report, root: str, n: int, seed: int) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "memos_ray.bench.registry_probe", root, str(seed)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=_PROBE_TIMEOUT_S,
    )
    answer = json.loads(said.stdout)
    for figure in answer["figures"]:
        report.figure(**figure)
    report.check("the index has every cube", answer["count"] == n, f"{answer['count']:,} of {n:,}")
    report.check("pages and look-ups agree with storage", not answer["wrong"], "; ".join(answer["wrong"]))


def main() -> int:
    """Runs `measure` in a temporary folder (or `--root`) and prints the report as JSON."""
    parser = argparse.ArgumentParser(prog="python -m memos_ray.bench.registry", description=__doc__)
    parser.add_argument("--cubes", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--root", type=Path, help="an empty folder to keep; default: a temporary one")
    given = parser.parse_args()
    command = f"python -m memos_ray.bench.registry --cubes {given.cubes} --seed {given.seed}"
    report = Report("registry", command)
    with tempfile.TemporaryDirectory(prefix="memos-ray-bench-") as scratch:
        measure(report, str(given.root or scratch), given.cubes, given.seed, _say)
    sys.stdout.write(json.dumps(report.to_dict(), indent=2) + "\n")
    return 0 if report.passed else 1


def _say(what: str, done: int, of: int) -> None:
    sys.stderr.write(f"{what} {done:,}/{of:,}\n")


if __name__ == "__main__":
    sys.exit(main())
