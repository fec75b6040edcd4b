"""Signals that mean more together, and those that weigh otherwise where a question wants a list or names a time."""

from __future__ import annotations

from memos_ray.retrieval.pool import Pool
from memos_ray.retrieval.signals import Signal, Signals

_BY_QUESTION = ("late", "dense", "window_share", "speaker", "session_late")
_TOGETHER = (("late", "share"), ("late", "time"), ("dense", "share"), ("dense", "time"))


def crossed(pool: Pool, found: Signals) -> Signals:
    """Products; those of signals that are missing are left out. `late` and `dense` count from their mean."""
    question = pool.query.question
    centred = {
        name: found[name] - found[name].mean() for name in ("late", "dense", "session_late") if name in found
    }
    values = {**found, **centred}
    result: dict[str, Signal] = {
        f"{one}*{other}": values[one] * values[other]
        for one, other in _TOGETHER
        if one in found and other in found
    }
    for flag, on in (("listing", question.listing), ("timed", question.timed)):
        result.update({f"{flag}*{name}": values[name] * float(on) for name in _BY_QUESTION if name in found})
    return result
