"""What one cube tells a meter as it is used: the right figures, all of them in the table."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from memos_ray import telemetry
from memos_ray.telemetry import METRICS, misuse
from memos_ray.testing.local import LocalCubes


class Recorder:
    """Every figure, checked against the table."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.values: dict[tuple[str, ...], list[float]] = {}

    def count(self, name: str, n: float = 1, **tags: str) -> None:
        assert misuse(name, "counter", tags) is None
        self.counts[(name, *tags.values())] += int(n)

    def observe(self, name: str, value: float, **tags: str) -> None:
        assert misuse(name, "histogram", tags) is None
        self.values.setdefault((name, *tags.values()), []).append(value)

    def gauge(self, name: str, value: float, **tags: str) -> None:
        assert misuse(name, "gauge", tags) is None


@pytest.fixture
def told():
    recorder = Recorder()
    before = telemetry.use(recorder)
    yield recorder
    telemetry.use(before)


async def test_a_search_tells_of_every_stage_once(tmp_path, told):
    async with LocalCubes(str(tmp_path)) as cubes:
        cube = await cubes.cube("c")
        await cube.add(["Bees fly at dawn.", "Ada keeps bees behind the observatory."])
        await cube.search("who keeps bees?")  # the first one waits for the vectors
        assert sum(told.values[(telemetry.EMBED_TEXTS,)]) >= 3
        told.values.clear()
        await cube.search("who keeps bees, and where?")
    stages = {key[1]: values for key, values in told.values.items() if key[0] == telemetry.SEARCH_SECONDS}
    named = set(METRICS[telemetry.SEARCH_SECONDS].values.split(", ")) - {
        "tokens"
    }  # the hash embedder has none
    assert set(stages) == named
    assert all(len(values) == 1 and values[0] >= 0 for values in stages.values())
    assert told.counts[telemetry.EMBED_QUERIES, "miss"] == 2


async def test_a_query_that_is_known_is_a_hit(tmp_path, told):
    async with LocalCubes(str(tmp_path)) as cubes:
        cube = await cubes.cube("c")
        await cube.add("Bees fly at dawn.")
        await asyncio.gather(cube.search("bees"), cube.search("bees"))
        await cube.search("bees")
    counts = {cache: told.counts[telemetry.EMBED_QUERIES, cache] for cache in ("miss", "joined", "hit")}
    assert counts == {"miss": 1, "joined": 1, "hit": 1}


async def test_commits_are_told_with_their_rows(tmp_path, told):
    async with LocalCubes(str(tmp_path)) as cubes:
        cube = await cubes.cube("c")
        await cube.add(["one", "two", "three"])
        rows = told.values[(telemetry.COMMIT_ROWS,)]
        assert rows[0] == 3
        assert len(told.values[(telemetry.COMMIT_SECONDS,)]) == len(rows)
        assert told.values[(telemetry.COMMIT_WAITING,)][0] == 1
