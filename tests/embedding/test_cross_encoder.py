"""A real cross-encoder with random weights: how it is called, not what it is worth."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from memos_ray.config import Settings
from memos_ray.errors import Invalid, Overloaded, Unavailable
from memos_ray.models.cross_encoder import CrossEncoderReranker
from memos_ray.models.factory import make_reranker, reranker_from_hub
from memos_ray.protocols import Reranker

TEXTS = ["tea", "a much longer text about coffee " * 9, "", "milk", "tea"]


@pytest.fixture(scope="module")
def model(cross_encoder_folder: Path) -> Iterator[CrossEncoderReranker]:
    model = CrossEncoderReranker(str(cross_encoder_folder), batch=2)
    yield model
    model.close()


async def test_scores_are_the_models_and_in_order(model: CrossEncoderReranker, cross_encoder_folder: Path):
    import torch
    from sentence_transformers import CrossEncoder

    scores = await model.rerank("what is there to drink?", TEXTS)
    plain = CrossEncoder(str(cross_encoder_folder), device="cpu", local_files_only=True)
    alone = [
        plain.predict([("what is there to drink?", t)], activation_fn=torch.nn.Identity())[0] for t in TEXTS
    ]
    np.testing.assert_allclose(scores, alone, atol=1e-4)
    assert (scores.dtype, scores.shape) == (np.float32, (5,))
    assert np.ptp(scores) > 0.01  # else the above says nothing
    assert scores.max() > 1 or scores.min() < 0  # no sigmoid
    other = await model.rerank("something else entirely", TEXTS)
    assert not np.allclose(scores, other, atol=1e-3)


async def test_no_text_bad_text_and_long_text(model: CrossEncoderReranker):
    assert (await model.rerank("q", [])).shape == (0,)
    with pytest.raises(Invalid, match="texts"):
        await model.rerank("q", [1])  # type: ignore[list-item]
    with pytest.raises(Invalid, match="query"):
        await model.rerank("\ud800", ["x"])
    assert np.isfinite(await model.rerank("q" * 60_000, ["x" * 200_000, "你好"])).all()


async def test_callers_queue_and_too_many_are_told(cross_encoder_folder: Path):
    model = CrossEncoderReranker(str(cross_encoder_folder), queue_limit=4)
    calls = [asyncio.create_task(model.rerank("q", ["a", "b", "c"])) for _ in range(2)]
    first, second = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(second, Overloaded)
    np.testing.assert_array_equal(await model.rerank("q", ["a", "b", "c"]), first)
    assert len(await model.rerank("q", ["a"] * 9)) == 9  # a single call is never too long
    model.close()


async def test_the_fingerprint_follows_the_weights(
    model: CrossEncoderReranker, cross_encoder_folder: Path, tmp_path: Path
):
    assert model.fingerprint.startswith("cross-encoder-tiny-reranker-")
    same = make_reranker(Settings(reranker=f"cross-encoder:{cross_encoder_folder}"))
    assert isinstance(same, Reranker)
    assert same.fingerprint == model.fingerprint
    other = tmp_path / "tiny-reranker"
    shutil.copytree(cross_encoder_folder, other)
    from safetensors.numpy import load_file, save_file

    weights = load_file(other / "model.safetensors")
    weights["classifier.bias"] = weights["classifier.bias"] + 1
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    assert CrossEncoderReranker(str(other)).fingerprint != model.fingerprint


def test_a_model_that_is_no_reranker(cross_encoder_folder: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    named = Settings(reranker=f"cross-encoder:{tmp_path / 'empty'}")
    assert not reranker_from_hub(named)
    with pytest.raises(Unavailable, match="cannot be loaded"):
        make_reranker(named)
    several = tmp_path / "several"
    shutil.copytree(cross_encoder_folder, several)
    config = json.loads((several / "config.json").read_text())
    labels = {str(i): f"LABEL_{i}" for i in range(3)}
    config |= {"id2label": labels, "label2id": {v: int(k) for k, v in labels.items()}}
    (several / "config.json").write_text(json.dumps(config))
    from safetensors.numpy import load_file, save_file

    weights = load_file(several / "model.safetensors")
    weights["classifier.weight"] = np.repeat(weights["classifier.weight"], 3, axis=0)
    weights["classifier.bias"] = np.repeat(weights["classifier.bias"], 3)
    save_file(weights, several / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Unavailable, match="3 outputs"):
        CrossEncoderReranker(str(several))
