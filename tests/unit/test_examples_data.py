"""The example conversations are well-formed, dated in order, and their questions' evidence exists."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from cluster.cli.examples import example_path, load_example
from cluster.cli.reading import read_file

CONVERSATIONS = {
    "maya_and_jon.json": (300, 12, 14),
    "lin_zh.json": (50, 3, 4),
}  # turns, fewest and most sessions


def turns_of(example):
    return {t["turn"]: (t, s) for s in example["sessions"] for t in s["turns"]}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_sessions_are_dated_in_order_and_turns_are_named_once(name):
    example = load_example(name)
    fewest_turns, fewest, most = CONVERSATIONS[name]
    dates = [datetime.fromisoformat(s["date"]) for s in example["sessions"]]
    assert all(d.tzinfo is not None for d in dates)
    assert dates == sorted(set(dates))
    assert fewest <= len(dates) <= most
    ids = [t["turn"] for s in example["sessions"] for t in s["turns"]]
    assert len(ids) == len(set(ids)) >= fewest_turns
    assert all(t["turn"].startswith(f"{s['session']}:") for s in example["sessions"] for t in s["turns"])


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_turns_are_prose_of_both_speakers_and_hardly_repeat(name):
    example = load_example(name)
    texts = [t["text"] for s in example["sessions"] for t in s["turns"]]
    assert all(text == text.strip() != "" for text in texts)
    assert len(set(texts)) >= 0.99 * len(texts)
    assert {t["speaker"] for s in example["sessions"] for t in s["turns"]} == set(example["speakers"])


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_evidence_exists_and_was_said_before_the_time_that_is_asked_about(name):
    example = load_example(name)
    known = turns_of(example)
    for question in example["questions"]:
        assert question["evidence"], question["question"]
        for turn in question["evidence"]:
            assert turn in known, (question["question"], turn)
            if "as_of" in question:
                said = datetime.fromisoformat(known[turn][1]["date"])
                assert said < datetime.fromisoformat(question["as_of"])


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_demo_asks_a_fact_a_time_two_memories_and_both_sides_of_a_change(name):
    asked = load_example(name)["questions"][:5]
    assert [q["kind"] for q in asked] == ["fact", "time", "two", "as_of", "as_of"]
    assert len(asked[2]["evidence"]) == 2
    before, after = asked[3:]
    assert before["question"] == after["question"]
    assert before["as_of"] < after["as_of"]
    assert before["evidence"] != after["evidence"]


@pytest.mark.parametrize("name", [*CONVERSATIONS, "kitchen_handbook.md"])
def test_every_example_can_be_ingested(name):
    requests = read_file(example_path(name))
    assert requests
    if name in CONVERSATIONS:
        turns = turns_of(json.loads(example_path(name).read_text(encoding="utf-8")))
        assert sum(r.units for r in requests) == len(turns)
        sent = [m for r in requests for m in r.arguments["messages"]]
        assert [m["turn"] for m in sent] == list(turns)
