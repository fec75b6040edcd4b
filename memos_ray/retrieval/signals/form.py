"""The form of a message against the form of the question: a "when" wants a date, a "who" a name (`traits`, `question`).

All 0 for what is no message.
"""

from __future__ import annotations

import numpy as np

from memos_ray.retrieval.pool import Pool
from memos_ray.retrieval.question import KINDS, OTHER
from memos_ray.retrieval.signals import Signal, Signals
from memos_ray.retrieval.traits import ENDS_ASKING, TRAITS

_CROSSED = (
    ("when", "dated"), ("when", "length"), ("when", "opens"), ("how many", "number"), ("how long", "dated"),
    ("how long", "number"), ("where", "name"), ("who", "name"), ("which", "name"), ("which", "quote"),
    ("what", "note"), ("what", "quote"), ("why", "first_person"), ("how", "first_person"),
    ("listing", "note"), ("listing", "length"), ("listing", "name"), ("timed", "dated"),
)  # fmt: skip


def form(pool: Pool) -> Signals:
    """The traits themselves, and those of `_CROSSED` where the question is of that kind."""
    n, message = len(pool), pool.facts.message
    columns: dict[str, Signal] = {name: pool.facts.traits[:, i] for i, name in enumerate(TRAITS)}
    columns["dated"] = np.fromiter((bool(m) for m in pool.facts.mentions), np.float32, n) * message
    columns["opens"] = ((pool.before < 0) & message).astype(np.float32)
    columns["answers"] = pool.facts_before.traits[:, ENDS_ASKING] * (pool.before >= 0)
    question = pool.query.question
    asked = {kind: float(question.kind == kind) for kind in (*KINDS, OTHER)}
    asked |= {"listing": float(question.listing), "timed": float(question.timed)}
    result = {f"form_{name}": values.astype(np.float32, copy=False) for name, values in columns.items()}
    result.update({f"{kind}*{name}": asked[kind] * columns[name] for kind, name in _CROSSED})
    return result
