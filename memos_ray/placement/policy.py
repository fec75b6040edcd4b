"""The bounds that decisions about placement keep to. Plain numbers, derived from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from memos_ray.config import Settings


@dataclass(frozen=True, slots=True)
class Policy:
    """Times in seconds, sizes in bytes; shares are of one node's memory, or of one core."""

    cubes_per_actor: int = 1
    warm_min: int = 1  # blank hosts kept ready, whatever happens…
    warm_max: int = 8  # …and at most, while activations come quickly
    start_s: float = 3.0  # how long a host process takes to start: what the pool has to bridge
    starts_per_cpu: float = (
        1.0  # hosts that start at once on a node, at least two: more would all start slower
    )
    idle_s: float = 900.0  # a cube that nobody has called for so long is passivated
    rest_s: float = 60.0  # a cube that was moved, or has just come up, is left where it is
    memory_share: float = 0.6  # of a node's memory that hosts may take
    relieve_to: float = 0.85  # of that share: so far down passivation goes once it is exceeded
    own_items: int = 20_000  # a cube with more versions gets a process of its own…
    own_busy: float = 0.4  # …and so does one that keeps a core busy by more than this share
    attaches: int = 4  # at once in a packed host: they take its core in turns, so that more would wait for it
    full_busy: float = 0.8  # a packed host that is busier gives cubes away
    spread: float = 0.2  # difference of node loads that is left alone
    changes: int = 8  # passivations and moves begun in one tick, each
    suspect_s: float = 30.0  # a node that lost a host by falling silent gets no new ones for so long
    labels: Mapping[str, str] = field(default_factory=dict)  # nodes that may hold cubes have all of these

    @classmethod
    def from_settings(cls, settings: Settings) -> Policy:
        """The placement's part of the settings."""
        return cls(
            cubes_per_actor=settings.cubes_per_actor,
            warm_min=settings.warm_actors,
            warm_max=max(settings.warm_actors, settings.warm_actors_max),
            idle_s=settings.idle_s,
            memory_share=settings.memory_share,
            own_items=settings.own_actor_items,
            full_busy=settings.full_busy,
            changes=settings.changes_per_tick,
            labels=settings.host_labels,
        )
