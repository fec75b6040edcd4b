"""Contexts against the plainest way to find them, through every kind of change, and of a folded state."""

import random
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_ray.cube import contexts as module
from memos_ray.cube.contexts import CONTEXT_CHARS, Contexts
from memos_ray.cube.requests import (
    AddMemories,
    ArchiveMemory,
    CreateSnapshot,
    DeleteMemories,
    RestoreMemory,
    RestoreSnapshot,
    UpdateMemory,
)
from memos_ray.cube.state import CubeState
from memos_ray.ingest.drafts import MemoryDraft
from memos_ray.testing.plain_journal import PlainJournal
from memos_ray.types import Kind, Link, LinkType, Source, Status

T = datetime(2024, 5, 1, tzinfo=UTC)


def said(text, session="s", **changes):
    return MemoryDraft(text, Kind.MESSAGE, T, source=Source(session=session), **changes)


def plain(state, slot):
    """By objects, one memory after the other."""
    item = state.item(slot)
    if item.kind is Kind.DOCUMENT:
        return item.source.heading or ""
    if item.kind is not Kind.MESSAGE:
        return ""
    parts, at = [], item
    for _ in range(32):
        before = next((x.target for x in at.links if x.type == LinkType.FOLLOWS), None)
        if before is None:
            break
        at = next(e.item for e in reversed(state.history(before)) if e.item.text)
        now = state.history(before)[-1].item
        forever = datetime.max.replace(tzinfo=UTC)
        if now.status is Status.ACTIVE and (now.expires_at or forever) >= (item.expires_at or forever):
            parts.insert(0, now.text)
        if sum(len(p) + 1 for p in parts) > CONTEXT_CHARS:
            break
    whole = " ".join(parts)
    if len(whole) <= CONTEXT_CHARS:
        return whole
    cut = whole[-CONTEXT_CHARS:]
    if whole[-CONTEXT_CHARS - 1] != " ":
        first, _, rest = cut.partition(" ")
        cut = rest if len(first) < 40 else cut
    return cut


def live(state):
    return np.flatnonzero(state.slot_active.view)


def check(state, contexts):
    slots = live(state)
    expected = [plain(state, s) for s in slots.tolist()]
    for known in (contexts, Contexts(state)):
        assert known.of(slots) == expected
        np.testing.assert_array_equal(known.hashes(slots), contexts.hashes(slots))
    folded = CubeState.from_table("cube", state.store.to_table())
    assert Contexts(folded).of(slots) == expected
    np.testing.assert_array_equal(Contexts(folded).hashes(slots), contexts.hashes(slots))
    for memory in range(state.n_memories):
        np.testing.assert_array_equal(Contexts(folded).affected([memory]), contexts.affected([memory]))
    return dict(zip(slots.tolist(), expected, strict=True))


def changes(journal, rng, made):
    """One change of any kind."""
    known = list(journal.state.ids)
    pick = rng.choice(known) if known else None
    match rng.choice(["add", "add", "add", "update", "delete", "archive", "restore", "expire", "snapshot"]):
        case "add":
            drafts = []
            for _ in range(rng.randint(1, 4)):
                made[0] += 1
                words = " ".join(f"w{made[0]}" for _ in range(rng.choice([1, 5, 30])))
                expires = rng.choice([None, None, T + timedelta(days=20_000 + rng.randint(0, 2))])
                drafts.append(said(words, rng.choice("ab"), expires_at=expires))
            return AddMemories(tuple(drafts))
        case "update" if pick:
            made[0] += 1
            return UpdateMemory(pick, text=f"u{made[0]} " * rng.choice([1, 40]))
        case "delete" if pick:
            return DeleteMemories((pick,))
        case "archive" if pick:
            return ArchiveMemory(pick)
        case "restore" if pick:
            return RestoreMemory(pick)
        case "expire" if pick:
            return UpdateMemory(pick, expires_at=rng.choice([None, T + timedelta(days=20_001)]))
        case "snapshot" if "S" in journal.state.snapshots:
            return RestoreSnapshot("S")
        case _:
            return CreateSnapshot("S") if "S" not in journal.state.snapshots else AddMemories((said("x"),))


@given(st.integers(0, 2**32 - 1))
def test_contexts_are_what_is_live_and_every_change_is_told(seed):
    rng, journal, made = random.Random(seed), PlainJournal(), [0]
    contexts = Contexts(journal.state)
    before = {}
    for step in range(12):
        events = journal.state.event_row.size
        try:
            journal.submit(changes(journal, rng, made))
        except Exception as error:
            assert type(error).__name__ in ("NotFound", "Conflict"), error  # noqa: PT017
        touched = journal.state.event_memory.view[events:]
        told = contexts.affected(touched.tolist())
        slots = live(journal.state)
        same_hash(contexts.hashes(slots), contexts.of(slots))
        after = check(journal.state, contexts) if step % 4 == 3 else now(journal.state, contexts)
        other = {s for s in before.keys() & after.keys() if before[s] != after[s]}
        assert other <= set(told.tolist())
        before = after


