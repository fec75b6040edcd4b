import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_ray.retrieval import bm25
from memos_ray.retrieval.bm25 import TextIndex
from memos_ray.retrieval.tokens import tokenize

WORDS = ["ada", "dog", "tree", "river", "stone", "cloud", "猫狗", "42", "the"]


def reference(texts: dict[int, str], terms: list[str], mask: np.ndarray) -> dict[int, float]:
    """BM25 as in the textbook, over the slots that the mask shows."""
    bags = {slot: Counter(tokenize(text)) for slot, text in texts.items() if slot < len(mask) and mask[slot]}
    shown = int(mask.sum())
    average = max(1.0, sum(sum(bag.values()) for bag in bags.values()) / max(1, shown))
    scores: dict[int, float] = {}
    for term in terms:
        df = sum(term in bag for bag in bags.values())
        idf = math.log(1 + (shown - df + 0.5) / (df + 0.5))
        for slot, bag in bags.items():
            if tf := bag[term]:
                length = sum(bag.values())
                norm = tf + bm25.K1 * (1 - bm25.B + bm25.B * length / average)
                scores[slot] = scores.get(slot, 0.0) + idf * tf * (bm25.K1 + 1) / norm
    return scores


def check(index: TextIndex, texts: dict[int, str], terms: list[str], mask: np.ndarray) -> None:
    expected = reference(texts, terms, mask)
    slots, scores = index.score(terms, mask, len(mask) + 1)
    assert {int(s): float(v) for s, v in zip(slots, scores, strict=True)} == pytest.approx(
        expected, rel=1e-5, abs=1e-6
    )
    assert (np.diff(scores) <= 0).all()


corpora = st.lists(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), min_size=1, max_size=25)


@given(corpora, st.lists(st.sampled_from(WORDS), min_size=1, max_size=4), st.data())
def test_equals_the_textbook_under_any_mask(texts, query, data):
    index = TextIndex()
    order = data.draw(st.permutations(range(len(texts))))
    cut = data.draw(st.integers(0, len(texts)))
    index.add_many(order[:cut], [texts[i] for i in order[:cut]])
    index.score(["dog"], np.ones(len(texts), bool), 3)  # a query in between freezes what is there
    for slot in order[cut:]:
        index.add(slot, texts[slot])
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts))))
    terms = [term for word in query for term in index.query_terms(word)]
    check(index, dict(enumerate(texts)), terms, mask)
    check(index, dict(enumerate(texts)), terms, np.ones(len(texts), bool))


def test_many_segments_score_like_one(monkeypatch):
    monkeypatch.setattr(bm25, "_SMALL_SEGMENT", 4)
    rng = np.random.default_rng(7)
    texts = [" ".join(rng.choice(WORDS, rng.integers(0, 9))) for _ in range(300)]
    index = TextIndex()
    at = 0
    while at < len(texts):
        step = int(rng.integers(1, 30))
        index.add_many(range(at, min(at + step, len(texts))), texts[at : at + step])
        at += step
        index.matched_terms(0, ["dog"])
    assert len(index._segments) > 1
    mask = rng.random(300) < 0.7
    check(index, dict(enumerate(texts)), ["dog", "river", "42", "nowhere"], mask)


def test_mask_may_be_shorter_or_longer_than_the_index():
    index = TextIndex()
    index.add_many([0, 1, 2], ["a dog", "a cat", "dog dog"])
    assert index.score(["dog"], np.array([True]), 5)[0].tolist() == [0]
    assert set(index.score(["dog"], np.ones(9, bool), 5)[0].tolist()) == {0, 2}


def test_only_the_best_are_returned_and_equal_ones_by_slot():
    index = TextIndex()
    index.add_many(range(5), ["dog house", "dog house", "dog", "house", "dog house"])
    slots, scores = index.score(["dog"], np.ones(5, bool), 3)
    assert slots.tolist() == [2, 0, 1]
    assert scores[1] == scores[2]


def test_nothing_to_find():
    index = TextIndex()
    assert index.score(["dog"], np.zeros(0, bool), 5)[0].size == 0
    index.add(0, "")
    index.add(1, "dog")
    assert index.score(["cat"], np.ones(2, bool), 5)[0].size == 0
    assert index.score([], np.ones(2, bool), 5)[0].size == 0
    assert index.score(["dog"], np.zeros(2, bool), 5)[0].size == 0


def test_matched_terms():
    index = TextIndex()
    index.add_many([3, 1], ["Ada walks two dogs", "nothing"])
    assert index.matched_terms(3, ["dog", "cat", "ada", "dog"]) == ("dog", "ada")
    assert index.matched_terms(1, ["dog"]) == ()
    assert index.matched_terms(0, ["dog"]) == ()
