"""A search right after much was written: it waits for the vectors, says so if they are far behind, and never gives up
while they get on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from memos_ray.client import _Attempts
from memos_ray.config import Settings
from memos_ray.errors import Overloaded
from memos_ray.models.embedder import HashEmbedder
from memos_ray.models.encoded import Encoded
from memos_ray.testing.local import LocalCubes


class Slow(HashEmbedder):
    """Takes a while for a batch."""

    async def encode(
        self, texts: Sequence[str], *, contexts: Sequence[str] | None = None, tokens: bool = False
    ) -> Encoded:
        await asyncio.sleep(0.2)
        return await super().encode(texts, contexts=contexts, tokens=tokens)


async def test_a_search_says_how_many_vectors_are_missing_and_then_finds_all(tmp_path):
    settings = Settings(data=str(tmp_path), call_timeout_s=0.2)
    async with LocalCubes(str(tmp_path), embedder=Slow(), settings=settings) as cubes:
        handle = await cubes.cube("a")
        await handle.add([f"note {i}" for i in range(200)])
        cube = await cubes.active("a")
        with pytest.raises(Overloaded, match="wait for their vectors") as caught:
            await cube.search("note 7")
        assert 0 < caught.value.fields["pending"] <= 200
        assert (await handle.search("note 7", top_k=1))[0].item.text == "note 7"
        await cube.search("note 8")  # nothing is missing any more


async def test_work_that_gets_on_puts_the_deadline_off():
    attempts = _Attempts(0.3)
    for pending in range(10, 0, -1):
        await attempts.pause(Overloaded("behind", retry_after_s=0.05, pending=pending))
    with pytest.raises(Overloaded):  # noqa: PT012
        for _ in range(20):
            await attempts.pause(Overloaded("stuck", retry_after_s=0.05, pending=1))
