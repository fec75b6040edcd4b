"""Which cubes there are, and which incarnation of each is the current one: a row per cube, in Lance.

    records   what is known of a cube, and which values are valid
    rows      records as rows
    table     one table: reading it at a version, and one compare-and-set commit
    group     what comes in at once goes into one commit, each caller getting his own answer
    registry  `Registry`: finds the table of a cube and says what a change means
    columns, indexed_table, index    all of it in memory, for look-ups and listings

A cube's table is one of 64 by hash of its id (`memos_ray.placement.shards`). With a million cubes that is 15,600 rows a
table. A look-up reads the ids of one table: 1.7 ms at 4,000 rows, 2.4 at 16,000, 6 at 62,500 and 12 at 125,000
(two cores, local folder), so fewer tables would make each look-up slower. More would cost a small installation, which
makes each table when its first cube comes (one commit more), and every `refresh` of the index, which looks at all.
"""

from memos_ray.cube.registry.index import RegistryIndex
from memos_ray.cube.registry.records import CubeRecord, Grant, NewCube, Role, State
from memos_ray.cube.registry.registry import Registry, shared_registry

__all__ = [
    "CubeRecord",
    "Grant",
    "NewCube",
    "Registry",
    "RegistryIndex",
    "Role",
    "State",
    "shared_registry",
]
