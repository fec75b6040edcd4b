"""A budget over a real cube."""

from __future__ import annotations

from memos_ray.models.embedder import HashEmbedder
from memos_ray.testing.local import LocalCubes


async def test_what_was_said_again_and_again_does_not_use_up_the_budget(tmp_path):
    long = "the boat in the harbour of Lisbon has a new sail and " * 4
    async with LocalCubes(str(tmp_path), embedder=HashEmbedder()) as cubes:
        handle = await cubes.cube("a")
        for n in range(12):
            messages = [
                {"content": long, "speaker": "Ada"},
                {"content": f"boat number {n}", "speaker": "Ben"},
            ]
            await handle.add(messages, session="s", conversation="c", timestamp="2024-05-01T10:00:00+00:00")
        found = await handle.search("the new sail of the boat in Lisbon", budget_tokens=300, render="prompt")
    assert found.prompt is not None
    assert found.prompt.count("has a new sail") == 4  # one message
    assert sum("number" in hit.item.text for hit in found) == 12
