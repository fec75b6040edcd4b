"""When: does the memory lie in a time that the query names?

    said   1 if it was said within the time; 0.5 if within a quarter of the time's length after it (at least 3 days),
           as people tell afterwards
    tells  1 if its text tells of such a time, and no far longer one
    time   the higher of the two

A month or season without a year is any year's.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from memos_ray.retrieval.pool import Pool
from memos_ray.retrieval.question import Span
from memos_ray.retrieval.signals import Signals

_DAY = 86_400_000_000
_LONGEST_MONTH = 35 * _DAY


def when(pool: Pool) -> Signals:
    """`said`, `tells`, `time`; 0 for a query without a time."""
    n, question = len(pool), pool.query.question
    said, tells = np.zeros(n, np.float32), np.zeros(n, np.float32)
    if question.timed:
        at = pool.facts.said_at
        for start, end in question.spans:
            after = max(3 * _DAY, (end - start) // 4)
            said[(at >= end) & (at < end + after) & (said < 0.5)] = 0.5
            said[(at >= start) & (at < end)] = 1
        if question.months:
            said[np.isin(_months(at), list(question.months))] = 1
        for i, mentions in enumerate(pool.facts.mentions):
            if any(_tells(m, question.spans, question.months) for m in mentions):
                tells[i] = 1
    return {"said": said, "tells": tells, "time": np.maximum(said, tells)}


def _months(at: np.typing.NDArray[np.int64]) -> np.typing.NDArray[np.int64]:
    """1 to 12, UTC."""
    return at.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64) % 12 + 1


def _tells(mention: Span, spans: tuple[Span, ...], months: frozenset[int]) -> bool:
    start, end = mention
    for first, last in spans:
        if start < last and end > first and end - start <= 4 * max(last - first, 7 * _DAY):
            return True
    return bool(months) and end - start <= _LONGEST_MONTH and _month(start) in months


def _month(at: int) -> int:
    return datetime.fromtimestamp(at / 1e6, UTC).month
