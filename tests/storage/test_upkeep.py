"""Vectors are derived: whatever happens to them, searches answer and nothing is lost."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from memos_ray.cube import upkeep
from memos_ray.models.embedder import HashEmbedder
from memos_ray.testing.local import LocalCubes


class Moody(HashEmbedder):
    """Fails with an error that nobody expects, until it is told not to."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = True

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        if self.broken:
            raise RuntimeError("out of memory")
        return await super().embed(texts)


async def test_searches_answer_while_the_embedder_fails_and_catch_up_afterwards(tmp_path: Path):
    embedder = Moody()
    async with LocalCubes(str(tmp_path), embedder=embedder) as cubes:
        cube = await cubes.cube("c")
        await cube.add("Pears ripen in the cellar.")
        hits = await cube.search("pears", explain=True)
        assert set(hits[0].explanation.arms) == {"text", "window", "graph"}
        embedder.broken = False
        while (await cube.stats())["pending_vectors"]:
            hits = await cube.search("pears", explain=True)
        hits = await cube.search("pears", explain=True)
        assert "dense" in hits[0].explanation.arms


@pytest.mark.parametrize("pattern", ["vectors/*/_versions/*.manifest", "vectors/*/data/*.lance"])
@pytest.mark.parametrize("left", [0, 7])
async def test_a_damaged_vector_table_is_made_anew(tmp_path: Path, pattern: str, left: int):
    for expected in ("first", "damaged", "repaired"):
        async with LocalCubes(str(tmp_path)) as cubes:
            cube = await cubes.cube("c")
            if expected == "first":
                await cube.add("Pears ripen in the cellar.")
            hits = await cube.search("pears", explain=True)
            assert "dense" in hits[0].explanation.arms
        if expected == "first":
            files = list(tmp_path.rglob(pattern))
            assert files
            for file in files:
                file.write_bytes(file.read_bytes()[:left])


async def test_new_vectors_wait_for_a_moment_but_never_a_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with LocalCubes(str(tmp_path)) as cubes:
        cube = await cubes.cube("c")
        monkeypatch.setattr(upkeep, "_BEGIN_AFTER_S", 3600.0)
        await cube.add("Pears ripen in the cellar.")
        async with asyncio.timeout(20):
            hits = await cube.search("pears", explain=True)
        assert "dense" in hits[0].explanation.arms
        monkeypatch.setattr(upkeep, "_BEGIN_AFTER_S", 0.0)
        await cube.add("Apples do, too.")
        async with asyncio.timeout(20):
            while (await cube.stats())["pending_vectors"]:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
