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
    """One verb of one cube. `within_s`: how long its caller waits for it; `request_id` names it in logs; `after` is the
    type of the error that the attempt before ended with."""

    cube_id: str
    verb: str
    arguments: Mapping[str, Any]
    request_id: str
    within_s: float
    after: str = ""


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
    wait for their turn, `served` how many were answered since it started, `at` its wall clock, in Unix time.
    """

    name: str
    pid: int
    node_id: str
    cubes: tuple[CubeUse, ...]
    uss_bytes: int
    lag_s: float = 0.0
    waiting: int = 0
    served: int = 0
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node of the cluster. `used_bytes` is what its hosts have for themselves, of `limit_bytes` that they may; `busy`
    how many cores they use; `clock_s` by how much its clock is ahead of the directory's, where a host has told;
    `metrics` is host:port for Prometheus."""

    node_id: str
    cpus: float
    memory_bytes: int
    used_bytes: int
    hosts: int
    cubes: int
    busy: float
    draining: bool
    labels: Mapping[str, str]
    limit_bytes: int = 0
    suspect: bool = False
    clock_s: float = 0.0
    metrics: str = ""


@dataclass(frozen=True, slots=True)
class EmbedderInfo:
    """Which vectors the shared embedder makes. `token_dim` 0: none of tokens."""

    fingerprint: str
    dim: int
    token_dim: int = 0


@dataclass(frozen=True, slots=True)
class EmbedderLoad:
    """What the shared embedder does. `texts_per_s`: over the last seconds; `loaded`: its model is."""

    pid: int
    node_id: str
    loaded: bool
    waiting: int
    texts_per_s: float


@dataclass(frozen=True, slots=True)
class CubeLoad:
    """An active cube. `busy` is the share of a core that it takes, `memory_bytes` about what it takes of its host's."""

    cube_id: str
    host: str
    node_id: str
    items: int
    busy: float
    memory_bytes: int
    idle_s: float


@dataclass(frozen=True, slots=True)
class DirectoryInfo:
    """What the directory says of itself and of the pool. Rates are over the last seconds; `at` is its wall clock, in
    Unix time; `logs` the folder of Ray's logs, the same on every node; `registered` how many cubes the registry has, as
    far as it was read; `given_up` the last hosts that were, and why."""

    pid: int
    node_id: str
    uptime_s: float
    restarts: int
    at: float
    version: str
    ray: str
    python: str
    logs: str
    registered: int
    blank: int
    starting: int
    wanted: int
    calls_per_s: float
    activations_per_s: float
    passivations_per_s: float
    moves_per_s: float
    given_up: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SystemInfo:
    """All that `memos-ray status` shows. `cubes`: the busiest and largest. `embedder` None: it does not answer."""

    nodes: tuple[NodeInfo, ...]
    hosts: tuple[HostInfo, ...]
    cubes: tuple[CubeLoad, ...]
    active: int
    directory: DirectoryInfo
    embedder: EmbedderLoad | None


@dataclass(frozen=True, slots=True)
class Reranking:
    """What a reranker said of texts: (n,) scores, and its fingerprint."""

    scores: NDArray[np.float32]
    fingerprint: str
