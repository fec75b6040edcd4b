"""One cube without Ray, on real Lance in a temporary folder: the verbs, and what must not break it."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from memos_ray.cube_handle import AsyncCube
from memos_ray.errors import Conflict, Invalid, MemosError, NotFound
from memos_ray.testing.local import LocalCubes
from memos_ray.types import Kind, Status

MAY = datetime(2024, 5, 6, 19, tzinfo=UTC)


@pytest.fixture
async def cubes(tmp_path: Path) -> AsyncIterator[LocalCubes]:
    async with LocalCubes(str(tmp_path)) as cubes:
        yield cubes


@pytest.fixture
async def cube(cubes: LocalCubes) -> AsyncCube:
    return await cubes.cube("user:maya")


async def test_what_was_written_is_found_by_the_very_next_search(cube: AsyncCube):
    for i in range(30):
        await cube.add(f"The {i}th jar holds pickled lemons number {i}.")
        hits = await cube.search(f"jar of lemons number {i}", top_k=3)
        assert f"number {i}." in " ".join(hit.item.text for hit in hits)


async def test_relative_dates_become_valid_time(cube: AsyncCube):
    await cube.add("I moved to Lisbon last Friday.", timestamp=MAY)
    await cube.add("我上周五搬到了上海。", timestamp=MAY)
    for item in await cube.get_all():
        assert item.valid_from == datetime(2024, 5, 3, tzinfo=UTC)
    assert await cube.get_all(as_of="2024-05-02") == []


async def test_as_of_a_change(cube: AsyncCube):
    await cube.add_triples([("Maya", "lives_in", "Porto", "2020-01-01")], functional=True)
    await cube.add_triples([("Maya", "lives_in", "Lisbon", "2024-05-03")], functional=True)

    async def where(as_of: str | None) -> list[str]:
        return [hit.item.text for hit in await cube.search("Where does Maya live?", as_of=as_of)]

    assert await where("2022-06-01") == ["Maya lives in Porto"]
    assert await where("2024-06-01") == ["Maya lives in Lisbon"]
    assert await where(None) == ["Maya lives in Lisbon"]
    assert await where("2019-01-01") == []


async def test_known_at_survives_updates_and_deletes(cube: AsyncCube):
    memory_id = (await cube.add("The key is under the mat.")).ids[0]
    first = (await cube.get(memory_id)).recorded_at
    await cube.update(memory_id, text="The key is with the neighbour.")
    second = (await cube.get(memory_id)).recorded_at
    await cube.delete(memory_id)
    with pytest.raises(NotFound, match="was deleted"):
        await cube.get(memory_id)
    assert (await cube.get(memory_id, known_at=first)).text == "The key is under the mat."
    assert (await cube.get(memory_id, known_at=second)).text == "The key is with the neighbour."
    found = await cube.search("Where is the key?", known_at=first)
    assert [hit.item.text for hit in found] == ["The key is under the mat."]
    assert await cube.search("Where is the key?") == []
    assert [e.op for e in await cube.history(memory_id)] == ["add", "update", "delete"]


async def test_every_write_is_idempotent(cube: AsyncCube):
    async def writes() -> list[object]:
        added = await cube.add("Tea at four.", op_id="op-add")
        memory_id = added.ids[0]
        return [
            added,
            await cube.add(
                [{"role": "user", "name": "Maya", "content": "I love tea."}], infer=True, op_id="op-infer"
            ),
            await cube.add_document("# Tea\n\nPour it hot.", document="tea", op_id="op-doc"),
            await cube.add_triples([("Maya", "drinks", "tea")], op_id="op-triple"),
            await cube.update(memory_id, text="Tea at five.", op_id="op-update"),
            await cube.archive(memory_id, op_id="op-archive"),
            await cube.restore(memory_id, op_id="op-restore"),
            await cube.snapshot("now", op_id="op-snapshot"),
            await cube.delete(memory_id, op_id="op-delete"),
            await cube.restore_snapshot("now", op_id="op-back"),
            await cube.delete_all(op_id="op-all"),
        ]

    first = await writes()
    rows = (await cube.export_table()).num_rows
    assert await writes() == first
    assert (await cube.export_table()).num_rows == rows


async def test_an_op_id_with_another_request_is_a_conflict(cube: AsyncCube):
    await cube.add("one", op_id="same")
    with pytest.raises(Conflict, match="same"):
        await cube.add("two", op_id="same")
    with pytest.raises(Conflict, match="same"):
        await cube.delete_all(op_id="same")
    assert [item.text for item in await cube.get_all()] == ["one"]


async def test_if_version(cube: AsyncCube):
    memory_id = (await cube.add("blue")).ids[0]
    await cube.update(memory_id, text="green", if_version=1)
    with pytest.raises(Conflict) as caught:
        await cube.update(memory_id, text="red", if_version=1)
    assert (caught.value.expected_version, caught.value.version) == (1, 2)
    assert (await cube.get(memory_id)).text == "green"


async def test_concurrent_writers_all_land_once(cube: AsyncCube):
    results = await asyncio.gather(*(cube.add(f"message {i}") for i in range(200)))
    ids = [r.ids[0] for r in results]
    assert len(set(ids)) == 200
    assert sorted(item.id for item in await cube.get_all()) == sorted(ids)


async def test_a_cancelled_caller_harms_nobody(cube: AsyncCube):
    writes = [asyncio.create_task(cube.add(f"message {i}")) for i in range(20)]
    writes[7].cancel()
    done = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(d).__name__ for d in done].count("CancelledError") == 1
    texts = {item.text for item in await cube.get_all()}
    assert texts >= {f"message {i}" for i in range(20) if i != 7}


async def test_near_duplicates_merge_behind_and_keep_both_sources(cubes: LocalCubes, cube: AsyncCube):
    text = "Always descale the espresso machine on the first Monday of the month with citric acid, then rinse it twice"
    first = (await cube.add_document(f"{text}.", document="kitchen", timestamp="2024-01-01")).ids[0]
    second = (await cube.add_document(f"{text}!", document="cafe", timestamp="2024-01-01")).ids[0]
    third = (await cube.add_document(f"{text}!", document="later", timestamp="2024-02-01")).ids[0]
    await (await cubes.active("user:maya"))._near.settled()
    merged = await cube.get(second)
    assert merged.id == first
    assert {s.document for s in merged.sources} == {"kitchen", "cafe"}
    assert (await cube.get(third)).id == third  # another valid time never merges
    assert len(await cube.get_all(filters={"kind": "document"})) == 2


async def test_messages_never_merge_but_deliveries_are_recognised(cube: AsyncCube):
    turn = {"role": "user", "name": "Jon", "content": "ok", "id": "3:14"}
    first = await cube.add([turn], conversation="c", session="3")
    again = await cube.add([turn], conversation="c", session="3")
    assert again.events[0].event == "NONE"
    assert again.ids == first.ids
    await cube.add("ok")
    await cube.add("ok")
    assert len(await cube.get_all()) == 3


async def test_filters_budget_neighbours_and_explanations(cube: AsyncCube):
    talk = [
        {"role": "user", "name": "Ada", "content": "Which bridge did you cross?", "id": "1"},
        {"role": "user", "name": "Ben", "content": "The old stone one by the mill.", "id": "2"},
        {"role": "user", "name": "Ada", "content": "Was the toll keeper there?", "id": "3"},
    ]
    await cube.add(talk, session="s")
    hits = await cube.search("stone bridge mill", top_k=10, filters={"speaker": "Ben"}, explain=True)
    assert [hit.item.source.turn for hit in hits] == ["2"]
    explanation = hits[0].explanation
    assert explanation is not None
    assert explanation.arms["text"].rank == 1
    assert set(explanation.matched_terms) >= {"stone", "mill"}
    around = await cube.search("stone mill", top_k=3, neighbours=1)
    assert {hit.item.source.turn for hit in around} == {"1", "2", "3"}
    packed = await cube.search("bridge", budget_tokens=25, top_k=10)
    assert packed
    assert sum(hit.tokens or 0 for hit in packed) <= 25


async def test_expiry(cube: AsyncCube):
    await cube.add("The voucher is 4711.", expires_at=datetime.now(UTC) + timedelta(days=1))
    await cube.add("The old voucher is 4710.", expires_at=datetime.now(UTC) - timedelta(days=1))
    assert [hit.item.text for hit in await cube.search("voucher")] == ["The voucher is 4711."]


async def test_delete_all_takes_what_the_filter_selects(cube: AsyncCube):
    await cube.add("one", metadata={"run_id": "r1"})
    await cube.add("two", metadata={"run_id": "r2"})
    await cube.delete_all(filters={"run_id": "r1"})
    assert [item.text for item in await cube.get_all()] == ["two"]


async def test_infer_without_an_llm_uses_rules_and_links_to_the_message(cube: AsyncCube):
    result = await cube.add(
        [{"role": "user", "name": "Maya", "content": "I moved to Lisbon last week."}],
        timestamp=MAY,
        infer=True,
    )
    message, fact = [await cube.get(i) for i in result.ids[:2]]
    assert message.kind is Kind.MESSAGE
    assert fact.kind is not Kind.MESSAGE
    assert "Lisbon" in fact.text
    assert message.id in {link.target for link in fact.links if link.type == "derived_from"}


WRONG: list[tuple[str, dict[str, object], type[MemosError]]] = [
    ("add", {"messages": ""}, Invalid),
    ("add", {"messages": "   "}, Invalid),
    ("add", {"messages": []}, Invalid),
    ("add", {"messages": 7}, Invalid),
    ("add", {"messages": "half a \ud83d pair"}, Invalid),
    ("add", {"messages": "x" * 1_000_000}, Invalid),
    ("add", {"messages": "x", "timestamp": "yesterday-ish"}, Invalid),
    ("add", {"messages": "x", "timestamp": 1e30}, Invalid),
    ("add", {"messages": "x", "timestamp": float("nan")}, Invalid),
    ("add", {"messages": [{"role": "user", "content": "x", "colour": "blue"}]}, Invalid),
    ("add", {"messages": [{"role": "user", "content": "fine"}, {"role": "user"}]}, Invalid),
    ("add", {"messages": "x", "metadata": {"when": object()}}, Invalid),
    ("add", {"messages": "x", "op_id": ""}, Invalid),
    ("add", {"messages": "x", "op_id": "y" * 500}, Invalid),
    ("add_document", {"text": "", "document": "d"}, Invalid),
    ("add_document", {"text": "x", "document": ""}, Invalid),
    ("add_document", {"text": "x", "document": "d", "format": "pdf"}, Invalid),
    ("add_triples", {"triples": [("only", "two")]}, Invalid),
    ("search", {"query": ""}, Invalid),
    ("search", {"query": "x", "top_k": 0}, Invalid),
    ("search", {"query": "x", "budget_tokens": 0}, Invalid),
    ("search", {"query": "x", "filters": {"kind": "rumour"}}, Invalid),
    ("search", {"query": "x", "filters": {"kind": {"near": "fact"}}}, Invalid),
    ("search", {"query": "x", "consistency": "eventual"}, Invalid),
    ("get", {"memory_id": "no-such-id"}, NotFound),
    ("get", {"memory_id": "../x"}, NotFound),
    ("get_all", {"limit": 0}, Invalid),
    ("update", {"memory_id": "no-such-id", "text": "x"}, NotFound),
    ("delete", {"memory_id": "no-such-id"}, NotFound),
    ("restore_snapshot", {"name": "never made"}, NotFound),
    ("snapshot", {"name": ""}, Invalid),
    ("history", {"memory_id": "no-such-id"}, NotFound),
    ("neighbours", {"node": "entity:Nobody"}, NotFound),
]


@pytest.mark.parametrize(("verb", "arguments", "error"), WRONG, ids=lambda v: v if isinstance(v, str) else "")
async def test_bad_input_is_refused_and_changes_nothing(
    cube: AsyncCube, verb: str, arguments: dict[str, object], error: type[MemosError]
):
    await cube.add("intact")
    before = (await cube.export_table()).num_rows
    with pytest.raises(error) as caught:
        await getattr(cube, verb)(**arguments)
    assert len(str(caught.value)) > 10
    assert (await cube.export_table()).num_rows == before
    assert [item.text for item in await cube.get_all()] == ["intact"]


@pytest.mark.parametrize(
    "text", ["🧑‍🚀 in orbit 🛰️", "a NUL \x00 inside", "كتاب", "ｆｕｌｌ　ｗｉｄｔｈ", "e\u0301"]
)
async def test_odd_texts_come_back_as_they_were(cubes: LocalCubes, text: str):
    await (await cubes.cube("odd")).add(text)
    await cubes.close()
    assert [item.text for item in await (await cubes.cube("odd")).get_all()] == [text]


async def test_odd_cube_ids_are_cubes_of_their_own(cubes: LocalCubes, tmp_path: Path):
    ids = ["../x", "x", "X", "user:Maya", "user:maya", "a/b", "a\\b", "猫", "..", "CON", "x" * 200]
    for cube_id in ids:
        await (await cubes.cube(cube_id)).add(f"I am {cube_id}")
    await cubes.close()
    for cube_id in ids:
        assert [item.text for item in await (await cubes.cube(cube_id)).get_all()] == [f"I am {cube_id}"]
    assert {p.name for p in tmp_path.iterdir()} == {"cubes", "registry"}
    for wrong in ("", "a\x00b", "\ud800", "y" * 201):
        with pytest.raises(Invalid):
            await cubes.cube(wrong)


async def test_vectors_are_rebuilt_when_their_table_is_gone(
    cubes: LocalCubes, cube: AsyncCube, tmp_path: Path
):
    await cube.add("Pears ripen in the cellar.")
    await cubes.close()
    for folder in tmp_path.rglob("vectors"):
        shutil.rmtree(folder)
    hits = await cube.search("pears", explain=True)
    assert hits[0].explanation is not None
    assert "dense" in hits[0].explanation.arms


async def test_archived_memories_are_not_found_until_restored(cube: AsyncCube):
    memory_id = (await cube.add("The attic holds a rocking horse.")).ids[0]
    await cube.archive(memory_id)
    assert await cube.search("rocking horse") == []
    assert (await cube.get(memory_id)).status is Status.ARCHIVED
    await cube.restore(memory_id)
    assert len(await cube.search("rocking horse")) == 1


async def test_a_new_text_brings_its_own_names_and_dates(cube: AsyncCube):
    memory_id = (await cube.add("Dinner with Paula on 3 May 2024.", timestamp=MAY)).ids[0]
    await cube.update(memory_id, text="Dinner with Henrik on 4 May 2024.")
    item = await cube.get(memory_id)
    assert item.entities == ("Henrik",)
    assert [m.start for m in item.times] == [datetime(2024, 5, 4, tzinfo=UTC)]
