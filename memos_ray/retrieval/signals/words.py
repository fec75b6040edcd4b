"""The query's words, in the memory alone and together with the message before it (`lexical`).

BM25 is taken twice: relative to the best of this query (which of them), and as a logarithm (whether any is good).
"""

from __future__ import annotations

import numpy as np

from memos_ray.retrieval.arrays import Scores
from memos_ray.retrieval.pool import Pool
from memos_ray.retrieval.signals import Signal, Signals

_LOG_SCALE = 3  # brings logarithms of BM25 near 1


def words(pool: Pool) -> Signals:
    """`bm25`, `window` and their logarithms, `share`, `window_share`, `rarest`, `names`: see `Lexical`."""
    found = pool.lexical
    alone, window = pool.at(found.alone), pool.at(found.window)
    signals: dict[str, Signal] = {
        "bm25": _relative(alone, found.alone),
        "bm25_log": _log(alone),
        "window": _relative(window, found.window),
        "window_log": _log(window),
        "share": pool.at(found.share),
        "window_share": pool.at(found.window_share),
        "rarest": pool.at(found.rarest),
        "names": pool.at(found.names),
    }
    return signals


def _relative(scores: Scores, everywhere: Scores) -> Scores:
    return scores / max(1e-6, float(everywhere.max(initial=0)))


def _log(scores: Scores) -> Scores:
    return (np.log1p(scores) / _LOG_SCALE).astype(np.float32)
