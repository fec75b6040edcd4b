import numpy as np
import pytest

from memos_ray.retrieval.bm25 import TextIndex
from memos_ray.retrieval.lexical import lexical
from memos_ray.retrieval.tokens import query_terms

TEXTS = ["Which lake did you swim in?", "The blue one near Lucerne.", "I bought a kayak.", "Lakes are cold."]
BEFORE = np.array([-1, 0, 1, -1])


@pytest.fixture
def index():
    made = TextIndex()
    made.add_many(range(len(TEXTS)), TEXTS)
    return made


def found(index, text, mask=None, names=()):
    shown = np.ones(len(TEXTS), bool) if mask is None else np.array(mask, bool)
    return lexical(index, query_terms(text), names, shown, BEFORE)


def test_alone_it_is_plain_bm25(index):
    everything = np.ones(len(TEXTS), bool)
    for text in ("swim lake", "a cold blue kayak", "nothing of it"):
        expected = index.scores(query_terms(text), everything)
        assert found(index, text).alone == pytest.approx(expected, abs=1e-5)


def test_the_window_is_bm25_over_both_texts_together(index):
    joined = TextIndex()
    joined.add_many(
        range(len(TEXTS)), [f"{TEXTS[b]} {t}" if b >= 0 else t for b, t in zip(BEFORE, TEXTS, strict=True)]
    )
    expected = joined.scores(query_terms("swim blue lake"), np.ones(len(TEXTS), bool))
    assert found(index, "swim blue lake").window == pytest.approx(expected, abs=1e-5)


def test_hidden_messages_are_in_no_view(index):
    scores = found(index, "swim", mask=[0, 1, 1, 1])
    for view in (scores.alone, scores.window, scores.share, scores.window_share, scores.rarest):
        assert not view.any()


def test_shares_and_the_rarest_word(index):
    scores = found(index, "swim lake", names=["swim"])
    assert scores.share[0] == pytest.approx(1)
    assert 0 < scores.share[3] < 0.5
    assert scores.rarest.tolist() == [1, 0, 0, 0]
    assert scores.names.tolist() == [1, 0, 0, 0]


def test_no_terms_and_no_texts(index):
    assert not found(index, "").alone.any()
    assert len(lexical(TextIndex(), ["swim"], (), np.zeros(0, bool), None).alone) == 0
