"""Which logical shard a cube belongs to. One hash for everything that is spread by cube: placement and the registry.

    shard  = the top 10 bits of SHA-256(cube id in UTF-8)          0 … 1023
    table  = the top  6 bits of the same = shard // 16             0 … 63

The same in every process, on every machine and in every release: where a cube's row is depends on it. SHA-256
because ids are chosen by users: nobody can name his cubes so that they meet in one shard.
"""

from __future__ import annotations

import hashlib

SHARDS = 1024
TABLES = 64  # of the registry; how many was measured, see `memos_ray.cube.registry`
SHARDS_PER_TABLE = SHARDS // TABLES


def shard_of(cube_id: str) -> int:
    """The logical shard of a cube, 0 … `SHARDS` - 1."""
    return int.from_bytes(hashlib.sha256(cube_id.encode()).digest()[:2], "big") >> 6


def table_of(cube_id: str) -> int:
    """The registry's table that has the cube's row, 0 … `TABLES` - 1."""
    return shard_of(cube_id) // SHARDS_PER_TABLE
