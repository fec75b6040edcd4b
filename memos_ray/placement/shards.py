"""Which shard a cube belongs to: a fixed number of them, by hash of the id, for ever."""

from __future__ import annotations

import hashlib

SHARDS = 1024
"""Never changes once there are cubes: tables of the registry and hosts of packed cubes are found by shard."""


def shard_of(cube_id: str) -> int:
    """0 to `SHARDS` - 1, evenly: the first two bytes of the id's SHA-256, big-endian, modulo `SHARDS`."""
    return int.from_bytes(hashlib.sha256(cube_id.encode()).digest()[:2], "big") % SHARDS
