"""What the messages around score: an answer stands next to what it answers.

A signal x of the message before and the one after, as `before_x` and `after_x`. Messages without one around get the
candidates' mean, which says nothing either way.
"""

from __future__ import annotations

import numpy as np

from memos_ray.retrieval.arrays import Scores, Slots
from memos_ray.retrieval.pool import Pool, at_slots
from memos_ray.retrieval.signals import Signal, Signals


def around(pool: Pool, found: Signals) -> Signals:
    """Of `dense`, `share`, `window_share` over all slots; of `late` among the candidates."""
    result: dict[str, Signal] = {}
    full: dict[str, Scores] = {"share": pool.lexical.share}
    if pool.dense is not None:
        full["dense"] = pool.dense
    for way, slots in (("before", pool.before), ("after", pool.after)):
        there = slots >= 0
        for name, values in full.items():
            result[f"{way}_{name}"] = np.where(there, at_slots(values, slots), found[name].mean())
        if "late" in found:
            result[f"{way}_late"] = _of_candidates(found["late"], pool.slots, slots)
    result["after_window_share"] = np.where(
        pool.after >= 0, at_slots(pool.lexical.window_share, pool.after), found["window_share"].mean()
    )
    return result


def _of_candidates(values: Signal, slots: Slots, wanted: Slots) -> Signal:
    at = np.minimum(np.searchsorted(slots, wanted), len(slots) - 1)
    found: Signal = np.where(slots[at] == wanted, values[at], values.mean())
    return found.astype(np.float32, copy=False)
