"""Which Ray cluster is meant: decided here for all, for who joins, `up`, `down`, `status` and `doctor`.

Knows no Ray, so that asking costs nothing.
"""

from __future__ import annotations

import os

from cluster import local_head
from memos_ray.config import Settings

LOCAL = "local"  # a Ray of the process's own, that ends with it


def cluster_address(settings: Settings) -> str | None:
    """`settings.address`, else RAY_ADDRESS, else the head that `up` keeps on this machine; None: there is none yet."""
    return settings.address or os.environ.get("RAY_ADDRESS") or local_head.address()
