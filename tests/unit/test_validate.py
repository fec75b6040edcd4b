import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from memos_ray.cube.requests import AddMemories, UpdateMemory
from memos_ray.cube.validate import Limits
from memos_ray.errors import Invalid
from memos_ray.ingest.drafts import MemoryDraft
from memos_ray.testing.plain_journal import PlainJournal
from memos_ray.types import Kind, Link, Source, TimeMention

T = datetime(2024, 5, 1, tzinfo=UTC)
LIMITS = Limits(max_text_bytes=100, max_metadata_bytes=200, max_batch=5, max_names=3)
GOOD = MemoryDraft("fine", Kind.FACT, T)
circle: dict[str, object] = {}
circle["self"] = circle


@pytest.mark.parametrize(
    ("changes", "argument", "says"),
    [
        ({"text": ""}, "text", "empty"),
        ({"text": " \n"}, "text", "empty"),
        ({"text": None}, "text", "must be a string"),
        ({"text": "ab\ud83dc"}, "text", r"U\+D83D\) at position 2"),
        ({"text": "ä" * 51}, "text", "102 bytes.*document"),
        ({"kind": "thought"}, "kind", "kinds are: message, fact"),
        ({"valid_from": datetime(2024, 1, 1)}, "valid_from", "timezone"),
        ({"valid_from": "2024-01-01"}, "valid_from", "must be a datetime"),
        (
            {"valid_from": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=8)))},
            "valid_from",
            "years 1 to 9999",
        ),
        ({"valid_to": T}, "valid_to", "not after"),
        ({"expires_at": datetime(2024, 1, 1)}, "expires_at", "timezone"),
        ({"metadata": {"a": {"b": math.nan}}}, "metadata", r"metadata\.a\.b is nan"),
        ({"metadata": {"a": [1, T]}}, "metadata", r"metadata\.a\[1\] is a datetime.*isoformat"),
        ({"metadata": {1: 2}}, "metadata", "key 1"),
        ({"metadata": {"a": "\udc00"}}, "metadata.a", "surrogate"),
        ({"metadata": {"a": "x" * 300}}, "metadata", "at most 200"),
        ({"metadata": {"a": 1 << 5000}}, "metadata", "bits"),
        ({"metadata": circle}, "metadata", "holds itself"),
        ({"metadata": [1]}, "metadata", "mapping"),
        ({"entities": ("",)}, r"entities[0]", "non-empty"),
        ({"entities": "Ann"}, "entities", "sequence"),
        ({"entities": ("a", "b", "c", "d")}, "entities", "at most 3"),
        ({"links": (Link("x", "y", math.inf),)}, "links", "weight"),
        ({"links": (Link("", "y"),)}, "links[0].type", "non-empty"),
        ({"times": (TimeMention("May", datetime(2024, 5, 1), T),)}, "times[0].start", "timezone"),
        ({"source": Source(session="\ud800")}, "source.session", "surrogate"),
        ({"source": Source(span_start=-1)}, "source", "characters"),
        ({"derived_from": (0,)}, "derived_from", "position 0"),
        ({"supersedes_key": ("a", "")}, "relation", "non-empty"),
    ],
)
def test_bad_drafts_are_refused_and_nothing_is_lost(
    changes: dict[str, object], argument: str, says: str
) -> None:
    journal = PlainJournal(limits=LIMITS)
    draft = replace(GOOD, **changes)  # type: ignore[arg-type]
    with pytest.raises(Invalid, match=f"(?s){says}") as caught:
        journal.submit(AddMemories([draft]))
    assert caught.value.argument == argument
    assert journal.rows == []
    if argument != "derived_from":  # in a batch, the error says which one it was
        with pytest.raises(Invalid, match="memory 1 of the call") as caught:
            journal.submit(AddMemories([GOOD, draft]))
        assert caught.value.position == 1
    journal.submit(AddMemories([GOOD]))
    assert journal.state.n_slots == 1


def test_odd_texts_are_kept_as_they_are() -> None:
    journal = PlainJournal()
    texts = ["\x00", "👩‍👩‍👧", "x" * 200_000, "\u202eabc", "e\u0301"]
    ids = journal.submit(AddMemories([replace(GOOD, text=t, kind=Kind.MESSAGE) for t in texts])).ids
    journal.crash()
    assert [journal.state.get(i).text for i in ids] == texts


def test_the_normal_form_is_what_storage_gives_back() -> None:
    journal = PlainJournal()
    eastern = timezone(timedelta(hours=-5))
    draft = replace(
        GOOD,
        valid_from=datetime(2024, 1, 1, tzinfo=eastern),
        valid_to=datetime(9999, 12, 31, tzinfo=UTC),
        metadata={"t": (1, 2), "kind": Kind.FACT},
        source=Source(session="", turn=7),  # type: ignore[arg-type]
        entities=("a", "a"),
    )
    (one,) = journal.submit(AddMemories([draft])).ids
    before = journal.state.get(one)
    journal.crash()
    after = journal.state.get(one)
    assert before == after
    assert (after.valid_from, after.metadata) == (
        datetime(2024, 1, 1, 5, tzinfo=UTC),
        {"t": [1, 2], "kind": "fact"},
    )
    assert (after.source, after.entities) == (Source(turn="7"), ("a",))


def test_other_requests_are_checked_too() -> None:
    journal = PlainJournal(limits=LIMITS)
    (one,) = journal.submit(AddMemories([GOOD])).ids
    for bad in (
        UpdateMemory(one),
        UpdateMemory(one, text=""),
        UpdateMemory(one, valid_to=T - timedelta(days=1)),
        UpdateMemory(one, valid_from=None),  # type: ignore[arg-type]
        UpdateMemory(one, kind="thought"),  # type: ignore[arg-type]
        AddMemories([GOOD] * 6),
        AddMemories([GOOD], op_id=""),
        "add",
    ):
        with pytest.raises(Invalid):
            journal.submit(bad)
    assert len(journal.rows) == 1


def test_digests_tell_requests_apart_and_nothing_else() -> None:
    one = AddMemories([GOOD], op_id="a", principal="p")
    assert one.digest == AddMemories([replace(GOOD)], op_id="b", principal="q").digest
    others = [
        AddMemories([replace(GOOD, text="other")]),
        AddMemories([GOOD, GOOD]),
        AddMemories([GOOD], origins=["x"]),
        AddMemories([replace(GOOD, metadata={"a": 1})]),
        AddMemories([replace(GOOD, metadata={"a": True})]),
        UpdateMemory("x", valid_to=None),
        UpdateMemory("x", text="a"),
    ]
    assert len({r.digest for r in [one, *others]}) == len(others) + 1
    a, b = ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert UpdateMemory("x", metadata=a).digest == UpdateMemory("x", metadata=b).digest
    assert AddMemories([GOOD], call_digest="c").digest == "c"
