"""One bit a dimension: an exact rotation, the same bytes everywhere, cosines nearly kept."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_ray.errors import Invalid
from memos_ray.retrieval.sketch import Sketcher, code_width, sketcher


def rows(count, dim=384, seed=0):
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def signs(codes, dim):
    return np.unpackbits(codes, axis=1)[:, :dim].astype(np.float32) * 2 - 1


def estimates(maker, queries, vectors):
    codes, scales = maker.sketch(vectors)
    return maker.rotate(queries) @ signs(codes, maker.dim).T * scales.astype(np.float32)


@pytest.mark.parametrize("dim", [1, 2, 3, 7, 128, 384, 385, 768, 1024])
def test_the_rotation_is_orthogonal(dim):
    matrix = Sketcher(dim).rotate(np.eye(dim, dtype=np.float32))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(dim), atol=1e-5)


def test_every_dimension_is_spread_over_all():
    """A vector that lies in one dimension, as outliers of a model nearly do, becomes one like any other."""
    matrix = Sketcher(384).rotate(np.eye(384, dtype=np.float32))
    assert np.abs(matrix).max() < 0.3
    assert (np.abs(matrix) > 0.001).mean() > 0.9


def test_bytes_are_these_on_every_machine():
    vectors = (np.arange(6 * 384).reshape(6, 384) * 7919 % 1009 - 504).astype(np.float32)
    codes, scales = Sketcher(384).sketch(vectors)
    digest = hashlib.sha256(codes.tobytes() + scales.astype("<f2").tobytes()).hexdigest()
    assert digest[:16] == "a637a4c0de9c0325"
    other, _ = Sketcher(384, seed=1).sketch(vectors)
    assert (other != codes).any()


@given(st.integers(1, 700), st.integers(0, 2**32 - 1))
def test_a_code_does_not_depend_on_what_is_sketched_with_it(count, seed):
    vectors = rows(count, 24, seed)
    maker = Sketcher(24)
    codes, scales = maker.sketch(vectors)
    at = seed % count
    alone, scale = maker.sketch(vectors[at : at + 1])
    np.testing.assert_array_equal(alone[0], codes[at])
    assert scale[0] == scales[at]


def test_estimates_are_near_the_cosines_like_those_of_a_random_rotation():
    spread = np.exp(rows(1, seed=5))  # some dimensions count far more than others, as in real models
    vectors, queries = unit(rows(500, seed=1) * spread), unit(rows(40, seed=2) * spread)
    queries[:20] = unit(vectors[:20] + 0.5 * queries[:20])
    expected = queries @ vectors.T
    ours = estimates(Sketcher(384), queries, vectors)
    q, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((384, 384)))
    turned, asked = vectors @ q.T.astype(np.float32), queries @ q.T.astype(np.float32)
    theirs = asked @ np.sign(turned).T * np.abs(turned).mean(1)
    near, like = (np.corrcoef(expected.ravel(), found.ravel())[0, 1] for found in (ours, theirs))
    assert near > 0.95
    assert near > like - 0.01
    # The nearest multiple of the signs is 2/pi as long along the vector as the vector: so are all estimates.
    assert np.polyfit(expected.ravel(), ours.ravel(), 1)[0] == pytest.approx(2 / np.pi, abs=0.03)


def test_length_and_type_do_not_matter():
    vectors, maker = rows(20), Sketcher(384)
    codes, scales = maker.sketch(vectors)
    for same in (vectors * 64, vectors.astype(np.float64), np.asfortranarray(vectors)):
        again, factors = maker.sketch(same)
        np.testing.assert_array_equal(again, codes)
        np.testing.assert_allclose(factors, scales, rtol=1e-3)
    assert codes.shape == (20, 48) == (20, maker.width)
    assert (codes.dtype, scales.dtype) == (np.uint8, np.float16)
    np.testing.assert_allclose(scales * 384**0.5, 0.8, atol=0.05)  # sqrt(2/pi), as of normal numbers


def test_none_and_zero():
    maker = Sketcher(10)
    codes, scales = maker.sketch(np.zeros((2, 10), np.float32))
    assert scales.tolist() == [0, 0]
    assert codes.shape == (2, code_width(10)) == (2, 2)
    assert not maker.rotate(np.zeros((1, 10), np.float32)).any()
    empty, none = maker.sketch(np.empty((0, 10), np.float32))
    assert (empty.shape, none.shape, maker.rotate(np.empty((0, 10))).shape) == ((0, 2), (0,), (0, 10))
    assert sketcher(10) is sketcher(10)


@pytest.mark.parametrize("vectors", [np.zeros((2, 9)), np.zeros(10), np.zeros((1, 2, 10))])
def test_another_shape_is_refused(vectors):
    with pytest.raises(Invalid, match="shape"):
        Sketcher(10).sketch(vectors)
    with pytest.raises(Invalid, match="shape"):
        Sketcher(10).rotate(vectors)
    with pytest.raises(Invalid, match="dim"):
        Sketcher(0)
