import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_ray.errors import Invalid
from memos_ray.retrieval.dense import DenseIndex


def unit(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    rows = rng.standard_normal((n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@given(st.integers(0, 2**32), st.integers(1, 200), st.sampled_from([0.02, 0.3, 1.0]), st.integers(1, 50))
def test_equals_brute_force_under_any_mask(seed, n, share, k):
    rng = np.random.default_rng(seed)
    vectors, query = unit(rng, n, 8), unit(rng, 1, 8)[0]
    index = DenseIndex(8)
    has = rng.random(n) < 0.8
    for part in np.array_split(rng.permutation(np.flatnonzero(has)), 3):
        index.set(part, vectors[part])
    mask = rng.random(n) < share
    slots, scores = index.search(query, mask, k)
    allowed = np.flatnonzero(mask & has)
    expected = np.sort(vectors[allowed] @ query)[::-1][:k]
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    np.testing.assert_allclose(vectors[slots] @ query, scores, atol=1e-6)
    assert set(slots) <= set(allowed)
    assert index.embedded.tolist() == has[: len(index)].tolist()


def test_a_row_can_be_replaced():
    index = DenseIndex(2)
    index.set([0, 1], np.array([[1, 0], [0, 1]], np.float32))
    index.set([0], np.array([[0, 1]], np.float32))
    slots, _ = index.search(np.array([0, 1], np.float32), np.ones(2, bool), 5)
    assert slots.tolist() == [0, 1]
    assert index.vectors([0]).tolist() == [[0.0, 1.0]]


def test_empty_index_and_empty_mask():
    index = DenseIndex(2)
    query = np.array([1, 0], np.float32)
    assert index.search(query, np.ones(3, bool), 5)[0].size == 0
    index.set([4], np.array([[1, 0]], np.float32))
    assert index.search(query, np.zeros(5, bool), 5)[0].size == 0
    assert index.search(query, np.ones(2, bool), 5)[0].size == 0
    assert index.search(query, np.ones(9, bool), 5)[0].tolist() == [4]


def test_wrong_shapes_are_refused():
    index = DenseIndex(3)
    with pytest.raises(Invalid, match="shape"):
        index.set([0, 1], np.zeros((1, 3), np.float32))
    with pytest.raises(Invalid, match="shape"):
        index.search(np.zeros(2, np.float32), np.ones(1, bool), 1)
    with pytest.raises(Invalid, match="dim"):
        DenseIndex(0)
