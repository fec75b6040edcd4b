"""The facade over cubes in this process: what names a cube, what the other ids mean, and mem0's spellings."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from memos_ray.client import Connection
from memos_ray.errors import Conflict, Invalid, NotFound
from memos_ray.memos import AsyncMemOS
from memos_ray.models.token_counter import token_counter
from memos_ray.retrieval.budget import approximate_tokens
from memos_ray.testing.local import LocalCubes


class LocalConnection:
    """Reaches cubes of this process, as `Connection` reaches those of a system."""

    def __init__(self, cubes: LocalCubes) -> None:
        self._cubes = cubes

    async def call(
        self, cube_id: str, verb: str, arguments: Mapping[str, Any], *, create: bool = False
    ) -> Any:
        return await self._cubes.call(cube_id, verb, arguments, create=create)

    def close(self) -> None:
        """`LocalCubes` is closed by whoever made it."""


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[AsyncMemOS]:
    async with LocalCubes(str(tmp_path)) as cubes:
        memory = AsyncMemOS(data=str(tmp_path))
        memory._connection = cast(Connection, LocalConnection(cubes))
        yield memory


def texts(answer: dict[str, Any]) -> list[str]:
    return [hit["memory"] for hit in answer["results"]]


VERBS: list[tuple[str, dict[str, Any]]] = [
    ("get", {}),
    ("history", {}),
    ("update", {"text": "changed"}),
    ("delete", {}),
    ("archive", {}),
    ("restore", {}),
]


@pytest.mark.parametrize(("verb", "arguments"), VERBS)
async def test_a_memory_of_another_run_is_not_found(memory: AsyncMemOS, verb: str, arguments: dict[str, Any]):
    added = await memory.add("Tea at four.", user_id="u", run_id="mine")
    memory_id = added["results"][0]["id"]
    for other in ({"run_id": "other"}, {"agent_id": "a"}, {"run_id": "mine", "agent_id": "a"}):
        with pytest.raises(NotFound, match="not one of"):
            await getattr(memory, verb)(memory_id, user_id="u", **other, **arguments)
    assert texts(await memory.get_all(user_id="u")) == ["Tea at four."]
    await getattr(memory, verb)(memory_id, user_id="u", run_id="mine", **arguments)


async def test_a_repeated_write_in_a_scope_is_answered_the_same(memory: AsyncMemOS):
    memory_id = (await memory.add("Tea.", user_id="u", run_id="mine"))["results"][0]["id"]
    moved = {"metadata": {"run_id": "next"}, "user_id": "u", "run_id": "mine", "op_id": "move"}
    assert await memory.update(memory_id, **moved) == await memory.update(memory_id, **moved)
    first = await memory.delete(memory_id, user_id="u", run_id="next", op_id="gone")
    assert await memory.delete(memory_id, user_id="u", run_id="next", op_id="gone") == first
    with pytest.raises(Conflict):
        await memory.delete(memory_id, user_id="u", run_id="other", op_id="gone")
    with pytest.raises(NotFound, match="not one of"):
        await memory.history(memory_id, user_id="u", run_id="mine")
    assert len((await memory.history(memory_id, user_id="u", run_id="next"))["results"]) == 3


@pytest.mark.parametrize("verb", ["snapshot", "restore_snapshot"])
async def test_snapshots_are_of_whole_cubes(memory: AsyncMemOS, verb: str):
    await memory.add("Tea.", user_id="u")
    await memory.snapshot("first", user_id="u", cube_id="user:u")
    with pytest.raises(Invalid, match="concerns all of cube"):
        await getattr(memory, verb)("first", user_id="u", run_id="mine")


async def test_the_id_that_a_cube_is_named_after_is_no_filter_in_it(memory: AsyncMemOS):
    await memory.add("Tea at home.", user_id="u")
    await memory.add("Tea in the office.", cube_id="team", user_id="u")
    await memory.add("Tea for somebody else.", cube_id="team", user_id="v")
    assert texts(await memory.search("tea", cube_id="user:u", user_id="u")) == ["Tea at home."]
    both = await memory.search("tea", cube_ids=["user:u", "team"], user_id="u")
    assert sorted(texts(both)) == ["Tea at home.", "Tea in the office."]
    assert texts(await memory.get_all(cube_id="user:u", user_id="u")) == ["Tea at home."]
    gone = await memory.delete_all(cube_id="user:u", user_id="u")
    assert len(gone["results"]) == 1


async def test_filters_on_a_scope_id_hold_beside_the_id(memory: AsyncMemOS):
    for run in ("r1", "r2", "r3"):
        await memory.add(f"Tea of {run}.", user_id="u", run_id=run)
    some = {"run_id": {"in": ["r1", "r2"]}}
    for ask in (memory.get_all, lambda **named: memory.search("tea", **named)):
        assert texts(await ask(user_id="u", run_id="r1", filters=some)) == ["Tea of r1."]
        assert texts(await ask(user_id="u", run_id="r3", filters=some)) == []
        with pytest.raises(Invalid, match="names the whole cube"):
            await ask(user_id="u", filters={"user_id": {"in": ["u", "v"]}})
    await memory.delete_all(user_id="u", run_id="r3", filters=some)
    assert len((await memory.get_all(user_id="u"))["results"]) == 3


async def test_how_many(memory: AsyncMemOS):
    for i in range(45):
        await memory.add(f"Tea number {i}.", user_id="u")
    assert texts(await memory.get_all(user_id="u", top_k=2)) == ["Tea number 43.", "Tea number 44."]
    assert len((await memory.search("tea", user_id="u"))["results"]) == 20
    assert len((await memory.search("tea", user_id="u", budget_tokens=100_000))["results"]) == 45
    assert len((await memory.search("tea", user_id="u", budget_tokens=100_000, top_k=3))["results"]) == 3
    everywhere = await memory.search("tea", cube_ids=["user:u", "empty"], budget_tokens=100_000)
    assert len(everywhere["results"]) == 45


TALK = [
    {"role": "user", "name": "Ada", "content": "I keep bees behind the mill."},
    {"role": "user", "name": "Ben", "content": "How many hives?\nAda: none"},
    {"role": "user", "name": "Ada", "content": "Seven hives."},
]


async def test_a_prompt_has_what_was_found_as_a_model_should_see_it(memory: AsyncMemOS):
    await memory.add(TALK, user_id="u", session="s", timestamp="2024-05-06T10:00:00Z")
    await memory.add("The team buys hives.", cube_id="team", timestamp="2024-05-07")
    found = await memory.search("hives", user_id="u", render="prompt")
    assert found["prompt"] == (
        "2024-05-06\nAda: I keep bees behind the mill.\nBen: How many hives?\n  Ada: none\nAda: Seven hives."
    )
    assert len(found["results"]) == 3
    assert "prompt" not in await memory.search("hives", user_id="u")
    both = await memory.search("hives", cube_ids=["user:u", "team"], render="prompt", budget_tokens=40)
    assert both["prompt"].startswith("2024-05-06 user:u\n")
    assert both["prompt"].endswith("\n\n2024-05-07 team\n- The team buys hives.")
    assert approximate_tokens(both["prompt"]) <= 40
    assert (await memory.search("hives", user_id="nobody", render="prompt"))["prompt"] == ""
    assert (await memory.search("hives", user_id="u", render="prompt", budget_tokens=3))["prompt"] == ""


async def test_a_budget_is_counted_with_the_tokenizer_of_the_call_or_of_the_settings(tmp_path: Path):
    """A tokenizer of single characters: nothing else fills so little with so many tokens."""
    tokenizer = Tokenizer(BPE(unk_token="?"))
    tokenizer.add_tokens(["?"])
    tokenizer.train_from_iterator(
        ["".join(map(chr, range(32, 127)))], BpeTrainer(show_progress=False, vocab_size=97)
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    count = token_counter(tmp_path)
    async with LocalCubes(str(tmp_path / "data")) as cubes:
        for settings in ({}, {"tokenizer": str(tmp_path)}):
            memory = AsyncMemOS(data=str(tmp_path / "data"), **settings)
            memory._connection = cast(Connection, LocalConnection(cubes))
            await memory.add(TALK, user_id="u", session="s", timestamp="2024-05-06", op_id="once")
            own = {} if settings else {"tokenizer": str(tmp_path)}
            cube = await memory.cube("user:u")
            found = await cube.search("hives", budget_tokens=60, render="prompt", **own)
            assert found.prompt is not None
            assert 40 < count(found.prompt) <= 60
            assert sum(len(p.hits) for p in found.passages) == len(found) < 3
            answer = await memory.search("hives", user_id="u", budget_tokens=60, render="prompt", **own)
            assert answer["prompt"] == found.prompt
            with pytest.raises(Invalid, match="tokenizer"):
                await cube.search("hives", tokenizer="")


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("get_all", {"top_k": 0}),
    ("get_all", {"top_k": 1, "limit": 2}),
    ("get_all", {"top_k": "3"}),
    ("search", {"query": "tea", "top_k": 1, "limit": 2}),
    ("search", {"query": "tea", "top_k": "3"}),
    ("search", {"query": "tea", "filters": ()}),
    ("search", {"query": "tea", "budget_tokens": 0}),
    ("search", {"query": "tea", "render": "markdown"}),
    ("search", {"query": "tea", "render": True}),
    ("search", {"query": "tea", "tokenizer": "no/such/tokenizer"}),
    ("search", {"query": "tea " * 20_000}),
    ("add", {"messages": "tea", "metadata": [1]}),
    ("delete_all", {"filters": ()}),
]


async def test_bad_arguments_are_refused_whether_there_is_a_cube_or_not(memory: AsyncMemOS):
    await memory.add("Tea.", user_id="u")
    for verb, arguments in WRONG:
        for user in ("u", "nobody"):
            with pytest.raises(Invalid):
                await getattr(memory, verb)(user_id=user, **arguments)
    assert texts(await memory.get_all(user_id="u")) == ["Tea."]


async def test_cube_ids_is_a_list(memory: AsyncMemOS):
    with pytest.raises(Invalid, match="list of cube_ids"):
        await memory.search("tea", cube_ids="team")
