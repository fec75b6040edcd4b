"""The packaged model itself, in eight bits, against the same model in float32. Loading torch takes seconds."""

import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from memos_ray.config import Settings
from memos_ray.errors import Invalid, Unavailable
from memos_ray.models import minilm as module
from memos_ray.models import smoothing
from memos_ray.models.batching import BatchingEmbedder
from memos_ray.models.factory import make_embedder
from memos_ray.models.minilm import MiniLM
from memos_ray.models.sentence_transformer import SentenceTransformerEmbedder
from memos_ray.protocols import Embedder

DATA = Path(__file__).parents[2] / "examples" / "data" / "kitchen_handbook.md"
TEXTS = [
    "I adopted a kitten.",
    "We now have a young cat.",
    "Interest rates rose again, said the central bank on Thursday.",
    "What did Jon cook for the wedding?",
    "The train to Lisbon leaves at 7:45 from platform 3, not 4!",
    "他昨天搬到了里斯本,还养了一只猫。",
    "Где живёт твоя сестра?",
    "def f(x): return {k: v ** 2 for k, v in x.items()}",
    "😀❤️ so happy 🎉🎉",
    "a text of some more words than that " * 8,
    "SELECT * FROM memories WHERE id = 'x'; -- 1234567890 0xdeadbeef",
    "!!! ??? ...",
    "",
]


@pytest.fixture(scope="module")
def minilm():
    model = make_embedder(Settings(embedder="minilm", embed_threads=1))
    yield model
    model.close()


@pytest.fixture(scope="module")
def exact():
    model = make_embedder(Settings(embedder="minilm-fp32", embed_threads=1))
    yield model
    model.close()


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def same(a, b):
    np.testing.assert_array_equal(a.vectors, b.vectors)
    for name in ("offsets", "ids", "vectors"):
        np.testing.assert_array_equal(getattr(a.tokens, name), getattr(b.tokens, name))


async def test_vectors_have_meaning_length_and_type(minilm):
    vectors = await minilm.embed(TEXTS)
    assert isinstance(minilm, Embedder)
    assert isinstance(minilm, MiniLM)
    assert vectors.shape == (len(TEXTS), minilm.dim) == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


async def test_eight_bits_are_near_float32(minilm, exact):
    lines = [line for line in DATA.read_text().splitlines() if line.strip()]
    found, expected = await minilm.embed(TEXTS + lines), await exact.embed(TEXTS + lines)
    near = cosines(found, expected)
    assert near.mean() > 0.997
    assert near.min() > 0.98


async def test_tokens_are_near_float32_and_the_same_tokens(minilm, exact):
    found, expected = [await model.encode(TEXTS, tokens=True) for model in (minilm, exact)]
    np.testing.assert_array_equal(found.tokens.offsets, expected.tokens.offsets)
    np.testing.assert_array_equal(found.tokens.ids, expected.tokens.ids)
    near = cosines(found.tokens.vectors, expected.tokens.vectors)
    assert near.mean() > 0.99
    assert near.min() > 0.9
    assert (minilm.token_dim, exact.token_dim) == (384, 384)
    assert cosines(expected.vectors, (await exact.encode(TEXTS)).vectors).min() > 0.99999


async def test_which_tokens_a_text_has(minilm):
    texts = ["Don't stop-me now!", "", "?!", "[SEP] 😀", "unaffable"]
    tokens = (await minilm.encode(texts, tokens=True)).tokens
    names = [[minilm._tokenizer.id_to_token(i) for i in tokens.of(i)[0]] for i in range(len(texts))]
    assert names == [["don", "t", "stop", "me", "now"], [], [], [], ["una", "##ffa", "##ble"]]
    assert tokens.ids.dtype == np.int32
    assert tokens.vectors.dtype == np.float32
    assert tokens.vectors.shape == (8, 384)
    words = [[texts[i][a:b] for a, b in tokens.of(i).spans] for i in range(len(texts))]
    assert words == [["Don", "t", "stop", "me", "now"], [], [], [], ["una", "ffa", "ble"]]


async def test_spans_are_characters_of_the_text_as_it_is(minilm, exact):
    text = "  Na\u00efve \U0001f600 cafe\u0301 \u6c34 at 7:45, Stra\u00dfe "
    for model in (minilm, exact):
        spans = (
            (await model.encode(["x" * 3, text], contexts=["so", "so on"], tokens=True)).tokens.of(1).spans
        )
        assert "".join(text[a:b] for a, b in spans) == "Na\u00efvecafe\u6c34at745Stra\u00dfe"


async def test_a_vector_does_not_depend_on_the_batch_bit_by_bit(minilm):
    together = await minilm.encode(TEXTS, tokens=True)
    for i, text in enumerate(TEXTS):
        alone = await minilm.encode([text], tokens=True)
        np.testing.assert_array_equal(alone.vectors[0], together.vectors[i])
        np.testing.assert_array_equal(alone.tokens.vectors, together.tokens.of(i)[1])
    order = random.Random(3).sample(range(len(TEXTS)), len(TEXTS))
    np.testing.assert_array_equal(await minilm.embed([TEXTS[i] for i in order]), together.vectors[order])


async def test_runs_side_by_side_change_nothing(minilm):
    several = MiniLM(threads=3, batch=2)
    same(*[await model.encode(TEXTS, tokens=True) for model in (several, minilm)])
    several.close()


