"""Hits -> the answer of a search: cut to what was asked for and, if wanted, laid out as text.

This is done where the hits of all cubes have come together: one budget is for all of them, and only the process that
asks needs the tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memos_ray.protocols import TokenCounter
from memos_ray.retrieval.budget import approximate_tokens
from memos_ray.retrieval.packing import pack_hits
from memos_ray.types import SearchHit, SearchHits


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many hits at most, in how many tokens, by which counter, and whether their text is wanted."""

    top_k: int
    budget_tokens: int | None = None
    prompt: bool = False
    count_tokens: TokenCounter = approximate_tokens

    @property
    def is_laid_out(self) -> bool:
        """Whether passages are made at all."""
        return self.prompt or self.budget_tokens is not None


def answer(hits: Sequence[SearchHit], wanted: Wanted) -> SearchHits:
    """Of `hits`, best first, `top_k` or what fits the budget. Without a budget all of these are hits of the answer, but
    a prompt has what they say once."""
    if not wanted.is_laid_out:
        return SearchHits(hits[: wanted.top_k])
    if wanted.budget_tokens is None:
        hits = hits[: wanted.top_k]
    packed = pack_hits(
        hits,
        budget_tokens=wanted.budget_tokens,
        most=wanted.top_k,
        count_tokens=wanted.count_tokens,
    )
    kept = packed.hits if wanted.budget_tokens is not None else hits
    return SearchHits(kept, packed.passages, packed.text if wanted.prompt else None)
