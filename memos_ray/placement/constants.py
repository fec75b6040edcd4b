"""What things cost, as measured: the one table that plans and simulations are computed from.

Each has its unit and where it was measured; what was not measured says so. Most come from two shared cores whose speed
moved by a factor of three within a day: measure your own (`memos-ray bench core`) and give them with `--constants`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memos_ray.errors import Invalid
from memos_ray.placement.costs import Costs, Time
from memos_ray.storage.costs import ACTIVATION, COMMIT, CONFIRM, FIRST_SEARCH, PASSIVATION


@dataclass(frozen=True, slots=True)
class Constant:
    """A number, its unit, and where it is from."""

    value: float
    unit: str
    source: str


_HERE = "one process, 12 cubes, synthetic memories of 30 words, 2 shared cores"
_CORE = "docs/benchmarks.md, `memos-ray bench core`"
_FLEET = "`Fleet`, 20,000 cubes in 200 hosts, unpickling what hosts say included"
_DIRECTORY = "the directory's process on a real system, 2 shared cores"
_COUNTED = "`memos_ray.storage.costs`"
_UP_AND_DOWN = (ACTIVATION, FIRST_SEARCH, PASSIVATION)
_STORED = "a cube of 1,000 memories in 50 commits"

CONSTANTS: Mapping[str, Constant] = {
    # memory
    "process_bytes": Constant(94e6, "B", "USS of a blank host process (numpy, pyarrow, Lance, networkx)"),
    "cube_bytes": Constant(1.4e6, "B", f"active, beyond its memories: 2.1 MB with 100; {_HERE}"),
    "item_bytes": Constant(7.5e3, "B", f"active, each memory: 8.9 MB with 1,000; {_HERE}"),
    "returned": Constant(0.63, "share", f"of a cube's memory, given back when it is let go; {_HERE}"),
    # processor
    "search_cpu_s": Constant(
        15e-3, "s", "docs/benchmarks.md, Retrieval: 14.4 to 15.6 ms, its embedding included"
    ),
    "add_cpu_s": Constant(9.4e-3, "s", f"one message, indexes included, without its embedding; {_HERE}"),
    "embed_texts_per_core_s": Constant(
        52.0, "1/s", "docs/benchmarks.md, Retrieval: turns of 27 tokens in their context"
    ),
    "attach_cpu_s": Constant(47.7e-3, "s", f"{_CORE}: activation of 1,000 (56.3 ms) and 10,000 (134 ms)"),
    "attach_item_s": Constant(8.6e-6, "s", "the same, each memory more"),
    # times
    "attach_p99_ratio": Constant(
        3.0, "×", "p99 to p50 of activations, calls and passivations: an assumption"
    ),
    "start_s": Constant(1.9, "s", "a host process until its first answer: 1.8 to 2.0 s"),
    "start_p99_ratio": Constant(2.0, "×", "p99 to p50, some starting at once on a node: an assumption"),
    "drain_s": Constant(24e-3, "s", f"letting a cube of 1,000 memories go, 4 to 24 ms; {_HERE}"),
    "answer_s": Constant(30e-3, "s", "docs/benchmarks.md, Retrieval: a search, client to client"),
    "node_found_dead_s": Constant(13.0, "s", "until Ray's defaults say that a node is gone"),
    # the directory
    "locate_s": Constant(7.5e-3, "s", f"its processor, each activation of a cube; {_DIRECTORY}"),
    "pulse_host_s": Constant(
        1.1e-3, "s", f"its processor, each host that it asks how it is: 2 and 10 idle hosts; {_DIRECTORY}"
    ),
    "pulse_cube_s": Constant(3.9e-6, "s", f"its processor, each cube that is reported; {_FLEET}"),
    # storage
    "journal_bytes": Constant(1.3e3, "B", f"each memory; {_STORED}, with the versions kept"),
    "vector_bytes": Constant(4.0e3, "B", f"each memory, MiniLM's vector and those of tokens; {_STORED}"),
    "checkpoint_bytes": Constant(
        4.0e3, "B", "each memory, vectors once more; `python -m memos_ray.bench.activation`, 1,000 to 100,000"
    ),
    "cube_files": Constant(177.0, "files", f"{_STORED}; ten minutes of versions kept"),
    "registry_row_bytes": Constant(200.0, "B", "a row's ids, embedder, state and times: an estimate"),
    "puts_per_commit": Constant(COMMIT.puts, "requests", _COUNTED),
    "lists_per_commit": Constant(COMMIT.lists, "requests", _COUNTED),
    "lists_per_read": Constant(
        CONFIRM.lists, "requests", f"an owner that confirmed over 1 s ago; {_COUNTED}"
    ),
    "gets_per_activation": Constant(
        sum(step.gets for step in _UP_AND_DOWN), "requests", f"with the first search; {_COUNTED}"
    ),
    "puts_per_activation": Constant(
        sum(step.puts + step.lists for step in _UP_AND_DOWN),
        "requests",
        f"listings too, which cost as much; with the first search and the passivation; {_COUNTED}",
    ),
    "commit_s": Constant(3e-3, "s", f"{_CORE}: a bare Lance commit in a folder"),
    "append_s": Constant(33e-3, "s", "a commit on s3:// (a server on loopback)"),
    "registry_commit_s": Constant(20e-3, "s", "a compare-and-set of one row of the registry"),
    # bounds of others
    "ray_actors": Constant(
        10_000, "actors", "Ray's scalability envelope (release/benchmarks/README.md): 10k+ actors"
    ),
    "ray_nodes": Constant(250, "nodes", "the same: 250+ nodes"),
    "prefix_puts_per_s": Constant(
        3_500, "1/s", "AWS, Optimizing Amazon S3 performance: per partitioned prefix"
    ),
    "prefix_gets_per_s": Constant(5_500, "1/s", "the same"),
}

_ABOVE_ZERO = frozenset(
    {"embed_texts_per_core_s", "ray_actors", "ray_nodes", "prefix_puts_per_s", "prefix_gets_per_s"}
    | {"start_s", "drain_s", "registry_commit_s", "answer_s", "attach_cpu_s"}
)


def values(overrides: Mapping[str, float] | None = None) -> dict[str, float]:
    """Every constant's value. Raises `Invalid` for an override that is no constant, or no number above or at 0."""
    known = {name: constant.value for name, constant in CONSTANTS.items()}
    for name, value in (overrides or {}).items():
        if name not in known:
            raise Invalid(
                f"there is no constant {name!r}; there are {', '.join(known)}", argument="constants"
            )
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise Invalid(
                f"constant {name!r} must be a number, at least 0, not {value!r}", argument="constants"
            )
        if value == 0 and name in _ABOVE_ZERO:
            raise Invalid(f"constant {name!r} must be above 0", argument="constants")
        known[name] = float(value)
    return known


