"""Who says it: 1 if the speaker whom the query names said this, in the first person at best."""

from __future__ import annotations

import numpy as np

from memos_ray.retrieval.pool import Pool
from memos_ray.retrieval.signals import Signals
from memos_ray.retrieval.traits import TRAITS


def who(pool: Pool) -> Signals:
    """`speaker`, and it crossed with the traits that change its meaning; all 0 if no speaker is named."""
    spoken = np.zeros(len(pool), np.float32) if pool.spoken is None else pool.spoken.astype(np.float32)
    traits = pool.facts.traits
    return {
        "speaker": spoken,
        "speaker*first_person": spoken * traits[:, TRAITS.index("first_person")],
        "speaker*ends_asking": spoken * traits[:, TRAITS.index("ends_asking")],
    }
