"""What indexes keep between activations: restored and grown, they answer as one that was never put away."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memos_ray.cube.checkpoint import prefix
from memos_ray.cube.checkpoint_file import CheckpointFolder
from memos_ray.retrieval.arrays import Saved
from memos_ray.retrieval.bm25 import TextIndex
from memos_ray.retrieval.dense import DenseIndex
from memos_ray.retrieval.neighbours import SessionOrder
from memos_ray.retrieval.query import NameIndex
from memos_ray.retrieval.speakers import SpeakerIndex
from memos_ray.retrieval.token_index import TokenIndex
from memos_ray.retrieval.tokens import FORM, tokenize

TEXTS = [
    "Ada likes tea.",
    "Ben does not like the tea that Ada likes",
    "我上周五搬到了上海",
    "Il fait beau dans la ville",
    "The café of the 3rd street",
    "ok",
    "",
]
EVERYTHING = np.ones(20, np.bool_)


@pytest.fixture
def through_a_file(tmp_path: Path) -> Any:
    """Writes a part and gives what is read."""

    def stored(saved: Saved) -> Saved:
        folder = CheckpointFolder(str(tmp_path))
        folder.write("x", {}, {"part": saved})
        file = folder.open("x")
        assert file is not None
        return file.part("part")

    return stored


@pytest.mark.parametrize("n", range(len(TEXTS) + 1))
def test_a_text_index(through_a_file: Any, n: int):
    whole, begun = TextIndex(), TextIndex()
    for i, text in enumerate(TEXTS):
        whole.add(i, text)
        if i < n:
            begun.add(i, text)
    again = TextIndex.restored(through_a_file(begun.saved()))
    assert len(again) == n
    again.add_many(range(n, len(TEXTS)), TEXTS[n:])
    assert again.vocabulary.n_languages == whole.vocabulary.n_languages
    for query in TEXTS:
        terms = whole.query_terms(query)
        assert again.query_terms(query) == terms
        np.testing.assert_array_equal(again.scores(terms, EVERYTHING), whole.scores(terms, EVERYTHING))
        assert again.matched_terms(1, terms) == whole.matched_terms(1, terms)


def test_names_and_speakers(through_a_file: Any):
    names = NameIndex(["Ada Lovelace", "Ada", "ADA", "café", "上海", "!?"])
    again = NameIndex.restored(through_a_file(names.saved()))
    assert len(again) == len(names)
    assert again.version == names.version
    text = "What did ada lovelace say in 上海 about the Café?"
    assert list(again.find(text)) == list(names.find(text))
    assert len(again.saved()["names"]) == len(names.saved()["names"])

    speakers = SpeakerIndex()
    for slot, (speaker, role) in enumerate([("Ada", "user"), (None, "user"), ("Ben", None), (None, "tool")]):
        speakers.add(slot, speaker, role)
    same = SpeakerIndex.restored(through_a_file(speakers.saved()))
    before = np.array([-1, 0, 1, 2, 3])
    for index in (speakers, same):
        index.add(4, None, "tool")
        assert index.answers(before).tolist() == [-1, 0, 1, 2, -1]
        assert index.spoken_by(["Ben"]).tolist() == [False, False, True, False, False]


def test_session_order(through_a_file: Any):
    order = SessionOrder()
    steps = [("a", None), ("b", "a"), ("c", "b"), ("b", "a"), ("x", "unknown")]
    for slot, (memory_id, follows) in enumerate(steps):
        order.add(slot, memory_id, follows)
    again = SessionOrder.restored(through_a_file(order.saved()))
    for index in (order, again):
        index.add(5, "unknown", "c")
        index.add(6, "a", None)
    mask = np.array([False, True, True, True, True, True, True])
    assert again.previous(mask).tolist() == order.previous(mask).tolist()
    assert [again.place(s) for s in range(7)] == [order.place(s) for s in range(7)]
    assert again.around(2, mask, 3) == order.around(2, mask, 3) != []


def _unit(n: int) -> np.ndarray:
    rows = np.random.default_rng(n).standard_normal((n, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def test_vectors_are_shared_until_they_change(through_a_file: Any):
    rows = _unit(6)
    index = DenseIndex(8)
    index.set([0, 1, 3], rows[:3])
    saved = index.saved()
    kept = np.array(saved["matrix"])
    again = DenseIndex.restored(8, through_a_file(saved))
    index.set([1, 4], rows[3:5])  # what was saved must not change: somebody may be writing it
    np.testing.assert_array_equal(saved["matrix"], kept)
    assert saved["embedded"].tolist() == [True, True, False, True]
    again.set([1, 4], rows[3:5])  # a mapped file cannot be changed
    assert again.embedded.tolist() == index.embedded.tolist()
    np.testing.assert_array_equal(again.scores(rows[5], EVERYTHING), index.scores(rows[5], EVERYTHING))


def test_sketches_are_shared_until_they_change(through_a_file: Any):
    draw = np.random.default_rng(0)

    def some(n: int) -> tuple[np.ndarray, np.ndarray]:
        return draw.integers(0, 256, (n, 2), np.uint8), draw.random(n).astype(np.float16)

    index = TokenIndex(12)
    index.set([0, 2, 3], [2, 3, 0], *some(5))
    saved = index.saved()
    kept = np.array(saved["codes"])
    again = TokenIndex.restored(12, through_a_file(saved))
    same, other, new = some(2), some(1), some(2)
    for one in (index, again):
        one.set([0], [2], *same)  # in place
        one.set([2], [1], *other)
        one.set([7], [2], *new)
    np.testing.assert_array_equal(saved["codes"], kept)
    slots = np.arange(8)
    for name in ("counts", "codes", "scales"):
        np.testing.assert_array_equal(getattr(again.of(slots), name), getattr(index.of(slots), name))
    assert again.n_tokens == index.n_tokens
    assert again.has.tolist() == index.has.tolist()


MAKERS = [TextIndex.restored, NameIndex.restored, SpeakerIndex.restored, SessionOrder.restored]


@pytest.mark.parametrize(
    "make", [lambda s: DenseIndex.restored(8, s), lambda s: TokenIndex.restored(8, s), *MAKERS]
)
def test_what_is_none_is_refused(make: Any):
    with pytest.raises((KeyError, TypeError, ValueError)):
        make({"matrix": np.zeros((2, 3), np.float32), "embedded": np.ones(2, np.bool_), "terms": ["a"]})


def test_a_prefix_is_of_rows_in_their_order():
    one = prefix(np.array([1, 1, 2]), np.array([1, 2, 3]))
    assert one.rows == 3
    assert one == prefix(np.array([1, 1, 2], np.int32), np.array([1, 2, 3]))
    assert one.digest != prefix(np.array([1, 1, 3]), np.array([1, 2, 3])).digest
    assert one.digest != prefix(np.array([1, 2, 1]), np.array([1, 3, 2])).digest


def test_other_terms_have_another_form():
    """Who changes what `tokenize` gives must give `FORM` another name: stored text indexes are told apart by it."""
    terms = [tokenize(text) for text in [*TEXTS, "naïve Bäume 東京タワー ЁЛКА running runs 1st ไทย don't"]]
    known = {"terms-1": "0b72121077041fc1"}
    assert known[FORM] == hashlib.sha256(repr(terms).encode()).hexdigest()[:16]
