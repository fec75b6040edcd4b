import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_ray.retrieval.arrays import best
from memos_ray.retrieval.fuse import fuse

rankings = st.dictionaries(
    st.sampled_from(["a", "b", "c"]), st.lists(st.integers(0, 30), unique=True, max_size=20), max_size=3
)


@given(rankings, st.floats(1, 100))
def test_is_the_formula(ranked, k):
    weights = {"a": 2.0, "b": 0.5}
    slots, scores = fuse({name: np.array(r, np.intp) for name, r in ranked.items()}, weights, k)
    expected: dict[int, float] = {}
    for name, r in ranked.items():
        for rank, slot in enumerate(r, 1):
            expected[slot] = expected.get(slot, 0.0) + weights.get(name, 1.0) / (k + rank)
    assert dict(zip(slots.tolist(), scores.tolist(), strict=True)) == pytest.approx(expected, rel=1e-5)
    assert (np.diff(scores) <= 0).all()


def test_equal_scores_rank_by_slot_and_weight_zero_is_out():
    slots, _ = fuse({"a": np.array([7]), "b": np.array([3]), "c": np.array([1])}, {"c": 0.0})
    assert slots.tolist() == [3, 7]


def test_nothing():
    assert fuse({})[0].size == 0
    assert fuse({"a": np.array([], np.intp)})[0].size == 0


@given(st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 1.0, 2.0]), max_size=30), st.integers(0, 40))
def test_best_is_a_stable_sort(values, k):
    array = np.array(values, np.float32)
    slots, scores = best(array, k, above=-0.5)
    expected = sorted((i for i, v in enumerate(values) if v > -0.5), key=lambda i: (-values[i], i))[:k]
    assert slots.tolist() == expected
    assert scores.tolist() == [values[i] for i in expected]
