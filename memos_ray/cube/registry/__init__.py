"""Which cubes there are: a row per cube, in 64 Lance tables by hash of the id."""

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
