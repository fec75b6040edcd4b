"""What a search over many cubes costs the shared embedder: one text for each way to read the query."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray

from memos_ray import MemOS

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

CUBES = [f"c{i}" for i in range(5)]
NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eve")


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemOS]:
    """Five cubes; in each another two of five speak."""
    with MemOS(
        data=str(tmp_path_factory.mktemp("data")), address="local", namespace="test-passes", warm_actors=0
    ) as memory:
        for i, cube in enumerate(CUBES):
            speakers = NAMES[i], NAMES[(i + 1) % 5]
            memory.add(
                [{"role": "user", "content": f"I planted {i} pears.", "speaker": who} for who in speakers],
                cube_id=cube,
            )
        memory.search("warm up", cube_ids=CUBES)  # every cube has its vectors, and knows its speakers
        yield memory


def work() -> tuple[int, int]:
    passes, texts = ray.get(ray.get_actor("embedder", namespace="test-passes").work.remote())
    return passes, texts


@pytest.mark.parametrize(
    ("query", "readings"),
    [
        ("who planted pears?", {"who planted pears?"}),
        ("What did Ada plant?", {"What did Ada plant?", "What did I plant?"}),
        (
            "Did Ada or Cleo plant more?",
            {"Did Ada or I plant more?", "Did I or Cleo plant more?", "Did Ada or Cleo plant more?"},
        ),
    ],
)
def test_one_text_for_each_reading_of_the_query(memory: MemOS, query: str, readings: set[str]):
    before = work()
    found = memory.search(query, cube_ids=CUBES, explain=True, top_k=20)["results"]
    after = work()
    assert {hit["cube_id"] for hit in found} == set(CUBES)
    embedded = {hit["explanation"]["query"]["embedded"].replace("Did I", "did I") for hit in found}
    assert embedded == {text.replace("Did I", "did I") for text in readings}
    assert after[1] - before[1] == len(readings)
    assert 1 <= after[0] - before[0] <= len(readings)
    memory.search(query, cube_ids=CUBES)
    assert work() == after  # asked again, nothing is embedded
