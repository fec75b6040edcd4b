"""What this process costs, read from the kernel."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys


def rss_bytes() -> int:
    """Resident set size. Linux: the current one; elsewhere the largest so far."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def uss_bytes() -> int:
    """Unique set size: what would be free if this process ended; shared pages of libraries do not count.

    Linux; elsewhere the resident set. Costs about 1 ms for each 100 MB.
    """
    try:
        with open("/proc/self/smaps_rollup") as rollup:
            private = [line.split()[1] for line in rollup if line.startswith("Private_")]
        return 1024 * sum(map(int, private))
    except OSError:
        return rss_bytes()


def release_memory(*, collect: bool) -> None:
    """Gives back what the allocators keep for later: after something large was let go of. `collect`: look for cycles
    too, which holds everything else up for some 10 ms a 100 MB of objects."""
    if collect:
        gc.collect()
    if (arrow := sys.modules.get("pyarrow")) is not None:
        arrow.default_memory_pool().release_unused()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
        if trim is not None:
            trim(0)
