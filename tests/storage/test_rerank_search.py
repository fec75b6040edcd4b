"""`search(…, rerank=True)` over cubes in this process: real cubes, and rerankers that say exactly what a test wants."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from memos_ray.client import Connection
from memos_ray.errors import Invalid, Unavailable
from memos_ray.memos import AsyncMemOS
from memos_ray.testing.local import LocalCubes
from memos_ray.wire import Reranking


class Local:
    """Reaches cubes of this process, and reranks by a function of the text."""

    def __init__(self, cubes: LocalCubes) -> None:
        self._cubes = cubes
        self.says: Callable[[str], float] | None = None
        self.asked: list[tuple[str, list[str]]] = []

    async def call(
        self, cube_id: str, verb: str, arguments: Mapping[str, Any], *, create: bool = False
    ) -> Any:
        return await self._cubes.call(cube_id, verb, arguments, create=create)

    def check_reranker(self) -> None:
        """There is one."""

    async def rerank(self, query: str, texts: Sequence[str]) -> Reranking:
        self.asked.append((query, list(texts)))
        if self.says is None:
            raise Unavailable("the model is out", what="reranker")
        return Reranking(np.array([self.says(text) for text in texts], np.float32), "test")

    def close(self) -> None:
        """`LocalCubes` is closed by whoever made it."""


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[Local]:
    async with LocalCubes(str(tmp_path)) as cubes:
        yield Local(cubes)


@pytest.fixture
async def memory(local: Local, tmp_path: Path) -> AsyncMemOS:
    memory = AsyncMemOS(data=str(tmp_path))
    memory._connection = cast(Connection, local)
    turns = [f"Tea number {i} is green." if i % 2 else f"Coffee {i} with the tea." for i in range(70)]
    await memory.add(
        [{"role": "user", "content": text, "speaker": "Ada"} for text in turns], cube_id="a", session="s"
    )
    await memory.add([{"role": "user", "content": f"Cocoa {i}, no tea."} for i in range(9)], cube_id="b")
    return memory


def numbered(text: str) -> float:
    """The number in a text, odd ones first: nothing like a ranker's order."""
    number = int(next(word for word in text.replace(",", "").split() if word.isdigit()))
    return number % 2 * 1_000 + number


def found(answer: dict[str, Any]) -> list[str]:
    return [hit["memory"] for hit in answer["results"]]


async def test_the_best_fifty_of_all_cubes_in_one_call(memory: AsyncMemOS, local: Local):
    local.says = numbered
    plain = await memory.search("green tea", cube_ids=["a", "b"], top_k=60)
    answer = await memory.search("green tea", cube_ids=["a", "b"], top_k=60, rerank=True, explain=True)
    ((query, texts),) = local.asked
    assert query == "green tea"
    assert len(texts) == 50
    assert ": " in texts[0]  # with its date and speaker, as a reader gets it
    before, after = found(plain), found(answer)
    assert after[:50] == sorted(before[:50], key=numbered, reverse=True)
    assert after[50:] == before[50:]
    assert after != before
    scores = [hit["score"] for hit in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    np.testing.assert_allclose(scores, [hit["score"] for hit in plain["results"]], atol=1e-9)
    assert answer["rerank"] == {"by": "test", "reranked": 50, "error": None}
    first = answer["results"][0]["explanation"]["rerank"]
    assert first == {"score": numbered(after[0]), "rank": 1, "before": before.index(after[0]) + 1}
    assert answer["results"][50]["explanation"]["rerank"] is None
    assert "rerank" not in plain


async def test_top_k_and_threshold_come_after(memory: AsyncMemOS, local: Local):
    local.says = numbered
    everything = await memory.search("green tea", cube_id="a", top_k=50, rerank=True)
    few = await memory.search("green tea", cube_id="a", top_k=3, rerank=True)
    assert found(few) == found(everything)[:3]
    middle = everything["results"][20]["score"]
    passed = await memory.search("green tea", cube_id="a", top_k=50, rerank=True, threshold=middle)
    assert found(passed) == found(everything)[:21]
    plain = await memory.search("green tea", cube_id="a", top_k=50, threshold=middle)
    assert abs(len(plain["results"]) - 21) <= 1  # the same number, but for ties that the order had to break


async def test_neighbours_and_budget_come_after(memory: AsyncMemOS, local: Local):
    local.says = numbered
    answer = await memory.search("green tea", cube_id="a", top_k=3, neighbours=1, rerank=True)
    best, beside, _ = found(answer)
    assert abs(numbered(best) % 1_000 - numbered(beside) % 1_000) == 1
    order = found(await memory.search("green tea", cube_id="a", top_k=50, rerank=True))
    assert best == order[0]
    for cubes in (["a"], ["a", "b"]):
        packed = await memory.search("green tea", cube_ids=cubes, budget_tokens=60, rerank=True)
        assert found(packed)[0] == order[0]
        assert 1 < len(packed["results"]) < 12
        assert sum(hit["tokens"] for hit in packed["results"]) <= 60


async def test_filters_times_and_cubes_without_hits(memory: AsyncMemOS, local: Local):
    local.says = numbered
    answer = await memory.search("tea", cube_ids=["b", "nobody"], filters={"kind": "message"}, rerank=True)
    assert len(answer["results"]) == 9
    nothing = await memory.search("tea", cube_id="b", filters={"kind": "fact"}, rerank=True)
    assert nothing == {"results": [], "rerank": {"by": None, "reranked": 0, "error": None}}
    long_ago = await memory.search("tea", cube_id="b", as_of="2001-01-01", rerank=True)
    assert long_ago["results"] == []
    assert len(local.asked) == 1  # nobody is asked about nothing


async def test_a_reranker_that_fails_leaves_the_order_and_is_told_of(memory: AsyncMemOS, local: Local):
    plain = await memory.search("green tea", cube_ids=["a", "b"])
    answer = await memory.search("green tea", cube_ids=["a", "b"], rerank=True, explain=True)
    assert found(answer) == found(plain)
    assert answer["rerank"] == {"by": None, "reranked": 0, "error": "the model is out"}
    assert answer["results"][0]["explanation"]["rerank"] is None


async def test_rerank_is_a_flag(memory: AsyncMemOS):
    with pytest.raises(Invalid, match="rerank must be True or False"):
        await memory.search("tea", cube_id="a", rerank=cast(bool, "no"))


async def test_what_goes_between_reranking_and_the_answer(memory: AsyncMemOS, local: Local):
    """Between the two looks at the cube, one memory goes and a better one comes."""
    local.says = numbered
    ids = {hit["memory"]: hit["id"] for hit in (await memory.search("tea", cube_id="b"))["results"]}

    async def rerank(query: str, texts: Sequence[str]) -> Reranking:
        said = await Local.rerank(local, query, texts)
        await memory.delete(ids["Cocoa 7, no tea."], cube_id="b")
        await memory.add("tea", cube_id="b")
        return said

    local.rerank = rerank  # type: ignore[method-assign]
    answer = await memory.search("tea", cube_id="b", rerank=True)
    assert found(answer) == [f"Cocoa {i}, no tea." for i in (5, 3, 1, 8, 6, 4, 2, 0)] + ["tea"]
    scores = [hit["score"] for hit in answer["results"]]
    assert scores == sorted(scores, reverse=True)
