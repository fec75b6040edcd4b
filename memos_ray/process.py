"""What this process costs, read from the kernel."""

from __future__ import annotations

import contextlib
import ctypes
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


def give_back_memory() -> None:
    """Returns what allocators keep of freed memory to the system: Arrow's, and glibc's, which Lance reads into."""
    import pyarrow

    pyarrow.default_memory_pool().release_unused()
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)
