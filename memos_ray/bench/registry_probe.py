"""A fresh process that asks a large registry what a host and a directory ask; started by `memos_ray.bench.registry`.

Prints one JSON object: figures, how many cubes the index counts, and what was answered wrongly.
"""

from __future__ import annotations

import gc
import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from memos_ray.bench.report import quantile
from memos_ray.cube.registry import CubeRecord, Registry, RegistryIndex
from memos_ray.process import rss_bytes

_PAGE = 100


class _Figures:
    """Collects figures and what was found wrong."""

    def __init__(self) -> None:
        self.figures: list[dict[str, Any]] = []
        self.wrong: list[str] = []
        self.most = 20  # questions of a kind; `rows` sets it

    def rows(self, n: int) -> None:
        """A small registry is a test: it is asked less."""
        self.most = max(20, n // 20)

    def add(self, name: str, value: float, unit: str, note: str = "") -> None:
        self.figures.append({"name": name, "value": value, "unit": unit, "note": note})

    def times(self, name: str, ask: Callable[[int], object], n: int, unit: str, note: str = "") -> None:
        """p50 and p99 of `ask(0) … ask(n - 1)`, none left out."""
        n = min(n, self.most)
        took = []
        for i in range(n):
            begun = time.perf_counter()
            ask(i)
            took.append((time.perf_counter() - begun) * {"ms": 1e3, "us": 1e6}[unit])
        self.add(f"{name} p50", quantile(took, 0.5), unit, note)
        self.add(f"{name} p99", quantile(took, 0.99), unit, note)

    def check(self, what: str, holds: bool) -> None:
        if not holds:
            self.wrong.append(what)


def main(root: str, seed: int) -> int:
    """Measures and prints; see the module."""
    rng = random.Random(seed)
    out = _Figures()
    index = _load(out, Registry(root))
    count = index.count(state=None)
    known = index.page(limit=2_000)
    known += index.page("user:8", limit=2_000) + index.page(after="user:f", limit=2_000)
    ids = [record.cube_id for record in rng.sample(known, min(1_000, len(known)))]
    _ask_index(out, index, known, ids)
    _ask_storage(out, root, index, ids)
    _refresh(out, root, index, ids)
    sys.stdout.write(json.dumps({"figures": out.figures, "count": count, "wrong": out.wrong}) + "\n")
    return 0


def _load(out: _Figures, registry: Registry) -> RegistryIndex:
    registry.lookup("user:nobody")  # Lance is up: what it takes by itself is not the index's
    before = uss_bytes()
    begun = time.perf_counter()
    index = registry.index()
    index.refresh()
    took = time.perf_counter() - begun
    gc.collect()
    rows = len(index)
    out.rows(rows)
    out.add("index: load from storage", took, "s", f"{rows:,} cubes")
    out.add("index: memory a cube", (uss_bytes() - before) / rows, "B", "USS after less before; Lance was up")
    out.add("index: columns a cube", index.nbytes / rows, "B")
    return index


def _ask_index(out: _Figures, index: RegistryIndex, known: list[CubeRecord], ids: list[str]) -> None:
    n = len(ids)
    out.times("index: look-up", lambda i: index.lookup(ids[i % n]), 10 * n, "us")
    page = index.page
    out.times(f"index: page of {_PAGE}", lambda i: page(after=ids[i % n], limit=_PAGE), 500, "ms")
    out.times("index: page, prefix", lambda i: page(ids[i % n][:8], limit=_PAGE), 500, "ms", "3 digits of 15")
    owners = [f"org:{i}" for i in range(500)]
    out.times(
        "index: page, owner", lambda i: page(owner=owners[i], limit=_PAGE), 500, "ms", "of an organisation"
    )
    out.times(
        "index: page, prefix and owner",
        lambda i: page(ids[i % n][:6], owner=owners[i], limit=_PAGE),
        500,
        "ms",
    )
    out.times("index: page, granted", lambda i: page(granted=f"user:g{i}", limit=_PAGE), 200, "ms")
    out.times("index: count", lambda i: index.count(), 200, "ms")
    out.times("index: count, owner", lambda i: index.count(owner=owners[i]), 200, "ms")
    for record in known[:1_000]:
        out.check(f"look-up of {record.cube_id}", index.lookup(record.cube_id) == record)
    by_owner = index.page(owner=owners[0], limit=1_000_000)
    out.check("count and page of an owner", len(by_owner) == index.count(owner=owners[0]))
    out.check("owner of a page", all(record.owner == owners[0] for record in by_owner))


def _ask_storage(out: _Figures, root: str, index: RegistryIndex, ids: list[str]) -> None:
    fresh = Registry(root)
    n = len(ids)
    first: dict[str, float] = {}
    for cube_id in ids[: min(64, out.most)]:
        begun = time.perf_counter()
        one = Registry(root).lookup(cube_id)
        first[cube_id] = (time.perf_counter() - begun) * 1e3
        out.check(f"storage look-up of {cube_id}", one == index.lookup(cube_id))
        fresh.lookup(cube_id)
    note = "the tables are opened for it"
    out.add("storage: look-up, new registry, p50", quantile(list(first.values()), 0.5), "ms", note)
    out.add("storage: look-up, new registry, p99", quantile(list(first.values()), 0.99), "ms", note)
    out.times("storage: look-up", lambda i: fresh.lookup(ids[i % n]), 500, "ms", "tables are open")


def _refresh(out: _Figures, root: str, index: RegistryIndex, ids: list[str]) -> None:
    out.times("index: refresh, nothing new", lambda i: index.refresh(), 50, "ms", "64 tables looked at")
    other = Registry(root)

    def change_and_refresh(i: int) -> None:
        record = other.lookup(ids[i])
        assert record is not None
        changed = other.compare_and_set(ids[i], record.revision, owner="user:other")
        begun = time.perf_counter()
        index.refresh()
        took.append((time.perf_counter() - begun) * 1e3)
        out.check(f"{ids[i]} after a refresh", index.lookup(ids[i]) == changed)

    took: list[float] = []
    for i in range(min(50, out.most, len(ids))):
        change_and_refresh(i)
    out.add("index: refresh, one cube changed, p50", quantile(took, 0.5), "ms")


def uss_bytes() -> int:
    """Memory that only this process has. Linux; elsewhere the resident set."""
    try:
        with open("/proc/self/smaps_rollup") as smaps:
            kilobytes = [
                int(line.split()[1]) for line in smaps if line.startswith(("Private_Clean", "Private_Dirty"))
            ]
        return 1024 * sum(kilobytes)
    except OSError:
        return rss_bytes()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
