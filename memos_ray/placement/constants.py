"""What things cost, as measured: the one table that plans and simulations are computed from.

Each has its unit and where it was measured. Two shared cores whose speed moved by a factor of three within a day are
where most of them come from: measure your own (`memos-ray bench core`, `bench cluster`) and give them with
`--constants`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memos_ray.errors import Invalid
from memos_ray.placement.costs import Costs, Time


@dataclass(frozen=True, slots=True)
class Constant:
    """A number, its unit, and where it is from."""

    value: float
    unit: str
    source: str


_HERE = "one process, 12 cubes of 1,000 memories of 30 words, 2 shared cores"
_CORE = "docs/benchmarks.md, `memos-ray bench core`"
_FLEET = "`Fleet`, 20,000 cubes in 200 hosts, 8 nodes, unpickling included"

CONSTANTS: Mapping[str, Constant] = {
    # memory
    "process_bytes": Constant(94e6, "B", "USS of a blank host process (numpy, pyarrow, Lance, networkx)"),
    "cube_bytes": Constant(0.3e6, "B", "an active cube of no memories: what 8.5 MB are beyond 1,000 memories"),
    "item_bytes": Constant(8.2e3, "B", "of an active cube, each memory: 100 cubes of 1,000 packed, 8.2 MB each"),
    "returned": Constant(0.69, "share", f"of a cube's memory, given back when it is let go; {_HERE}"),
    # processor
    "search_cpu_s": Constant(15e-3, "s", "docs/benchmarks.md, Retrieval: 14.4 to 15.6 ms, its embedding included"),
    "add_cpu_s": Constant(6e-3, "s", "one message, journal and indexes, without its embedding: 5 to 7 ms"),
    "embed_texts_per_core_s": Constant(52.0, "1/s", "docs/benchmarks.md, Retrieval: turns of 27 tokens in context"),
    "attach_cpu_s": Constant(47.7e-3, "s", f"{_CORE}: activation of 1,000 (56.3 ms) and 10,000 (134 ms)"),
    "attach_item_s": Constant(8.6e-6, "s", "the same, each memory more"),
    # times
    "attach_p99_ratio": Constant(3.0, "×", "p99 to p50 of activations, `memos-ray bench simulated`"),
    "start_s": Constant(1.9, "s", "a host process until its first answer: 1.8 to 2.0 s"),
    "start_p99_ratio": Constant(2.0, "×", "p99 to p50, starts at once on a node"),
    "drain_s": Constant(24e-3, "s", f"letting a cube go; {_HERE}"),
    "answer_s": Constant(30e-3, "s", "docs/benchmarks.md, Retrieval: a search, client to client"),
    "node_found_dead_s": Constant(13.0, "s", "until Ray's defaults say that a node is gone"),
    # the directory
    "locate_s": Constant(2e-3, "s", "its processor, each time it is asked: a no-op call of an actor takes 0.8 to 2 ms"),
    "pulse_host_s": Constant(1e-3, "s", "its processor, each host that it asks how it is: an actor call"),
    "pulse_cube_s": Constant(3.9e-6, "s", f"its processor, each cube that is reported; {_FLEET}"),
    # storage
    "journal_bytes": Constant(1.3e3, "B", f"each memory, 20 a commit, a million bytes a thousand; {_HERE}"),
    "vector_bytes": Constant(4.0e3, "B", "each memory: 384 float32 and the vectors of its tokens (MiniLM)"),
    "cube_files": Constant(177.0, "files", f"of a cube of 1,000 memories, ten minutes of versions kept; {_HERE}"),
    "registry_row_bytes": Constant(200.0, "B", "a row of the registry in storage: ids, embedder, state, times"),
    "puts_per_commit": Constant(3.0, "requests", "Lance: data, transaction and manifest, each an object"),
    "lists_per_commit": Constant(1.0, "requests", "the check that what was committed is the latest version"),
    "lists_per_read": Constant(1.0, "requests", "an owner that last confirmed over 1 s ago looks for a later version"),
    "gets_per_activation": Constant(70.0, "requests", "the registry's row aside: manifests, and up to 64 fragments"),
    "puts_per_activation": Constant(6.0, "requests", "a claim and an open row, a commit each"),
    "append_s": Constant(33e-3, "s", "a commit on s3:// (a server on loopback)"),
    "registry_commit_s": Constant(20e-3, "s", "a compare-and-set of one row of the registry"),
    # bounds of others
    "ray_actors": Constant(10_000, "actors", "Ray's scalability envelope (release/benchmarks/README.md): 10k+ actors"),
    "ray_nodes": Constant(250, "nodes", "the same: 250+ nodes"),
    "prefix_puts_per_s": Constant(3_500, "1/s", "AWS, Optimizing Amazon S3 performance: per partitioned prefix"),
    "prefix_gets_per_s": Constant(5_500, "1/s", "the same"),
}
