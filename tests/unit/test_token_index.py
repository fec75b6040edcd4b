"""Tokens by slot against the plainest way to do the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_ray.errors import Invalid
from memos_ray.retrieval.sketch import Sketcher
from memos_ray.retrieval.token_index import TokenIndex

DIM = 20


def sketches(counts, seed=0, dim=DIM):
    vectors = np.random.default_rng(seed).standard_normal((sum(counts), dim)).astype(np.float32)
    return Sketcher(dim).sketch(vectors)


def brute(held, query, slots, dim=DIM):
    """Slot by slot and token by token. `held`: slot -> (codes, scales)."""
    found = np.zeros((len(query), len(slots)), np.float32)
    for j, slot in enumerate(slots):
        codes, scales = held.get(slot, ((), ()))
        for i, row in enumerate(query):
            cosines = [
                float(s) * float(row @ (np.unpackbits(c)[:dim].astype(np.float32) * 2 - 1))
                for c, s in zip(codes, scales, strict=True)
            ]
            found[i, j] = max(cosines, default=0.0)
    return found


steps = st.lists(
    st.dictionaries(st.integers(0, 30), st.integers(0, 5), min_size=0, max_size=12), min_size=1, max_size=12
)


@given(steps, st.integers(0, 5), st.lists(st.integers(0, 40), max_size=20))
def test_whatever_is_set_in_whatever_order_it_is_what_was_set_last(steps, t, asked):
    index, held = TokenIndex(DIM), {}
    for seed, step in enumerate(steps):
        slots, counts = list(step), list(step.values())
        codes, scales = sketches(counts, seed)
        index.set(slots, counts, codes, scales)
        ends = np.cumsum(counts).tolist() if counts else []
        for slot, count, end in zip(slots, counts, ends, strict=True):
            held[slot] = codes[end - count : end], scales[end - count : end]
        assert index.n_tokens == sum(len(s) for _, s in held.values())
        assert len(index._codes) <= max(1024, 2 * index._filled)
        assert index._wasted <= 0.5 * index._filled
    assert len(index) == max(held, default=-1) + 1
    assert np.flatnonzero(index.has).tolist() == sorted(held)
    query = Sketcher(DIM).rotate(np.random.default_rng(t).standard_normal((t, DIM)))
    found = index.maxsim(query, asked)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, brute(held, query, asked), atol=1e-5)
    stored = index.of(asked)
    assert stored.counts.tolist() == [len(held.get(s, ((), ()))[1]) for s in asked]
    again = TokenIndex(DIM)
    once = list(dict.fromkeys(asked))
    part = index.of(once)
    again.set(once, part.counts, part.codes, part.scales)
    np.testing.assert_array_equal(again.maxsim(query, asked), found)


def test_many_tokens_go_in_blocks():
    counts = np.random.default_rng(0).integers(0, 60, 100)
    codes, scales = sketches(counts.tolist(), dim=384)
    index = TokenIndex(384)
    index.set(np.arange(100), counts, codes, scales)
    held, end = {}, np.cumsum(counts)
    for slot in range(100):
        rows = slice(end[slot] - counts[slot], end[slot])
        held[slot] = codes[rows], scales[rows]
    query = Sketcher(384).rotate(np.random.default_rng(1).standard_normal((3, 384)))
    slots = np.random.default_rng(2).permutation(100)
    np.testing.assert_allclose(index.maxsim(query, slots), brute(held, query, slots.tolist(), 384), atol=1e-5)
    assert index.bytes_per_token == 50


def test_the_same_count_is_set_in_place():
    index = TokenIndex(DIM)
    for seed in range(50):
        index.set([3, 1], [4, 2], *sketches([4, 2], seed))
    assert index._filled == index.n_tokens == 6


def test_what_is_not_used_any_more_is_given_back():
    index, held = TokenIndex(DIM), {}
    for seed in range(40):
        count = 1 + seed % 2
        codes, scales = sketches([count] * 3, seed)
        index.set([0, 5, 2], [count] * 3, codes, scales)
        held = {s: (codes[i * count :][:count], scales[i * count :][:count]) for i, s in enumerate([0, 5, 2])}
    assert index._filled <= 2 * index.n_tokens == 12
    query = Sketcher(DIM).rotate(np.ones((1, DIM)))
    np.testing.assert_allclose(index.maxsim(query, range(7)), brute(held, query, list(range(7))), atol=1e-5)


def test_the_best_token_counts_and_a_text_finds_itself():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((40, 384)).astype(np.float32)
    maker, index = Sketcher(384), TokenIndex(384)
    index.set(np.arange(10), [4] * 10, *maker.sketch(vectors))
    scores = index.maxsim(maker.rotate(vectors[8:12] + 0.1 * vectors[:4]), np.arange(10)).sum(0)
    assert scores.argmax() == 2
    assert 0.55 < scores.max() / 4 < 0.7  # 2/pi is what one bit leaves of a vector's cosine with itself


@pytest.mark.parametrize(
    ("slots", "counts", "total", "width"),
    [([1], [1, 2], 3, 3), ([1, 2], [1, 2], 4, 3), ([1], [2], 2, 4), ([1, 2], [3, -1], 2, 3)],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(slots, counts, total, width):
    index = TokenIndex(DIM)
    index.set([0], [1], *sketches([1]))
    with pytest.raises(Invalid):
        index.set(slots, counts, np.zeros((total, width), np.uint8), np.zeros(total, np.float16))
    assert (len(index), index.n_tokens) == (1, 1)
    for query in (np.zeros((1, DIM + 1), np.float32), np.zeros(DIM, np.float32)):
        with pytest.raises(Invalid, match="shape"):
            index.maxsim(query, [0])
    with pytest.raises(Invalid, match="dim"):
        TokenIndex(0)
