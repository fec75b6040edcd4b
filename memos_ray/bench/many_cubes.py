"""Thousands of cubes with data, in seconds: a few are really written, and the rest share their files by hard links.

A journal does not name its cube, and Lance never changes a file, so that each copy is a cube of its own from its first
commit on. What cannot be measured on them is a cold disk: they share what the page cache holds.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from memos_ray.bench.synthetic import Synthetic, SyntheticEmbedder
from memos_ray.clock import SystemClock
from memos_ray.config import Settings
from memos_ray.cube.checkpoint_file import CheckpointFolder
from memos_ray.cube.opening import activate, journal_store
from memos_ray.cube.paths import checkpoints_path, incarnation_folder, vectors_path
from memos_ray.cube.vector_store import LanceVectorStore, VectorStore
from memos_ray.ids import new_op_id


class _StandIn(SyntheticEmbedder):
    """Vectors of the true shape under the true embedder's name: what is measured is not what they mean."""

    def __init__(self, fingerprint: str, dim: int, token_dim: int) -> None:
        super().__init__()
        self.fingerprint, self.dim, self.token_dim = fingerprint, dim, token_dim


async def write_template(
    settings: Settings, cube_id: str, items: int, *, fingerprint: str, dim: int, token_dim: int
) -> Path:
    """A cube of `items` turns with vectors, checkpointed as passivation leaves it. Returns its incarnation's folder."""
    incarnation = new_op_id()

    def vectors(name: str, size: int, token_size: int) -> VectorStore:
        return LanceVectorStore(vectors_path(settings.data, cube_id, incarnation, name), size, token_size)

    cube = await activate(
        settings,
        cube_id,
        journal_store(settings, cube_id, incarnation),
        open_vectors=vectors,
        embedder=_StandIn(fingerprint, dim, token_dim),
        clock=SystemClock(),
        owner="template",
        checkpoints=CheckpointFolder(checkpoints_path(settings.data, cube_id, incarnation)),
    )
    for session in Synthetic(items).sessions(items):
        await cube.add_messages(**session, op_id=new_op_id())
    await cube.settled()
    await cube.close()
    return Path(incarnation_folder(settings.data, cube_id, incarnation))


def give_data(
    root: str,
    templates: Mapping[int, Path],
    cubes: Sequence[tuple[str, str]],
    size_of: Callable[[int], int],
) -> dict[int, list[str]]:
    """Gives the i-th of `cubes`, (cube_id, incarnation) each, the data of the template of `size_of(i)` items. Returns
    the cube ids by size."""
    by_size: dict[int, list[str]] = {size: [] for size in templates}
    for i, (cube_id, incarnation) in enumerate(cubes):
        size = size_of(i)
        folder = Path(incarnation_folder(root, cube_id, incarnation))
        shutil.copytree(templates[size], folder, copy_function=os.link)
        by_size[size].append(cube_id)
    return by_size