def read_overrides(path: Path) -> dict[str, float]:
    """A JSON file of constants by name; or what `memos-ray bench core --json` wrote, of which the activations and the
    embedder's speed are taken. Raises `Invalid`."""
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise Invalid(f"{path} cannot be read as JSON: {error}", argument="constants") from error
    if not isinstance(found, dict):
        raise Invalid(f"{path} holds no object of constants by name", argument="constants")
    if isinstance(found.get("figures"), list):
        return _of_report(found, path)
    values(found)
    return {name: float(value) for name, value in found.items()}


def _of_report(report: dict[str, Any], path: Path) -> dict[str, float]:
    figures = {
        str(f.get("name")): float(f.get("value", 0.0)) for f in report["figures"] if isinstance(f, dict)
    }
    taken: dict[str, float] = {}
    small, large = figures.get("activation 1,000"), figures.get("activation 10,000")
    if small and large and large > small:
        each = (large - small) / 9_000
        taken["attach_item_s"] = each / 1000
        taken["attach_cpu_s"] = max(1e-4, (small - 1_000 * each) / 1000)
    cores = (report.get("machine") or {}).get("cores")
    if figures.get("embedding") and cores:
        taken["embed_texts_per_core_s"] = figures["embedding"] / cores
    if not taken:
        raise Invalid(f"{path} is a report without figures that a plan is made of", argument="constants")
    return taken


def costs(overrides: Mapping[str, float] | None = None) -> Costs:
    """What a simulation draws from."""
    k = values(overrides)
    return Costs(
        start=Time(k["start_s"], k["start_s"] * k["start_p99_ratio"]),
        attach=Time(k["attach_cpu_s"], k["attach_cpu_s"] * k["attach_p99_ratio"]),
        attach_item_s=k["attach_item_s"],
        drain=Time(k["drain_s"], k["drain_s"] * k["attach_p99_ratio"]),
        answer=Time(k["answer_s"], k["answer_s"] * k["attach_p99_ratio"]),
        locate_s=k["locate_s"],
        tick_cube_s=k["pulse_cube_s"],
        tick_host_s=k["pulse_host_s"],
        search_cpu_s=k["search_cpu_s"],
        add_cpu_s=k["add_cpu_s"],
        process_bytes=int(k["process_bytes"]),
        cube_bytes=int(k["cube_bytes"]),
        item_bytes=int(k["item_bytes"]),
        returned=min(1.0, k["returned"]),
        node_found_dead_s=k["node_found_dead_s"],
    )