def same_hash(hashes, contexts):
    """One hash for one context. (A context may have several: its first text may be cut.)"""
    told = {}
    for hash_, context in zip(hashes.tolist(), contexts, strict=True):
        assert told.setdefault(hash_, context) == context
        assert (hash_ == 0) == (context == "")


def now(state, contexts):
    slots = live(state)
    return dict(zip(slots.tolist(), contexts.of(slots), strict=True))


def test_only_messages_of_the_same_session_and_headings_are_read():
    journal = PlainJournal()
    document = MemoryDraft("chunk", Kind.DOCUMENT, T, source=Source(document="d", heading="Guide > Install"))
    bare = MemoryDraft("chunk 2", Kind.DOCUMENT, T)
    fact = MemoryDraft("fact", Kind.FACT, T, source=Source(session="s"))
    journal.submit(AddMemories((said("one"), said("other", "t"), fact, said("two"), document, bare)))
    journal.submit(AddMemories((said("three"),)))
    expected = ["", "", "", "one", "Guide > Install", "", "one two"]
    assert Contexts(journal.state).of(range(7)) == expected
    check(journal.state, Contexts(journal.state))
    assert Contexts(journal.state).of([4, 6, 4]) == ["Guide > Install", "one two", "Guide > Install"]
    assert Contexts(journal.state).of([]) == []
    assert Contexts(CubeState.empty("c")).affected([]).tolist() == []


def test_what_expires_is_read_only_before_what_expires_no_later():
    journal = PlainJournal()
    soon, late = (T + timedelta(days=days) for days in (20_000, 20_001))
    journal.submit(AddMemories((said("soon", expires_at=soon), said("late", expires_at=late), said("ever"))))
    journal.submit(AddMemories((said("end", expires_at=soon),)))
    assert Contexts(journal.state).of(range(4)) == ["", "", "", "soon late ever"]


def test_a_long_run_of_deleted_messages_is_not_walked_through():
    journal = PlainJournal()
    ids = journal.submit(AddMemories(tuple(said(f"m{i}") for i in range(60)))).ids
    journal.submit(DeleteMemories(ids[10:59]))
    assert Contexts(journal.state).of([59]) == [""]
    assert 59 not in Contexts(journal.state).affected([5]).tolist()
    assert 59 in Contexts(journal.state).affected([40]).tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a" * 240, "a" * 240),
        ("a" * 300, "a" * 240),  # one endless word
        ("人" * 300, "人" * 240),
        ("long " * 60, "long " * 48),
        ("longer " * 60, "longer " * 34),
        ("xy\n" * 90, "xy\n" * 80),
        ("\U0001f600" * 241, "\U0001f600" * 240),
    ],
)
def test_it_is_cut_at_a_word_where_there_are_words(text, expected, monkeypatch):
    monkeypatch.setattr(module, "CONTEXT_CHARS", 240)
    assert module._end(text) == expected


def test_two_may_follow_the_same():
    """The second one was added after the first was deleted, which then came back."""
    journal = PlainJournal()
    journal.submit(AddMemories((said("one"), said("two"), said("three"))))
    journal.submit(CreateSnapshot("S"))
    journal.submit(DeleteMemories(tuple(journal.state.ids[1:])))
    journal.submit(AddMemories((said("four"),)))
    journal.submit(RestoreSnapshot("S"))
    contexts = Contexts(journal.state)
    assert journal.state.texts(contexts.affected([0])) == ["two", "three"]
    check(journal.state, contexts)
    journal.submit(DeleteMemories(tuple(journal.state.ids[1:3])))
    journal.submit(AddMemories((said("five"),)))
    assert journal.state.texts(contexts.affected([0])) == ["five"]
    check(journal.state, contexts)


def test_links_in_circles_and_to_nowhere_end():
    journal = PlainJournal()
    a, b = journal.submit(AddMemories((said("a"), said("b")))).ids
    for memory, target in ((a, b), (a, a), (b, "nowhere")):
        journal.submit(UpdateMemory(memory, links=(Link(LinkType.FOLLOWS, target),)))
    for state in (journal.state, CubeState.from_table("cube", journal.state.store.to_table())):
        contexts = Contexts(state)
        assert [len(c) for c in contexts.of(live(state))] == [63, 63]  # 32 steps of one character
        assert set(contexts.affected([0]).tolist()) <= set(live(state).tolist())
