"""F1 and BLEU-1 of an answer against the key, as published evaluations on LoCoMo compute them.

`token_f1` is that of LoCoMo itself (snap-research/locomo, task_eval/evaluation.py): SQuAD's normalisation with "and"
among the articles, Porter stems, bags of tokens; the parts of a multi-hop key are matched one by one; of an open-domain
key only what stands before the first semicolon counts. There the stemmer is NLTK's variant, here Porter's original,
which differs in a few short words ("dies").
`set_f1` is mem0's (mem0ai/mem0, evaluation/metrics/utils.py, after A-Mem's): sets of lower-case words, no stems.
`bleu1` is BLEU-1 of both mem0 and MemOS: NLTK's `sentence_bleu`, weights (1, 0, 0, 0), smoothing method 1, over
`word_tokenize` of lower-case text. NLTK returns 0 where no unigram matches, before it smooths, so for unigrams
smoothing changes nothing. The words are split here by an expression that follows `word_tokenize` in contractions,
hyphens, numbers and punctuation.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from functools import cache

import Stemmer

from memos_ray.bench.locomo_data import CATEGORIES

_MULTI_HOP, _OPEN_DOMAIN = (
    next(n for n, name in CATEGORIES.items() if name == wanted) for wanted in ("multi-hop", "open-domain")
)
_ARTICLES = re.compile(r"\b(a|an|the|and)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SENTENCE_MARKS = str.maketrans(".,!?", "    ")
_WORD = re.compile(r"\w+?(?=n't\b)|n't\b|'(?:s|m|d|ll|re|ve)\b|\d+(?:[.,:]\d+)+|\w+(?:-\w+)*|[^\w\s]")


def token_f1(answer: str, key: str, category: int) -> float:
    """LoCoMo's F1, 0 to 1, of a question of this category (1 to 4)."""
    if category == _OPEN_DOMAIN:
        key = key.split(";")[0].strip()
    if category != _MULTI_HOP:
        return _f1(_stems(answer), _stems(key))
    given = [_stems(part) for part in answer.split(",")]
    wanted = [_stems(part) for part in key.split(",")]
    return sum(max(_f1(mine, theirs) for mine in given) for theirs in wanted) / len(wanted)


def set_f1(answer: str, key: str) -> float:
    """mem0's F1, 0 to 1."""
    mine, theirs = (set(text.lower().translate(_SENTENCE_MARKS).split()) for text in (answer, key))
    return _f1(sorted(mine), sorted(theirs))


def bleu1(answer: str, key: str) -> float:
    """Clipped unigram precision times the brevity penalty of Papineni et al. (2002), 0 to 1."""
    mine, theirs = (_WORD.findall(text.lower()) for text in (answer, key))
    shared = (Counter(mine) & Counter(theirs)).total()
    if not shared:
        return 0.0
    brevity = min(1.0, math.exp(1 - len(theirs) / len(mine)))
    return brevity * shared / len(mine)


def _stems(text: str) -> list[str]:
    bare = _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION))
    stems: list[str] = _stemmer().stemWords(bare.split())
    return stems


@cache
def _stemmer() -> Stemmer.Stemmer:
    return Stemmer.Stemmer("porter")


def _f1(mine: Sequence[str], theirs: Sequence[str]) -> float:
    shared = (Counter(mine) & Counter(theirs)).total()
    if not shared:
        return 0.0
    precision, recall = shared / len(mine), shared / len(theirs)
    return 2 * precision * recall / (precision + recall)
