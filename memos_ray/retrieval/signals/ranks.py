"""Where a candidate stands in each ranking: 10 / (10 + rank), rank 0 being the first (Cormack et al., 2009)."""

from __future__ import annotations

import numpy as np

from memos_ray.retrieval.signals import Signal, Signals

_OF = ("late", "dense", "bm25", "window")
_K = 10


def ranks(found: Signals) -> Signals:
    """`rank_x` for the signals that are rankings of their own."""
    return {f"rank_{name}": reciprocal(found[name]) for name in _OF if name in found}


def reciprocal(values: Signal) -> Signal:
    """`values` -> 10 / (10 + rank); equal ones rank by position."""
    rank = np.empty(len(values), np.float32)
    rank[np.argsort(-values, kind="stable")] = np.arange(len(values))
    return (_K / (_K + rank)).astype(np.float32)
