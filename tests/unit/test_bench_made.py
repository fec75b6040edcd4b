"""Made conversations: the same for the same seed, read by the LoCoMo reader, and hard for a search by words."""

from __future__ import annotations

import json
import random
import re
from datetime import date

import pytest

from memos_ray.bench import locomo
from memos_ray.bench.locomo_data import CATEGORIES, read_locomo
from memos_ray.bench.made import calendar, grammar, story
from memos_ray.bench.made_dialogues import make_dialogues


@pytest.fixture(scope="module")
def samples():
    return make_dialogues(3, 4)


@pytest.fixture(scope="module")
def talks(samples, tmp_path_factory):
    path = tmp_path_factory.mktemp("made") / "made.json"
    path.write_text(json.dumps(samples))
    return read_locomo(path)


def test_a_seed_makes_the_same_and_another_makes_others(samples):
    assert make_dialogues(3, 2) == samples[:2]
    assert make_dialogues(4, 1)[0]["conversation"] != samples[0]["conversation"]


def test_every_question_names_turns_that_exist_and_belong_to_whom_it_asks_about(samples, talks):
    for sample, talk in zip(samples, talks, strict=True):
        turns = {t.id: t for s in talk.sessions for t in s.turns}
        for raw, question in zip(sample["qa"], talk.questions, strict=True):
            assert question.gold == tuple(raw["evidence"])
            assert question.gold
            assert len({turns[i].speaker for i in question.gold}) == 1
            assert turns[question.gold[0]].speaker in question.text


def test_all_kinds_of_questions_and_several_sessions_of_evidence(talks):
    kinds = {CATEGORIES[q.category] for t in talks for q in t.questions}
    assert kinds == {"multi-hop", "temporal", "open-domain", "single-hop"}
    many = [q.gold for t in talks for q in t.questions if q.category == 1]
    assert sum(len({i.split(":")[0] for i in gold}) > 1 for gold in many) > 0.8 * len(many)


def test_sessions_are_in_order_and_no_template_is_left_in_a_text(samples, talks):
    for talk in talks:
        times = [s.when for s in talk.sessions]
        assert times == sorted(times)
        assert 300 < talk.n_turns < 700
    assert not re.search(r'[{}|]|\[(?!")', "".join(t["text"] for t in _turns(samples)))


def test_no_question_copies_its_evidence(talks):
    for talk in talks:
        turns = {t.id: t.text.lower() for s in talk.sessions for t in s.turns}
        for question in talk.questions:
            words = re.findall(r"\w+", question.text.lower())
            runs = {" ".join(words[i : i + 8]) for i in range(len(words) - 7)}
            assert not any(run in turns[i] for run in runs for i in question.gold)


def test_a_search_by_words_finds_some_of_it_and_not_most(talks):
    found = locomo.score(talks, locomo.bm25_floor(talks))["categories 1-4"]["recall@10"]
    assert 0.4 < found < 0.7


def test_a_plan_comes_before_its_outcome():
    for seed in range(20):
        told = story.make_story(random.Random(seed)).told
        plans = {(t.who, t.topic): t.session for t in told if t.kind == "plan"}
        outcomes = {(t.who, t.topic): t.session for t in told if t.kind == "outcome"}
        assert plans.keys() == outcomes.keys()
        assert all(plans[key] < outcomes[key] for key in plans)


def test_a_past_day_lies_before_today_and_means_what_it_says():
    today = date(2024, 5, 15)  # a Wednesday
    found = [calendar.past(random.Random(n), today) for n in range(200)]
    assert all(p.first <= p.last < today for p in found)
    by_words = {p.said: p for p in found}
    assert by_words["last weekend"].first == date(2024, 5, 11)
    assert by_words["last month"].on == "in April 2024"
    assert by_words["yesterday"].answer == "14 May, 2024"
    friday = by_words["last Friday"]
    assert (friday.first, friday.answer) == (date(2024, 5, 10), "the Friday before 15 May, 2024")


def test_templates_expand_and_an_unknown_slot_is_an_error():
    rng = random.Random(0)
    assert {grammar.expand(rng, "[a|{x}] c", {"x": "b"}) for _ in range(50)} == {"a c", "b c"}
    with pytest.raises(KeyError):
        grammar.expand(rng, "{y}", {"x": "b"})


def test_every_topic_is_complete():
    near = grammar.read("near")
    for name, topic in story.topics().items():
        assert len(topic["items"]["x"]) >= 8, name
        assert len(topic["events"]) == len(near[name]["events"]) == 2, name
        assert len(topic["facts"]) == len(near[name]["facts"]) == 2, name
        for group, close in zip([*topic["events"]], near[name]["events"], strict=True):
            assert len(close) == len(group["say"]), name


def _turns(samples):
    for sample in samples:
        for name, value in sample["conversation"].items():
            if re.fullmatch(r"session_\d+", name):
                yield from value
