"""Late interaction (MaxSim; Khattab and Zaharia, "ColBERT", 2020), weighted by how rare each word of the query is.

With s(t, m) the highest cosine of the query's token t with a token of m, and w(t) the idf of the word that t is of:

    late         = sum w s / sum w
    late_rarest  = the same over the three tokens with the highest w
    late_cover   = sum w clip(4 (s - 0.5), 0, 1) / sum w       how much of the query is said at all
"""

from __future__ import annotations

import numpy as np

from memos_ray.retrieval.pool import Pool
from memos_ray.retrieval.signals import Signals

_RAREST = 3


def late(pool: Pool) -> Signals:
    """The three above; nothing without token vectors."""
    if pool.late is None or pool.weights is None or not len(pool.weights):
        return {}
    weights = pool.weights if pool.weights.sum() > 0 else np.ones_like(pool.weights)
    share = weights / weights.sum()
    rarest = np.argsort(-weights, kind="stable")[:_RAREST]
    return {
        "late": share @ pool.late,
        "late_rarest": (weights[rarest] / weights[rarest].sum()) @ pool.late[rarest],
        "late_cover": share @ np.clip(4 * (pool.late - 0.5), 0, 1),
    }
