"""The Ray options of every actor, in one place, each with its reason.

All are `detached`: an actor dies with the process that created it, and neither a driver's end nor the
directory's restart may take cubes down. All ask for 0 CPUs: they wait for calls most of the time, and a
laptop with two cores must be able to hold dozens of cubes.
"""

from __future__ import annotations

import os
from typing import Any

from memos_ray.config import Settings

DIRECTORY_NAME = "directory"
EMBEDDER_NAME = "embedder"
RERANKER_NAME = "reranker"
HOST_PREFIX = "host:"
CONTROL = "control"

# Soft state only, rebuilt from the registry and from the hosts that answer: restart for ever. Calls are not
# retried by Ray: clients retry with their own deadline.
DIRECTORY: dict[str, Any] = {
    "num_cpus": 0,
    "lifetime": "detached",
    "max_restarts": -1,
    "max_task_retries": 0,
    "max_concurrency": 1_000,
}

# Holds a model and a queue, no state that matters: restart for ever.
EMBEDDER: dict[str, Any] = {
    "num_cpus": 0,
    "lifetime": "detached",
    "max_restarts": -1,
    "max_task_retries": 0,
    "max_concurrency": 1_000,
}

# The same; there is one only where a reranker is configured.
RERANKER: dict[str, Any] = EMBEDDER

# Never restarted by Ray: a blank actor of the warm pool takes a dead one's cube in milliseconds, where a
# restart takes seconds; and only the directory may attach a cube. No task retries: a retried write must
# come from the client, with its op_id. The concurrency exceeds the bounded queue of a cube, so that a full
# queue answers `Overloaded` and is not hidden in Ray's own. The control group has a thread and an event loop of
# its own: a process that is busy with its cubes still says that it lives. No memory is asked for: what hosts take
# is measured, and cubes are passivated before a node runs out.
HOST: dict[str, Any] = {
    "num_cpus": 0,
    "lifetime": "detached",
    "max_restarts": 0,
    "max_task_retries": 0,
    "max_concurrency": 20_000,
}
HOST_CLASS: dict[str, Any] = {"concurrency_groups": {CONTROL: 2}}  # Ray takes these with the class only


def with_all_cores(settings: Settings) -> Settings:
    """`embed_threads` as a number. Ray sets OMP_NUM_THREADS=1 for actors that ask for no CPU, so torch's own default
    would be one thread."""
    return settings.model_copy(update={"embed_threads": settings.embed_threads or os.cpu_count() or 1})
