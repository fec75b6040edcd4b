"""What one query is ranked among: the candidates, and what is known of each before the signals are computed.

Everything is an array over the candidates ("(n,)"), or over all slots where neighbours outside the candidates
matter. No storage, no objects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memos_ray.retrieval.arrays import Mask, Scores, Slots
from memos_ray.retrieval.lexical import Lexical
from memos_ray.retrieval.query import ParsedQuery
from memos_ray.retrieval.question import Span


@dataclass(frozen=True, slots=True)
class Facts:
    """What the slots asked about are: `said_at` (n,) microseconds UTC, `traits` (n, len(TRAITS)), zeros for what is no
    message, `session` (n,) a number per session or document, -1 for none, `mentions` the times that each text tells of,
    `message` (n,) whether it is one."""

    said_at: NDArray[np.int64]
    traits: NDArray[np.float32]
    session: NDArray[np.int64]
    mentions: tuple[tuple[Span, ...], ...]
    message: Mask


@dataclass(frozen=True, slots=True)
class Pool:
    """`slots` (n,) ascending. `dense` (all slots,) cosines, -inf where there is none, or None. `late` (tokens, n): for
    every token of the query the highest cosine in the candidate, `weights` (tokens,) their idf; None without token
    vectors. `vectors` (n, dim) of the candidates, zeros where there is none. `before`/`after` (n,): the slots around in
    its session, or -1. `spoken` (n,): said by whom the query names, None if it names nobody."""

    query: ParsedQuery
    slots: Slots
    lexical: Lexical
    facts: Facts
    facts_before: Facts
    before: Slots
    after: Slots
    dense: Scores | None = None
    vectors: NDArray[np.float32] | None = None
    late: NDArray[np.float32] | None = None
    weights: NDArray[np.float32] | None = None
    spoken: Mask | None = None

    def __len__(self) -> int:
        return len(self.slots)

    def at(self, values: Scores) -> Scores:
        """Values of all slots -> those of the candidates; what is beyond, or -inf, is 0."""
        return at_slots(values, self.slots)


def at_slots(values: Scores, slots: Slots) -> Scores:
    """`values[slots]`, with 0 for slot -1, for slots beyond and for what is not finite."""
    found = np.zeros(len(slots), np.float32)
    inside = (slots >= 0) & (slots < len(values))
    found[inside] = values[slots[inside]]
    found[~np.isfinite(found)] = 0
    return found
