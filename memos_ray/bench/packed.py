"""Prompts of a number of tokens: what `memos-ray bench locomo --budget-tokens` asks for and checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from memos_ray.bench import metrics
from memos_ray.bench.locomo_data import CATEGORIES, Conversation
from memos_ray.bench.report import Report
from memos_ray.config import Settings
from memos_ray.models.token_counter import token_counter
from memos_ray.protocols import TokenCounter
from memos_ray.retrieval.budget import approximate_tokens
from memos_ray.types import SearchHits


@dataclass(frozen=True, slots=True)
class Packing:
    """A budget, and what counts it (`tokenizer` None: the approximation)."""

    budget_tokens: int
    tokenizer: str | None
    count_tokens: TokenCounter

    @classmethod
    def read(cls, budget_tokens: int, tokenizer: str | None) -> Packing:
        """None: the setting's, as a search without one takes it. Raises `Invalid` if there is no such tokenizer."""
        tokenizer = tokenizer or Settings().tokenizer
        return cls(budget_tokens, tokenizer, token_counter(tokenizer) if tokenizer else approximate_tokens)

    def shown(self, found: SearchHits) -> dict[str, Any]:
        """What the reader gets, as part of a query's result: the passages of the prompt, in its order, and how many
        tokens it has with what is between them."""
        items = [
            {"text": passage.text, "sources": [source.turn for source in passage.sources if source.turn]}
            for passage in found.passages
        ]
        return {"items": items, "tokens": self.count_tokens(found.prompt or "")}


def fill_packed(
    report: Report, conversations: Sequence[Conversation], queries: Sequence[dict[str, Any]], packing: Packing
) -> None:
    """Recall of the evidence in whole prompts, by category, and whether each kept its budget."""
    budget = packing.budget_tokens
    prompts = {query["qid"]: [item["sources"] for item in query["items"]] for query in queries}
    asked = [q for c in conversations for q in c.questions if q.gold]
    sets = {"categories 1-4": (1, 2, 3, 4), **{name: (c,) for c, name in CATEGORIES.items()}}
    for name, categories in sets.items():
        found = [
            metrics.recall(items, q.gold, len(items))
            for q in asked
            if q.category in categories
            for items in [prompts.get(q.id, [])]
        ]
        if found:
            value = 100 * sum(found) / len(found)
            report.figure(f"{name} recall@{budget}t", value, "%", note=f"n={len(found)}")
    tokens = [query["tokens"] for query in queries]
    if tokens:
        report.figure("tokens of a prompt", sum(tokens) / len(tokens), "tokens", note="the mean")
        report.check(
            f"no prompt has more than {budget} tokens", max(tokens) <= budget, f"the longest: {max(tokens)}"
        )
