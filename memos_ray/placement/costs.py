"""What things take in a simulation: times as a median and a 99th percentile, sizes, CPU. Drawn with a seed."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

_Z99 = 2.326347874  # of the normal distribution


@dataclass(frozen=True, slots=True)
class Time:
    """Log-normal, by its median and its 99th percentile, in seconds."""

    median: float
    p99: float

    def draw(self, source: random.Random) -> float:
        """One of them."""
        if self.p99 <= self.median:
            return self.median
        return source.lognormvariate(math.log(self.median), math.log(self.p99 / self.median) / _Z99)


@dataclass(frozen=True, slots=True)
class Costs:
    """Of one system on its machines. `from_constants` in `constants.py` gives those that were measured."""

    start: Time  # of a host process, until it is ready
    attach: Time  # of a cube of no items, on a host that is ready
    attach_item_s: float  # more for each item
    drain: Time  # of a cube: what is queued, its checkpoint, letting go
    answer: Time  # of one call of an active cube, as its caller sees it
    locate_s: float  # of the directory's core, for each time it is asked
    tick_cube_s: float  # the same, for each active cube that a host reports
    tick_host_s: float  # the same, for each host that is asked how it is
    search_cpu_s: float
    add_cpu_s: float
    process_bytes: int  # a blank host
    cube_bytes: int  # an active cube of no items
    item_bytes: int  # more for each item
    returned: float = 0.9  # of a cube's memory that its process gives back once it is let go
    node_found_dead_s: float = 13.0  # until the cluster says that a node is gone
