"""Token vectors: kept and joined; and the eight bits that the packaged model multiplies in."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel

from memos_ray.models import smoothing
from memos_ray.models.encoded import Encoded, TokenRows, Tokens
from memos_ray.models.kept_tokens import kept_tokens
from memos_ray.models.minilm import _runs
from memos_ray.models.minilm_graph import INPUTS, LAYERS, eight_bits


def rows(count, dim=16, seed=0):
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


def test_tokens_of_texts_with_none():
    parts = [TokenRows(np.arange(n, dtype=np.int32), rows(n)) for n in (2, 0, 3)]
    tokens = Tokens.join(parts, 16)
    assert tokens.offsets.tolist() == [0, 2, 2, 5]
    assert len(tokens) == 3
    assert tokens.spans is None
    for i, (ids, vectors, _) in enumerate(parts):
        np.testing.assert_array_equal(tokens.of(i)[0], ids)
        np.testing.assert_array_equal(tokens.of(i)[1], vectors)
    empty = Tokens.join([], 16)
    assert (len(empty), empty.vectors.shape, empty.offsets.tolist()) == (0, (0, 16), [0])


def test_encoded_comes_apart_and_together_again():
    spans = np.zeros((1, 2), np.int32)
    parts = [TokenRows(np.arange(n, dtype=np.int32), rows(n), spans[:n]) for n in (1, 0)]
    tokens = Tokens.join(parts, 16)
    encoded = Encoded(rows(2), tokens)
    again = Encoded.join(list(encoded.rows()), 16, 16)
    np.testing.assert_array_equal(again.vectors, encoded.vectors)
    np.testing.assert_array_equal(again.tokens.vectors, tokens.vectors)
    np.testing.assert_array_equal(again.tokens.spans, spans)
    assert Encoded.join(list(Encoded(rows(2)).rows()), 16, 0).tokens is None
    assert Encoded.join([], 16, 4).tokens.vectors.shape == (0, 4)


def test_kept_tokens():
    words = [
        "[PAD]",
        "[UNK]",
        "cat",
        "##s",
        "!",
        "##.",
        "...",
        "\u3002",
        "don't",
        "7",
        "\u732b",
        "\u2581",
        "\u20ac",
    ]
    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.add_special_tokens([AddedToken("[PAD]", special=True), AddedToken("[UNK]", special=True)])
    kept = [w for w, keep in zip(words, kept_tokens(tokenizer), strict=True) if keep]
    assert kept == ["cat", "##s", "don't", "7", "\u732b", "\u20ac"]


@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 30.0]))
def test_eight_bits_never_overflow_sixteen(seed, outlier):
    matrix = rows(64, 24, seed)
    matrix[seed % 64] *= outlier
    weights, scales = eight_bits(matrix)
    pairs = np.abs(weights.astype(int))
    assert (pairs[0::2] + pairs[1::2]).max() <= 128  # times 255 is below 2**15
    assert np.abs(weights * scales - matrix).max() <= 0.51 * scales.max()


def test_eight_bits_of_a_column_of_zeros():
    weights, scales = eight_bits(np.zeros((4, 2), np.float32))
    assert not weights.any()
    assert (scales > 0).all()


def test_smoothing_comes_with_the_package():
    factors = smoothing.factors()
    assert factors.shape == (LAYERS, sum(INPUTS.values()))
    assert np.isfinite(factors).all()
    assert (factors > 0).all()


def test_smoothing_is_the_paper_s():
    ranges, matrix = np.array([16.0, 1.0], np.float32), np.array([[1.0], [1.0]], np.float32)
    found = smoothing.exponents(ranges, matrix, 0.5)
    assert found.tolist() == [4, -4]  # 16^0.5 = 4 between them, in fourths of a power of two
    assert smoothing.exponents(ranges, matrix[::-1] * [[4.0]], 1.0).tolist() == [8, -8]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(1, 9))
def test_runs_take_every_text_once_and_pad_little(lengths, batch):
    runs = list(_runs(lengths, batch))
    assert sorted(i for run in runs for i in run) == list(range(len(lengths)))
    for run in runs:
        assert len(run) <= batch
        assert len(run) == 1 or len(run) * max(lengths[i] for i in run) <= 512
