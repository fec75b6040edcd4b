"""One cube without Ray, on real Lance in a temporary folder: the verbs, and what must not break it."""

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from memos_ray.config import Settings
from memos_ray.cube.requests import AddMemories, WriteResult
from memos_ray.cube_handle import AsyncCube
from memos_ray.errors import Conflict, Invalid, MemosError, Moved, NotFound, Unavailable
from memos_ray.ingest.drafts import MemoryDraft
from memos_ray.ingest.extract_rules import extract_statements
from memos_ray.ingest.messages import parse_messages
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


async def test_infer_is_part_of_the_call(cube: AsyncCube):
    await cube.add("My name is Bo and I like tea.", op_id="same")
    with pytest.raises(Conflict, match="same"):
        await cube.add("My name is Bo and I like tea.", op_id="same", infer=True)


async def test_more_derived_facts_than_one_write_takes(tmp_path: Path):
    settings = Settings(max_batch=3)
    said = [
        f"I live in {a}. I work at {b}. I like {c}." for a, b, c in zip(CITIES, FIRMS, DRINKS, strict=True)
    ]
    async with LocalCubes(str(tmp_path), settings=settings) as cubes:
        cube = await cubes.cube("u")
        first = await cube.add(said, infer=True, op_id="talk")
        assert len(first.events) > 3 + 3
        assert (await cube.add(said, infer=True, op_id="talk")).events == first.events
        rows = (await cube.export_table()).num_rows
    async with LocalCubes(str(tmp_path), settings=settings) as cubes:
        cube = await cubes.cube("u")
        assert (await cube.add(said, infer=True, op_id="talk")).events == first.events
        assert (await cube.export_table()).num_rows <= rows + 2  # the claim of another owner


CITIES, FIRMS, DRINKS = ("Rome", "Oslo", "Lima"), ("Acme", "Initech", "Globex"), ("tea", "cocoa", "cider")


async def test_facts_of_a_portion_that_was_never_written_come_with_the_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    said = [
        f"I live in {a}. I work at {b}. I like {c}." for a, b, c in zip(CITIES, FIRMS, DRINKS, strict=True)
    ]
    async with LocalCubes(str(tmp_path), settings=Settings(max_batch=3)) as cubes:
        cube, active = await cubes.cube("u"), await cubes.active("u")
        write, calls = active._deriver._write, []

        async def once(request: AddMemories) -> WriteResult:
            calls.append(request)
            if len(calls) == 2:
                raise Unavailable("the disk is away", what="storage")
            return await write(request)

        monkeypatch.setattr(active._deriver, "_write", once)
        with pytest.raises(Unavailable):
            await cube.add(said, infer=True, op_id="talk")
        whole = await cube.add(said, infer=True, op_id="talk")
        assert len(calls) > 3
        undisturbed = await (await cubes.cube("v")).add(said, infer=True)
        assert [(e.event, e.text) for e in whole.events] == [(e.event, e.text) for e in undisturbed.events]


async def test_a_message_that_was_deleted_before_the_retry_derives_nothing(
    cubes: LocalCubes, cube: AsyncCube, monkeypatch: pytest.MonkeyPatch
):
    said = ["I live in Rome.", "I work at Acme."]
    deriver = (await cubes.active("user:maya"))._deriver
    write = deriver._write

    async def away(request: AddMemories) -> WriteResult:
        raise Unavailable("the disk is away", what="storage")

    async def too_late(request: AddMemories) -> WriteResult:
        """One more message is deleted while the facts wait in the queue."""
        monkeypatch.setattr(deriver, "_write", write)
        await cube.delete(rome)
        return await write(request)

    monkeypatch.setattr(deriver, "_write", away)
    for op_id, also in (("one", False), ("all", True)):
        with pytest.raises(Unavailable):
            await cube.add(said, op_id=op_id, infer=True)
        rome, acme = [item.id for item in await cube.get_all(filters={"kind": "message"})]
        await cube.delete(acme)
        monkeypatch.setattr(deriver, "_write", too_late if also else write)
        again = await cube.add(said, op_id=op_id, infer=True)
        assert (await cube.add(said, op_id=op_id, infer=True)) == again
        facts = [item.text for item in await cube.get_all(filters={"kind": {"ne": "message"}})]
        assert facts == ([] if also else ["The user lives in Rome"])
        await cube.delete_all()
        monkeypatch.setattr(deriver, "_write", away)


HOLDS_ITSELF: dict[str, object] = {}
HOLDS_ITSELF["again"] = HOLDS_ITSELF
HOLDS_ITSELF_TOO: list[object] = ["fact"]
HOLDS_ITSELF_TOO.append(HOLDS_ITSELF_TOO)

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


async def test_bad_input_is_refused_and_changes_nothing(cube: AsyncCube, subtests: pytest.Subtests):
    await cube.add("intact")
    before = (await cube.export_table()).num_rows
    for number, (verb, arguments, error) in enumerate(WRONG):
        with subtests.test(number=number, verb=verb):
            with pytest.raises(error) as caught:
                await getattr(cube, verb)(**arguments)
            assert len(str(caught.value)) > 10
            assert (await cube.export_table()).num_rows == before
            assert [item.text for item in await cube.get_all()] == ["intact"]


