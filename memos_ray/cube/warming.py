"""What a process that will hold cubes does before it is given one, so that the first activation is like any other.

The first use of Lance's runtime, of the registry's table handles, of tokenizer, dates and ranker costs some 30 ms of a
first activation and search.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import tempfile

from memos_ray.clock import SystemClock
from memos_ray.config import Settings
from memos_ray.cube.checkpoint_file import CheckpointFolder
from memos_ray.cube.lance_store import LanceStore
from memos_ray.cube.opening import activate
from memos_ray.cube.registry import shared_registry
from memos_ray.cube.vector_store import LanceVectorStore
from memos_ray.errors import MemosError
from memos_ray.ids import new_op_id
from memos_ray.models.batching import BatchingEmbedder
from memos_ray.models.embedder import HashEmbedder

log = logging.getLogger(__name__)

_SAID = (
    "Ada said that the harbour was closed on 3 May.",
    "港口五月三日关闭。",
    "Which harbour? The old one.",
)


def warm_up(settings: Settings) -> None:
    """Holds a cube for a moment, in a temporary folder, and looks at the registry.

    Never raises. Not to be called on an event loop."""
    with contextlib.suppress(MemosError):  # of storage that cannot be reached the first attach will tell
        shared_registry(settings.data).lookup(f"warm-up-{new_op_id()}")
    try:
        with tempfile.TemporaryDirectory(prefix="memos-ray-", ignore_cleanup_errors=True) as folder:
            for _ in range(2):  # the second activation finds a checkpoint
                asyncio.run(_hold_a_cube(settings.model_copy(update={"durability": "process"}), folder))
    except Exception:
        log.warning("this process could not be warmed up", exc_info=True)
    gc.collect()
    gc.freeze()  # what was imported stays for ever: no collection need look at it again


async def _hold_a_cube(settings: Settings, folder: str) -> None:
    cube = await activate(
        settings,
        "warm-up",
        LanceStore(f"{folder}/memories.lance"),
        open_vectors=lambda fingerprint, dim, token_dim: LanceVectorStore(
            f"{folder}/{fingerprint}.lance", dim, token_dim
        ),
        embedder=BatchingEmbedder(HashEmbedder()),
        clock=SystemClock(),
        owner="warm-up",
        checkpoints=CheckpointFolder(f"{folder}/checkpoints"),
    )
    try:
        await cube.add_messages(
            [{"role": "user", "speaker": "Ada", "content": text} for text in _SAID], op_id=new_op_id()
        )
        await cube.search("When did Ada say that the harbour was closed?", top_k=2)
        await cube.checkpoint()
    finally:
        await cube.close()
