"""Which faults come when: a seeded list, so that a run can be repeated."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """What is done to a running system."""

    ACTOR = "cube actor killed"
    DIRECTORY = "directory killed"
    EMBEDDER = "embedder killed"
    NODE = "raylet killed"
    STALL = "owner stopped, later continued"
    MOVE = "cube moved"  # no fault, but a change under load that must harm as little


SHARES: Mapping[Fault, int] = {
    Fault.ACTOR: 16,
    Fault.DIRECTORY: 8,
    Fault.EMBEDDER: 6,
    Fault.NODE: 6,
    Fault.STALL: 8,
    Fault.MOVE: 6,
}


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault, so long after the system had recovered from the one before."""

    fault: Fault
    after_s: float
    pick: float  # 0 to 1: which of the candidates it hits


def plan(n: int, seed: int, *, shares: Mapping[Fault, int] = SHARES, pause_s: float = 1.5) -> list[Planned]:
    """`n` faults in the given shares (each kind at least once if `n` allows it), in random order."""
    rng = random.Random(seed)
    kinds = [fault for fault, share in shares.items() if share > 0]
    rest = rng.choices(kinds, [shares[k] for k in kinds], k=max(0, n - len(kinds)))
    chosen = kinds[:n] + rest
    rng.shuffle(chosen)
    return [Planned(fault, rng.uniform(0.3, 1.7) * pause_s, rng.random()) for fault in chosen]
