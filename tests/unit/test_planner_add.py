from datetime import UTC, datetime, timedelta

import pytest

from memos_ray.cube.requests import AddMemories, ArchiveMemory, DeleteMemories, UpdateMemory
from memos_ray.cube.rows import Op
from memos_ray.errors import Conflict, NotFound
from memos_ray.ids import memory_id
from memos_ray.ingest.drafts import MemoryDraft
from memos_ray.testing.plain_journal import PlainJournal
from memos_ray.types import Kind, Link, LinkType, Source, Status

T = datetime(2024, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def said(text: str, turn: str | None = None, speaker: str = "Ann", session: str | None = "s") -> MemoryDraft:
    return MemoryDraft(text, Kind.MESSAGE, T, source=Source(session=session, turn=turn, speaker=speaker))


def fact(text: str, document: str = "d", **changes: object) -> MemoryDraft:
    return MemoryDraft(text, Kind.FACT, T, source=Source(document=document), **changes)  # type: ignore[arg-type]


def lives(city: str, since: datetime, who: str = "Ann", **changes: object) -> MemoryDraft:
    return MemoryDraft(
        f"{who} lives in {city}",
        Kind.TRIPLE,
        since,
        metadata={"subject": who, "relation": "lives_in", "object": city, **changes},
        supersedes_key=(who, "lives_in"),
    )


def events(result: object) -> list[str]:
    return [e.event for e in result.events]  # type: ignore[attr-defined]


@pytest.fixture
def journal() -> PlainJournal:
    return PlainJournal("user:x")


def test_ids_come_from_op_id_and_position(journal: PlainJournal) -> None:
    result = journal.submit(AddMemories([said("a"), said("b")], op_id="op"))
    assert result.ids == (memory_id("user:x", "op", 0), memory_id("user:x", "op", 1))
    assert [(e.event, e.version, e.text) for e in result.events] == [("ADD", 1, "a"), ("ADD", 1, "b")]


def test_equal_messages_are_two_messages(journal: PlainJournal) -> None:
    assert (
        events(journal.submit(AddMemories([said("ok"), said("ok"), said("ok", "1"), said("ok", "2")])))
        == ["ADD"] * 4
    )


def test_a_repeated_delivery_is_recognised(journal: PlainJournal) -> None:
    first = journal.submit(AddMemories([said("hi", "1"), said("you", "2", "Bo")]))
    for _ in range(2):
        again = journal.submit(AddMemories([said("hi", "1"), said("you", "2", "Bo"), said("new", "3")]))
        assert again.ids[:2] == first.ids
        assert events(again)[:2] == ["NONE", "NONE"]
        assert [e.text for e in again.events] == ["hi", "you", "new"]
        journal.crash()
    assert journal.state.n_slots == 3
    in_one_call = journal.submit(AddMemories([said("x", "9"), said("x", "9")]))
    assert events(in_one_call) == ["ADD", "NONE"]


def test_turns_differ_by_session_speaker_and_scope(journal: PlainJournal) -> None:
    drafts = [
        said("hi", "1"),
        said("hi", "1", session="other"),
        said("hi", "1", "Bo"),
        MemoryDraft("hi", Kind.MESSAGE, T, source=said("", "1").source, metadata={"run_id": "r"}),
    ]
    assert events(journal.submit(AddMemories(drafts))) == ["ADD"] * 4


def test_a_turn_with_another_text_is_an_edit(journal: PlainJournal) -> None:
    (one,) = journal.submit(AddMemories([said("helo", "1")])).ids
    edit = journal.submit(AddMemories([said("hello", "1")]))
    assert (edit.events[0].event, edit.events[0].memory_id, edit.events[0].version) == ("UPDATE", one, 2)
    assert journal.state.get(one).text == "hello"
    assert events(journal.submit(AddMemories([said("hello", "1")]))) == ["NONE"]


def test_redelivery_does_not_undo_a_callers_update(journal: PlainJournal) -> None:
    (one,) = journal.submit(AddMemories([said("my pin is 1234", "1")])).ids
    journal.submit(UpdateMemory(one, text="my pin is …"))
    journal.submit(UpdateMemory(one, text="(removed)"))
    journal.crash()
    assert events(journal.submit(AddMemories([said("my pin is 1234", "1")]))) == ["NONE"]
    assert journal.state.get(one).text == "(removed)"
    assert events(journal.submit(AddMemories([said("my pin is 99", "1")]))) == ["UPDATE"]


def test_a_deleted_message_that_comes_again_is_new(journal: PlainJournal) -> None:
    (one,) = journal.submit(AddMemories([said("hi", "1")])).ids
    journal.submit(DeleteMemories((one,)))
    again = journal.submit(AddMemories([said("hi", "1")]))
    assert events(again) == ["ADD"]
    assert again.ids != (one,)


def test_messages_follow_one_another_within_their_session(journal: PlainJournal) -> None:
    a, b, other = journal.submit(AddMemories([said("a"), said("b"), said("x", session="other")])).ids
    journal.crash()
    (c,) = journal.submit(AddMemories([said("c")])).ids
    links = {i: journal.state.get(i).links for i in (a, b, c, other)}
    assert links == {a: (), b: (Link("follows", a),), c: (Link("follows", b),), other: ()}
    journal.submit(DeleteMemories((c,)))
    (d,) = journal.submit(AddMemories([said("d")])).ids
    assert journal.state.get(d).links == (Link("follows", b),)
    (alone,) = journal.submit(AddMemories([said("no session", session=None)])).ids
    assert journal.state.get(alone).links == ()


def test_equal_derived_memories_are_one(journal: PlainJournal) -> None:
    (one,) = journal.submit(AddMemories([fact("likes  café")])).ids
    journal.crash()
    same = journal.submit(AddMemories([fact("likes cafe\u0301 "), fact("likes café")]))
    assert events(same) == ["NONE", "NONE"]
    assert same.ids == (one, one)


def test_another_source_is_kept_in_a_new_version(journal: PlainJournal) -> None:
    (one,) = journal.submit(AddMemories([fact("likes tea", metadata={"a": 1})])).ids
    merged = journal.submit(
        AddMemories([fact("likes tea", "e", metadata={"a": 2, "b": 3}, entities=("tea",))])
    )
    assert [(e.memory_id, e.event, e.version) for e in merged.events] == [(one, "MERGE", 2)]
    item = journal.state.get(one)
    assert [s.document for s in item.sources] == ["d", "e"]
    assert (item.metadata, item.entities) == ({"a": 1, "b": 3}, ("tea",))
    assert events(journal.submit(AddMemories([fact("likes tea", "e")]))) == ["NONE"]


@pytest.mark.parametrize(
    "other",
    [
        MemoryDraft("likes tea", Kind.PREFERENCE, T),
        MemoryDraft("likes tea", Kind.FACT, T + DAY),
        MemoryDraft("likes tea", Kind.FACT, T, valid_to=T + DAY),
        MemoryDraft("likes tea", Kind.FACT, T, metadata={"user_id": "bo"}),
        MemoryDraft("likes tea!", Kind.FACT, T),
    ],
    ids=["kind", "valid_from", "valid_to", "scope", "text"],
)
def test_different_memories_stay_apart(journal: PlainJournal, other: MemoryDraft) -> None:
    assert events(journal.submit(AddMemories([fact("likes tea"), other]))) == ["ADD", "ADD"]


def test_archived_memories_are_not_merged_into(journal: PlainJournal) -> None:
    (one,) = journal.submit(AddMemories([fact("likes tea")])).ids
    journal.submit(ArchiveMemory(one))
    assert events(journal.submit(AddMemories([fact("likes tea")]))) == ["ADD"]


def test_derived_from_names_positions_or_origins(journal: PlainJournal) -> None:
    said_, derived = journal.submit(
        AddMemories([said("I like tea"), fact("likes tea", derived_from=(0,))])
    ).ids
    assert journal.state.get(derived).links == (Link(LinkType.DERIVED_FROM, said_),)
    (later,) = journal.submit(AddMemories([fact("drinks tea", derived_from=(0,))], origins=[said_])).ids
    assert journal.state.get(later).links == (Link(LinkType.DERIVED_FROM, said_),)
    with pytest.raises(NotFound):
        journal.submit(AddMemories([fact("x", derived_from=(0,))], origins=["nope"]))


def test_a_later_triple_closes_the_earlier(journal: PlainJournal) -> None:
    (rome,) = journal.submit(AddMemories([lives("Rome", T)])).ids
    journal.crash()
    moved = journal.submit(AddMemories([lives("Bonn", T + 9 * DAY)]))
    assert events(moved) == ["ADD", "SUPERSEDE"]
    old, new = journal.state.get(rome), journal.state.get(moved.ids[0])
    assert (old.status, old.valid_to) == (Status.SUPERSEDED, T + 9 * DAY)
    assert (new.status, new.valid_to, new.links) == (Status.ACTIVE, None, (Link("supersedes", rome),))


def test_a_late_triple_takes_its_place_in_the_row(journal: PlainJournal) -> None:
    rome, bonn = (
        journal.submit(AddMemories([d])).ids[0] for d in (lives("Rome", T), lives("Bonn", T + 9 * DAY))
    )
    ulm = journal.submit(AddMemories([lives("Ulm", T + 4 * DAY)])).ids[0]
    early = journal.submit(AddMemories([lives("Oslo", T - DAY)])).ids[0]
    spans = {
        i: (journal.state.get(i).valid_to, journal.state.get(i).status) for i in (early, rome, ulm, bonn)
    }
    assert spans == {
        early: (T, Status.SUPERSEDED),
        rome: (T + 4 * DAY, Status.SUPERSEDED),
        ulm: (T + 9 * DAY, Status.SUPERSEDED),
        bonn: (None, Status.ACTIVE),
    }


def test_events_of_drafts_come_first(journal: PlainJournal) -> None:
    (rome,) = journal.submit(AddMemories([lives("Rome", T), fact("f")])).ids[:1]
    result = journal.submit(AddMemories([lives("Bonn", T + DAY), fact("f"), fact("g")], op_id="op"))
    assert events(result) == ["ADD", "NONE", "ADD", "SUPERSEDE"]
    assert result.ids[3] == rome
    journal.crash()
    assert journal.submit(AddMemories([lives("Bonn", T + DAY), fact("f"), fact("g")], op_id="op")) == result


def test_triples_of_one_time_settle_once(journal: PlainJournal) -> None:
    batch = [lives("Rome", T), lives("Bonn", T)]
    first = journal.submit(AddMemories(batch))
    for _ in range(2):
        journal.crash()
        assert events(journal.submit(AddMemories(batch))) == ["NONE", "NONE"]
    rome, bonn = first.ids[0], first.ids[1]
    assert journal.state.get(rome).status is Status.SUPERSEDED
    assert journal.state.get(bonn).status is Status.ACTIVE


def test_other_subjects_objects_and_scopes_are_left_alone(journal: PlainJournal) -> None:
    first = journal.submit(AddMemories([lives("Rome", T)])).ids[0]
    others = [lives("Bonn", T + DAY, "Bo"), lives("Rome", T + DAY), lives("Bonn", T + DAY, user_id="u2")]
    assert events(journal.submit(AddMemories(others))) == ["ADD"] * 3
    assert journal.state.get(first).status is Status.ACTIVE


def test_subjects_are_compared_without_case(journal: PlainJournal) -> None:
    journal.submit(AddMemories([lives("Rome", T)]))
    assert events(journal.submit(AddMemories([lives("Bonn", T + DAY, "ANN")]))) == ["ADD", "SUPERSEDE"]


def test_a_repeated_operation_is_answered_the_same(journal: PlainJournal) -> None:
    request = AddMemories([said("a", "1"), fact("f"), lives("Rome", T), fact("f")], op_id="op")
    first = journal.submit(request)
    assert events(first) == ["ADD", "ADD", "ADD", "NONE"]
    rows = len(journal.rows)
    assert journal.submit(request) == first
    journal.submit(UpdateMemory(first.ids[1], text="changed"))
    journal.crash()
    assert journal.submit(request) == first
    assert len(journal.rows) == rows + 1


def test_a_call_that_changes_nothing_is_on_record(journal: PlainJournal) -> None:
    journal.submit(AddMemories([fact("f")]))
    nothing = journal.submit(AddMemories([fact("f")], op_id="again"))
    assert journal.rows[-1].op is Op.NOOP
    journal.crash()
    journal.submit(UpdateMemory(nothing.ids[0], text="other"))
    assert journal.submit(AddMemories([fact("f")], op_id="again")) == nothing
    empty = journal.submit(AddMemories([], op_id="empty"))
    assert empty.events == ()
    assert journal.rows[-1].op_id == "empty"


def test_an_op_id_belongs_to_one_request_of_one_principal(journal: PlainJournal) -> None:
    journal.submit(AddMemories([fact("f")], op_id="op", principal="p"))
    with pytest.raises(Conflict, match="op_id op came with another request"):
        journal.submit(AddMemories([fact("g")], op_id="op", principal="p"))
    with pytest.raises(Conflict, match="another caller"):
        journal.submit(AddMemories([fact("h")], op_id="op", principal="q"))
    (one,) = journal.submit(AddMemories([fact("h")], op_id="other", principal="q")).ids
    update = UpdateMemory(one, text="i", op_id="op", principal="q")
    assert journal.submit(update) == journal.submit(update)


def test_a_group_sees_what_was_planned_before(journal: PlainJournal) -> None:
    one = AddMemories([said("a", "1")], op_id="one")
    bad = AddMemories([fact("x" * 10), fact("")])
    answers = journal.submit_group(
        [
            one,
            one,
            AddMemories([said("a", "1"), said("b", "2")]),
            bad,
            AddMemories([fact("y", derived_from=())]),
        ]
    )
    assert answers[0] == answers[1]
    assert events(answers[2]) == ["NONE", "ADD"]
    assert answers[3].argument == "text"
    b = answers[2].ids[1]
    assert journal.state.get(b).links == (Link("follows", answers[0].ids[0]),)
    assert journal.state.n_memories == 3


def test_a_refused_request_leaves_no_trace_in_its_group(journal: PlainJournal) -> None:
    (old,) = journal.submit(AddMemories([fact("f")])).ids
    refused = AddMemories([fact("g")], origins=["nope"], op_id="r")
    gone = DeleteMemories((old, "nope"))
    answers = journal.submit_group([refused, gone, AddMemories([fact("g")], op_id="r")])
    assert [type(a).__name__ for a in answers] == ["NotFound", "NotFound", "WriteResult"]
    assert journal.state.get(old).text == "f"
    assert events(answers[2]) == ["ADD"]


def test_a_group_that_was_not_applied_is_forgotten(journal: PlainJournal) -> None:
    request = AddMemories([fact("f")], op_id="op")
    journal.planner.begin_group()
    assert len(journal.planner.plan(request).rows) == 1
    journal.planner.begin_group()
    assert len(journal.planner.plan(request).rows) == 1
