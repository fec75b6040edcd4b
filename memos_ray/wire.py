"""What crosses between the client and the actors. Plain values that pickle by reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from memos_ray.errors import MemosError
from memos_ray.placement.fleet import CubeUse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Reply:
    """A value or an error. Errors travel as values: Ray would wrap a raised one in its own type and traceback."""

    value: Any = None
    error: MemosError | None = None

    def unwrap(self) -> Any:
        """The value; raises the error if there is one."""
        if self.error is not None:
            raise self.error
        return self.value


@dataclass(frozen=True, slots=True)
class Call:
    """One verb of one cube. `within_s`: how long its caller waits for it; `request_id` names it in logs."""

    cube_id: str
    verb: str
    arguments: Mapping[str, Any]
    request_id: str
    within_s: float


@dataclass(frozen=True, slots=True)
class Located:
    """Where a cube is: the handle of its host actor."""

    cube_id: str
    host: Any  # ray.actor.ActorHandle
    host_name: str
    epoch: int


@dataclass(frozen=True, slots=True)
class HostInfo:
    """What a host says of itself. A blank one holds no cubes.

    `uss_bytes` is what only this process has in memory, `lag_s` how late its event loop is, `waiting` how many calls
    wait for their turn.
    """

    name: str
    pid: int
    node_id: str
    cubes: tuple[CubeUse, ...]
    uss_bytes: int
    lag_s: float = 0.0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node of the cluster. `used_bytes` is what its hosts have for themselves, `busy` how many cores they use."""

    node_id: str
    cpus: float
    memory_bytes: int
    used_bytes: int
    hosts: int
    cubes: int
    busy: float
    draining: bool
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EmbedderInfo:
    """Which vectors the shared embedder makes. `token_dim` 0: none of tokens."""

    fingerprint: str
    dim: int
    token_dim: int = 0


@dataclass(frozen=True, slots=True)
class Reranking:
    """What a reranker said of texts: (n,) scores, and its fingerprint."""

    scores: NDArray[np.float32]
    fingerprint: str