async def test_ranking_is_that_of_float32(minilm, exact):
    """The best of a hundred sentences is found by both, and near ties apart they agree on the order."""
    lines = [s for line in DATA.read_text().splitlines() for s in line.split(". ") if len(s) > 30][:100]
    questions = [" ".join(reversed(line.split()[:8])) for line in lines[::5]]
    scores = []
    for model in (minilm, exact):
        documents, asked = await model.embed(lines), await model.embed(questions)
        scores.append(asked @ documents.T)
    found, expected = scores
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.95
    for ours, theirs in zip(found, expected, strict=True):
        order = np.argsort(-ours)[:10]
        assert all(theirs[a] > theirs[b] - 0.03 for a, b in pairwise(order))


async def test_thousands_of_texts_in_any_order(minilm):
    rng = random.Random(5)
    words = DATA.read_text().split()
    texts = [" ".join(rng.choices(words, k=rng.randint(0, 6))) for _ in range(2_000)]
    embedder = BatchingEmbedder(minilm, max_batch=64)
    found = await embedder.encode(texts, tokens=True)
    assert found.vectors.shape == (2_000, 384)
    assert len(found.tokens) == 2_000
    for i in rng.sample(range(2_000), 25):
        alone = await minilm.encode([texts[i]], tokens=True)
        np.testing.assert_array_equal(alone.vectors[0], found.vectors[i])
        np.testing.assert_array_equal(alone.tokens.ids, found.tokens.of(i)[0])


async def test_long_texts_are_cut_not_refused(minilm, exact):
    texts = ["word " * 400, "word " * 4000, "x" * 100_000, "人" * 5000]
    found = await minilm.encode(texts, tokens=True)
    np.testing.assert_array_equal(found.vectors[0], found.vectors[1])
    assert np.diff(found.tokens.offsets).tolist() == [
        254,
        254,
        0,
        254,
    ]  # one endless word is unknown as a whole
    assert cosines(found.vectors, await exact.embed(texts)).min() > 0.98


async def test_a_context_changes_what_a_text_means_and_not_its_tokens(minilm):
    text, contexts = "It was great.", ["How was the concert in Porto?", "How was the pasta?", ""]
    found = await minilm.encode([text] * 3, contexts=contexts, tokens=True)
    alone = await minilm.encode([text], tokens=True)
    np.testing.assert_array_equal(found.vectors[2], alone.vectors[0])
    for i in range(3):
        np.testing.assert_array_equal(found.tokens.of(i)[0], alone.tokens.ids)
    music, food = await minilm.embed(["live music", "italian food"])
    assert (found.vectors[0] - found.vectors[1]) @ (music - food) > 0.1


async def test_a_context_gives_way_to_the_text(minilm):
    text = "word " * 400
    long, alone = [await minilm.encode([text], contexts=c, tokens=True) for c in (["before"], None)]
    np.testing.assert_array_equal(long.tokens.vectors, alone.tokens.vectors)
    near, far = [
        await minilm.encode(["Yes."], contexts=[before + "the last words count"], tokens=True)
        for before in ("x " * 400, "y x " * 3 + "x " * 400)
    ]
    same(near, far)  # what is farthest from the text is left out
    empty = await minilm.encode([""], contexts=["something"], tokens=True)
    same(empty, await minilm.encode([""], tokens=True))


async def test_empty_list_and_wrong_input(minilm, exact):
    for model in (minilm, exact):
        assert (await model.embed([])).shape == (0, 384)
        empty = await model.encode([], tokens=True)
        assert (len(empty.tokens), empty.tokens.vectors.shape) == (0, (0, 384))
        with pytest.raises(Invalid):
            await model.embed("text")
        with pytest.raises(Invalid, match="contexts"):
            await model.encode(["a"], contexts=["b", "c"])


def test_the_default_is_a_fraction_of_the_work_and_of_the_imports():
    code = (
        "import sys; from memos_ray.config import Settings; from memos_ray.models.factory import make_embedder;"
        "make_embedder(Settings(embed_threads=1)).close();"
        "assert not {'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fingerprints_name_what_makes_the_vectors(minilm, exact, monkeypatch, tmp_path):
    assert minilm.fingerprint.startswith("all-minilm-l6-v2-int8-")
    assert MiniLM(threads=1).fingerprint == minilm.fingerprint
    assert exact.fingerprint.startswith("all-minilm-l6-v2-")
    assert exact.fingerprint != minilm.fingerprint
    changed = tmp_path / "smoothing.npy"
    np.save(changed, np.load(smoothing.FILE) * 0)
    monkeypatch.setattr(smoothing, "FILE", changed)
    assert MiniLM(threads=1).fingerprint != minilm.fingerprint


def test_another_length_is_another_fingerprint(exact):
    from memos_ray.models.sentence_transformer import model_fingerprint

    again = SentenceTransformerEmbedder()
    assert again.fingerprint == exact.fingerprint
    again._model.max_seq_length = 128
    assert model_fingerprint("all-minilm-l6-v2", again._model) != exact.fingerprint
    again.close()


def test_a_model_that_is_not_there_is_unavailable(monkeypatch, tmp_path):
    with pytest.raises(Unavailable, match="cannot be loaded"):
        make_embedder(Settings(embedder=str(tmp_path)))
    monkeypatch.setattr(module, "_tokenizer", lambda file: (_ for _ in ()).throw(OSError("gone")))
    with pytest.raises(Unavailable, match="gone"):
        make_embedder(Settings())
