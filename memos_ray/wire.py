"""What crosses between the client and the actors. Plain values that pickle by reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from memos_ray.errors import MemosError

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
class Located:
    """Where a cube is: the handle of its host actor."""

    cube_id: str
    host: Any  # ray.actor.ActorHandle
    host_name: str
    epoch: int


@dataclass(frozen=True, slots=True)
class HostInfo:
    """What a host says of itself. `cube_id` is None for a blank one."""

    name: str
    pid: int
    node_id: str
    cube_id: str | None
    incarnation: str | None
    epoch: int
    rss_bytes: int


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