ILL_TYPED: list[tuple[str, dict[str, Any]]] = [
    ("get_all", {"limit": "x"}),
    ("get_all", {"limit": 1.5}),
    ("get_all", {"filters": ()}),
    ("add", {"messages": "x", "metadata": HOLDS_ITSELF}),
    ("add", {"messages": "x", "metadata": {"n": 10**5000}}),
    ("add", {"messages": [{"role": "user", "tool_calls": [{"function": HOLDS_ITSELF}]}]}),
    ("add", {"messages": "x", "infer": "no"}),
    ("add", {"messages": ["x"] * 10_001}),
    ("add_triples", {"triples": [("a", "b", "x" * 300_000)]}),
    ("search", {"query": "x", "top_k": "5"}),
    ("search", {"query": "x", "top_k": 2.5}),
    ("search", {"query": "x", "top_k": True}),
    ("search", {"query": "x", "threshold": "high"}),
    ("search", {"query": "x", "threshold": float("nan")}),
    ("search", {"query": "x", "budget_tokens": "many"}),
    ("search", {"query": "x", "neighbours": "some"}),
    ("search", {"query": "x", "filters": ()}),
    ("search", {"query": "half a \ud83d pair"}),
    ("search", {"query": "long " * 14_000}),
    ("get", {"memory_id": None}),
    ("get", {"memory_id": ["a"], "as_of": "2024-01-01"}),
    ("history", {"memory_id": ["a"]}),
    ("delete", {"memory_id": ["a"]}),
    ("archive", {"memory_id": ["a"]}),
    ("restore", {"memory_id": ["a"]}),
    ("update", {"memory_id": ["a"], "text": "x"}),
    ("update", {"memory_id": "a", "text": "x", "if_version": "1"}),
    ("update", {"memory_id": "a", "text": "x" * 300_000}),
    ("update", {"memory_id": "a", "metadata": HOLDS_ITSELF}),
    ("delete_all", {"filters": ()}),
    ("delete_all", {"filters": {"kind": {"in": HOLDS_ITSELF_TOO}}}),
    ("neighbours", {"node": None}),
    ("neighbours", {"node": "entity:x", "types": 3}),
    ("neighbours", {"node": "entity:x", "types": "mentions"}),
    ("neighbours", {"node": "entity:x", "types": [None]}),
    ("neighbours", {"node": "entity:x", "depth": True}),
]


async def test_wrong_types_and_sizes_are_refused(cube: AsyncCube):
    await cube.add("intact")
    before = (await cube.export_table()).num_rows
    for verb, arguments in ILL_TYPED:
        with pytest.raises(Invalid) as caught:
            await getattr(cube, verb)(**arguments)
        assert len(str(caught.value)) > 10
    assert (await cube.export_table()).num_rows == before
    assert [item.text for item in await cube.get_all()] == ["intact"]


async def test_odd_texts_come_back_as_they_were(cubes: LocalCubes):
    texts = ["🧑‍🚀 in orbit 🛰️", "a NUL \x00 inside", "كتاب", "ｆｕｌｌ　ｗｉｄｔｈ", "e\u0301"]
    for text in texts:
        await (await cubes.cube("odd")).add(text)
    await cubes.close()
    assert [item.text for item in await (await cubes.cube("odd")).get_all()] == texts


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


async def test_an_over_long_message_is_refused_before_it_is_read(
    cube: AsyncCube, monkeypatch: pytest.MonkeyPatch
):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was parsed")

    monkeypatch.setattr("memos_ray.cube.cube.parse_messages", never)
    most = Settings().max_text_bytes
    for content in ("x" * (most + 1), "é" * (most // 2 + 1), [{"type": "text", "text": "x" * (most + 1)}]):
        with pytest.raises(Invalid, match=r"messages\[1\].*max_text_bytes"):
            await cube.add(["fine", {"role": "user", "content": content}])


@pytest.mark.parametrize(("messages", "elsewhere"), [(["short"], False), (["long " * 8_000], True)])
async def test_much_text_is_read_in_a_thread(
    cube: AsyncCube, monkeypatch: pytest.MonkeyPatch, messages: list[str], elsewhere: bool
):
    threads = []

    def watched(work: Callable[..., list[MemoryDraft]]) -> Callable[..., list[MemoryDraft]]:
        def noted(*args: Any, **kwargs: Any) -> list[MemoryDraft]:
            threads.append(threading.current_thread())
            return work(*args, **kwargs)

        return noted

    monkeypatch.setattr("memos_ray.cube.cube.parse_messages", watched(parse_messages))
    monkeypatch.setattr("memos_ray.ingest.extract_rules.extract_statements", watched(extract_statements))
    await cube.add(messages, infer=True)
    assert [t is not threading.main_thread() for t in threads] == [elsewhere] * 2


async def test_a_lost_cube_is_closed_before_another_takes_its_place(cubes: LocalCubes, cube: AsyncCube):
    await cube.add("Tea.")
    lost = await cubes.active("user:maya")
    lost._journal._lose(Moved("taken over", reason="claimed"))
    assert [item.text for item in await cube.get_all()] == ["Tea."]
    assert await cubes.active("user:maya") is not lost
    assert lost._journal._closing


async def test_closing_goes_on_after_a_cube_that_cannot_be_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cubes = LocalCubes(str(tmp_path))
    first, second = [await cubes.active(name) for name in ("a", "b")]

    async def broken() -> None:
        raise Unavailable("cannot be stopped", what="upkeep")

    monkeypatch.setattr(first._near, "close", broken)
    with pytest.raises(Unavailable, match="cannot be stopped"):
        await cubes.close()
    assert first._journal._closing
    assert second._journal._closing
    await cubes.close()
