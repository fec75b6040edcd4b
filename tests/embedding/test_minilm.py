"""The packaged model itself. Loading torch takes seconds, so this is not among the unit tests."""

import numpy as np
import pytest

from memos_ray.config import Settings
from memos_ray.errors import Invalid, Unavailable
from memos_ray.models.factory import make_embedder
from memos_ray.models.sentence_transformer import SentenceTransformerEmbedder
from memos_ray.protocols import Embedder


@pytest.fixture(scope="module")
def minilm():
    model = make_embedder(Settings(embedder="minilm", embed_threads=1))
    yield model
    model.close()


async def test_vectors_have_meaning_length_and_type(minilm):
    texts = ["I adopted a kitten.", "We now have a young cat.", "Interest rates rose again.", ""]
    vectors = await minilm.embed(texts)
    assert isinstance(minilm, Embedder)
    assert vectors.shape == (4, minilm.dim) == (4, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


async def test_batches_do_not_change_vectors(minilm):
    texts = ["short", "a text of some more words than that " * 8, "你好"]
    together = await minilm.embed(texts)
    alone = np.concatenate([await minilm.embed([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


async def test_long_texts_are_cut_not_refused(minilm):
    vectors = await minilm.embed(["word " * 400, "word " * 4000])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)


async def test_empty_list_and_wrong_input(minilm):
    assert (await minilm.embed([])).shape == (0, 384)
    with pytest.raises(Invalid):
        await minilm.embed("text")


def test_fingerprint_names_the_model_and_stays(minilm):
    assert minilm.fingerprint.startswith("all-minilm-l6-v2-")
    again = SentenceTransformerEmbedder()
    assert again.fingerprint == minilm.fingerprint
    again._model.max_seq_length = 128
    from memos_ray.models.sentence_transformer import _fingerprint

    assert _fingerprint("all-minilm-l6-v2", again._model) != minilm.fingerprint
    again.close()


def test_a_folder_without_a_model_is_unavailable(tmp_path):
    with pytest.raises(Unavailable, match="cannot be loaded"):
        make_embedder(Settings(embedder=str(tmp_path)))
