"""How good the rest of the session (or the document) is: evidence for one question stands together.

session_x = mean of x over the session's three best candidates; fewer are filled up with the lowest x
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memos_ray.retrieval.pool import Pool
from memos_ray.retrieval.signals import Signal, Signals

_BEST = 3
_OF = ("late", "dense", "window_share")


def agreement(pool: Pool, found: Signals) -> Signals:
    """`session_late`, `session_dense`, `session_window_share`; what stands in no session has its own value."""
    return {
        f"session_{name}": best_of_session(found[name], pool.facts.session) for name in _OF if name in found
    }


def best_of_session(values: Signal, session: NDArray[np.int64]) -> Signal:
    """The formula above for every candidate."""
    if not len(values):
        return values
    order = np.lexsort((-values, session))
    ordered = session[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    group = np.cumsum(np.r_[True, ordered[1:] != ordered[:-1]]) - 1
    rank = np.arange(len(order)) - first[group]
    kept = np.where(rank < _BEST, values[order], 0)
    sums = np.add.reduceat(kept, first)
    missing = _BEST - np.minimum(_BEST, np.diff(np.r_[first, len(order)]))
    means = (sums + missing * values.min()) / _BEST
    result = np.empty(len(values), np.float32)
    result[order] = means[group]
    alone = session < 0
    result[alone] = values[alone]
    return result
