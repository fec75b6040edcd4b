"""How far each channel of MiniLM's quantised inputs is made smaller before quantisation.

The factors belong to the weights and come with the package as `minilm_smoothing.npy`, so that every machine makes
the same vectors. `python -m memos_ray.models.smoothing TEXT …` makes the file anew from text files: it needs torch,
and is only of use for other weights.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memos_ray.models.minilm_graph import DIM, INPUTS, LAYERS

FILE = Path(__file__).with_name("minilm_smoothing.npy")
_STEPS = 4  # the file holds powers of 2^(1/4), as int8
_STRENGTH = {"qkv": 0.6, "o": 0.6, "f1": 0.6, "f2": 0.5}
"""How much of a channel's range goes into its weights: the alpha of SmoothQuant, the best of a few by cosine."""


def factors() -> NDArray[np.float32]:
    """(6, 2688), in the order of `INPUTS`."""
    made: NDArray[np.float32] = np.exp2(np.load(FILE).astype(np.float32) / _STEPS)
    return made


def exponents(ranges: NDArray[np.float32], matrix: NDArray[np.float32], strength: float) -> NDArray[np.int8]:
    """(K,) largest absolute values of the channels and the (K, N) matrix they meet -> what the file holds.

    The factor is range^a / weight^(1-a) (SmoothQuant, eq. 4), divided by the geometric mean of all.
    """
    weight = np.maximum(np.abs(matrix).max(1), 1e-5)
    power = strength * np.log2(np.maximum(ranges, 1e-3)) - (1 - strength) * np.log2(weight)
    steps: NDArray[np.int8] = np.clip(np.rint(_STEPS * (power - power.mean())), -120, 120).astype(np.int8)
    return steps


def measure(model: Any, texts: Sequence[str]) -> NDArray[np.int8]:
    """(6, 2688) exponents of a sentence-transformers MiniLM, from what its layers see of `texts`."""
    ranges: dict[str, NDArray[np.float32]] = {}
    mask: list[Any] = []

    def watch(module: Any, key: str) -> Any:
        def seen(_: Any, inputs: Any) -> None:
            rows = inputs[0][mask[0]].abs().amax(0).numpy()
            ranges[key] = np.maximum(ranges.get(key, np.zeros_like(rows)), rows)

        return module.register_forward_pre_hook(seen)

    bert = model[0].auto_model
    hooks, matrices = [], {}
    for i, layer in enumerate(bert.encoder.layer):
        attention = layer.attention
        threes = [attention.self.query, attention.self.key, attention.self.value]
        heads = {"qkv": threes[0], "o": attention.output.dense}
        heads |= {"f1": layer.intermediate.dense, "f2": layer.output.dense}
        hooks += [watch(module, f"{i}{part}") for part, module in heads.items()]
        for part, module in heads.items():
            together = threes if part == "qkv" else [module]
            parts = [m.weight.detach().numpy().T for m in together]
            matrices[f"{i}{part}"] = np.concatenate(parts, 1)
    import torch

    with torch.inference_mode():
        for start in range(0, len(texts), 32):
            features = model.preprocess(list(texts[start : start + 32]))
            mask[:] = [features["attention_mask"].bool()]
            model(features)
    for hook in hooks:
        hook.remove()
    rows = [
        np.concatenate([exponents(ranges[f"{i}{p}"], matrices[f"{i}{p}"], _STRENGTH[p]) for p in INPUTS])
        for i in range(LAYERS)
    ]
    return np.stack(rows)


def _texts(files: Iterable[str]) -> list[str]:
    """Paragraphs and lines of the files, the first words of some as questions, and a few scripts beside."""
    lines = [line for file in files for line in Path(file).read_text().splitlines() if len(line) > 8]
    questions = [line.split(".")[0] + "?" for line in lines[::7]]
    others = ["", "?", "😀 ❤️", "你好,世界 今天天气怎么样", "¿Dónde vive tu hermana?", "Привет, как дела?"]
    return sorted(lines + questions + others, key=len)


if __name__ == "__main__":
    from memos_ray.bench.embedding import load_bare

    made = measure(load_bare(), _texts(sys.argv[1:]))
    assert made.shape == (LAYERS, sum(INPUTS.values())), DIM
    np.save(FILE, made)
