"""LoCoMo end to end, the parts: scores against values computed by hand, verdicts, the state file, the estimate."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from pathlib import Path

import pytest
from scripted_chat import KEYS, locomo_file

from memos_ray.bench.end_to_end import prompts
from memos_ray.bench.end_to_end.contexts import FULL, MEMORY, NONE, full_context
from memos_ray.bench.end_to_end.keys import read_keys
from memos_ray.bench.end_to_end.plan import (
    ANSWER_TOKENS,
    VERDICT_TOKENS,
    Limits,
    estimate,
    make_plan,
    prompt_tokens,
)
from memos_ray.bench.end_to_end.scoring import bleu1, set_f1, token_f1
from memos_ray.bench.end_to_end.state import Answer, State, Verdict
from memos_ray.bench.end_to_end.summary import fill_report, rows
from memos_ray.bench.end_to_end.verdict import read_verdict, without_thoughts
from memos_ray.bench.locomo_data import read_locomo
from memos_ray.bench.report import Report
from memos_ray.errors import Conflict, Corrupt, Invalid
from memos_ray.retrieval.budget import approximate_tokens
from memos_ray.retrieval.packing import pack_hits
from memos_ray.types import Kind, Link, LinkType, MemoryItem, SearchHit, Source

SETTINGS = {"answer_model": "a", "top_k": 20}


@pytest.fixture
def data(tmp_path):
    return locomo_file(tmp_path / "talks.json")


def test_f1_is_over_stems_without_articles_and_punctuation():
    # {cat, chase, mous, happili} against {cat, chase, bird}: 2 shared of 4 and of 3.
    assert token_f1("The cat, and a mouse happily chased!", "cats chasing birds", 4) == pytest.approx(4 / 7)
    assert token_f1("7 May 2023", "May 7, 2023", 2) == 1.0
    assert token_f1("no no", "no", 2) == pytest.approx(2 / 3)  # bags, not sets
    assert token_f1("", "x", 4) == token_f1("the", "a", 4) == 0.0


def test_f1_of_a_multi_hop_question_matches_the_parts_of_the_key():
    # "clocks" is there (1), of "copper kettles" one of two words (2/3).
    assert token_f1("kettles, clocks", "clocks, copper kettles", 1) == pytest.approx((1 + 2 / 3) / 2)
    assert token_f1("clocks, kettles and copper", "clocks, kettles", 4) == pytest.approx(4 / 5)


def test_only_the_first_part_of_an_open_domain_key_counts():
    assert token_f1("Unlikely", "Unlikely; he gets seasick", 3) == 1.0
    assert token_f1("Unlikely", "Unlikely; he gets seasick", 4) == pytest.approx(2 / 5)


def test_set_f1_has_no_stems_and_counts_a_word_once():
    assert set_f1("No. No!", "no") == 1.0
    assert set_f1("cats", "cat") == 0.0
    assert set_f1("a green boat", "green") == pytest.approx(0.5)


def test_bleu_is_clipped_precision_with_a_brevity_penalty():
    assert bleu1("green green boat", "a green boat") == pytest.approx(2 / 3)
    assert bleu1("Green", "the green boat of Ann") == pytest.approx(math.exp(1 - 5))
    assert bleu1("a green boat", "a green boat") == 1.0
    assert bleu1("red", "green") == bleu1("", "green") == 0.0
    assert bleu1("Ann's", "Ann") == pytest.approx(1 / 2)  # "ann", "'s", as word_tokenize has it
    assert bleu1("she didn't", "did she") == pytest.approx(2 / 3)  # "she", "did", "n't"


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        ('{"label": "CORRECT"}', "CORRECT"),
        ('{"label": "wrong ", "why": "other day"}', "WRONG"),
        ('```json\n{"label": "CORRECT"}\n```', "CORRECT"),
        ('<think>It says WRONG?</think>\n{"label": "CORRECT"}', "CORRECT"),
        ("CORRECT", None),
        ('{"label": "CORRECT"} and {"label": "WRONG"}', None),
        ('{"label": true}', None),
        ('{"label": "PARTLY"}', None),
        ('["CORRECT"]', None),
        ('{"label": "CORR', None),
        ("", None),
    ],
)
def test_only_json_with_a_label_is_a_verdict(reply, label):
    assert read_verdict(reply) == label


def test_thoughts_are_no_part_of_an_answer():
    assert without_thoughts("<think>7 or 8?\n</think>\n\n7 May ") == "7 May"


def test_the_prompts_are_fixed_and_take_any_text():
    (message,) = prompts.answer_messages("{x} {context}", "{question}?")
    assert "{x} {context}" in message["content"]
    assert message["content"].count("{question}?") == 1
    assert prompts.NO_MESSAGES in prompts.answer_messages("", "why?")[0]["content"]
    (judged,) = prompts.judge_messages("why?", "{key}", "{answer}")
    assert "Answer key: {key}\nAnswer: {answer}\n" in judged["content"]
    assert '{"label": "CORRECT"} or {"label": "WRONG"}' in judged["content"]


def test_the_documentation_has_both_prompts_in_full():
    told = (Path(__file__).parents[2] / "docs" / "bench-locomo.md").read_text(encoding="utf-8")
    assert f"```\n{prompts.ANSWER}\n```" in told
    assert "```\n" + prompts.JUDGE.replace("{{", "{").replace("}}", "}") + "\n```" in told


def test_both_contexts_have_one_form_and_the_order_of_time(data):
    talk = read_locomo(data)[0]
    whole = full_context(talk)
    assert whole.splitlines()[:3] == [
        "2023-05-08",
        "Ann: Yesterday I got myself a boat!",
        "Bo: Waves make me feel sick. [shares a deck]",
    ]
    hits = []
    for session in reversed(talk.sessions):
        before: tuple[Link, ...] = ()
        for n, turn in enumerate(session.turns):
            when = session.when + timedelta(microseconds=n)
            source = Source(
                turn=turn.id, speaker=turn.speaker, role="user", said_at=when, session=session.name
            )
            item = MemoryItem(
                turn.id, turn.text, Kind.MESSAGE, when, None, when, when, sources=(source,), links=before
            )
            before = (Link(LinkType.FOLLOWS, turn.id),)
            hits.append(SearchHit("c", item, 1.0))
    assert pack_hits(hits).text == whole


def test_keys_have_the_ids_of_the_questions(data):
    keys, talks = read_keys(data), read_locomo(data)
    for question in (q for talk in talks for q in talk.questions):
        assert keys.get(question.id) == KEYS[question.text][0]


def test_a_plan_takes_the_first_questions_of_the_categories(data):
    talks, keys = read_locomo(data), read_keys(data)
    plan = make_plan(talks, keys, Limits(questions=5))
    assert [q.id for system, q in plan.pairs() if system == FULL] == [
        "c-1/0",
        "c-1/1",
        "c-1/2",
        "c-1/3",
        "c-2/0",
    ]
    temporal = make_plan(talks, keys, Limits(categories=(2,), systems=(NONE,)))
    assert [(s, q.id) for s, q in temporal.pairs()] == [(NONE, "c-1/1"), (NONE, "c-2/1")]


def test_a_full_context_that_does_not_fit_is_left_out_and_said(data):
    talks, keys = read_locomo(data), read_keys(data)
    plan = make_plan(talks, keys, Limits(context_window=600))
    assert {system for system, _ in plan.pairs()} == {MEMORY}
    assert [note.split(" is left out")[0] for note in plan.notes] == [
        "c-1: full-context",
        "c-2: full-context",
    ]
    with pytest.raises(Invalid, match="nothing to ask"):
        make_plan(talks, keys, Limits(systems=(FULL,), context_window=600))


@pytest.mark.parametrize(
    ("limits", "argument"), [({"categories": (5,)}, "categories"), ({"systems": ("mem1",)}, "systems")]
)
def test_what_cannot_be_asked_is_refused(limits, argument):
    with pytest.raises(Invalid) as refused:
        Limits(**limits)
    assert refused.value.argument == argument


def _answer(question, text="Green", system=FULL, **more):
    figures = {
        "approximate_tokens": 100,
        "prompt_tokens": 90,
        "output_tokens": 3,
        "counted_by": "server",
        "answer_s": 0.5,
    }
    return Answer(system, question, text, **{**figures, **more})


def _verdict(question, run, label="CORRECT", system=FULL):
    return Verdict(system, question, run, label, 80, 5, "server")


def test_the_estimate_is_of_what_is_missing(data):
    talks, keys = read_locomo(data)[:1], read_keys(data)
    plan = make_plan(talks, keys, Limits(categories=(4,), systems=(FULL, NONE), runs=3))
    state = State(SETTINGS)
    (question,) = {q.text for _, q in plan.pairs()}
    found = estimate(plan, state, top_k=20, budget_tokens=None)
    assert found.calls == {"answers, full-context": 1, "answers, none": 1, "verdicts": 6}
    assert found.tokens_in["answers, none"] == prompt_tokens("", question)
    near = prompt_tokens(full_context(talks[0]), question)
    sent = prompts.answer_messages(full_context(talks[0]), question)[0]["content"]
    assert near == approximate_tokens(sent)
    assert abs(found.tokens_in["answers, full-context"] - near) < 10
    assert found.tokens_out.total() == 2 * ANSWER_TOKENS + 6 * VERDICT_TOKENS
    assert found.price(1e6, 0) == found.tokens_in.total()

    state.record(_answer("c-1/3"))
    state.record(_verdict("c-1/3", 1))
    left = estimate(plan, state, top_k=20, budget_tokens=None)
    assert left.calls == {"answers, none": 1, "verdicts": 5}
    assert plan.missing(state) == (1, 5)


def test_a_state_file_gives_back_what_was_recorded_and_forgives_a_torn_end(tmp_path):
    path = tmp_path / "s.jsonl"
    with State(SETTINGS, path) as state:
        state.record(_answer("q1", "答え\n\ud800"))
        state.record(_verdict("q1", 0))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind": "verdict", "sys')
    with State(SETTINGS, path) as again:
        assert again.answers["full-context", "q1"].text == "答え\n?"
        assert again.verdicts == {(FULL, "q1", 0): _verdict("q1", 0)}
        again.record(_verdict("q1", 1))
    assert path.read_bytes().startswith(whole + b'{"kind": "verdict", "system"')
    with State(SETTINGS, path) as third:
        assert set(third.verdicts) == {(FULL, "q1", 0), (FULL, "q1", 1)}


def test_a_state_file_torn_in_its_first_line_starts_anew(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_bytes(b'{"kind": "sett')
    with State(SETTINGS, path) as state:
        state.record(_verdict("q1", 0))
    assert [json.loads(line)["kind"] for line in path.read_text().splitlines()] == ["settings", "verdict"]


def test_other_settings_are_refused_by_name_and_the_file_is_left_as_it_is(tmp_path):
    path = tmp_path / "s.jsonl"
    with State(SETTINGS, path) as state:
        state.record(_answer("q1"))
    before = path.read_bytes()
    with (
        pytest.raises(Conflict, match=r"top k was 20 and is 5; recipe was None and is 'fast'\. "),
        State({**SETTINGS, "top_k": 5, "recipe": "fast"}, path),
    ):
        pass
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "held", [b"notes of mine", b"notes of mine\n", b'{"kind": "answer"}\n', b"\x00\xff\n\n"]
)
def test_another_kind_of_file_is_refused_and_left_as_it_is(tmp_path, held):
    path = tmp_path / "notes.txt"
    path.write_bytes(held)
    with pytest.raises(Invalid, match="no state file"), State(SETTINGS, path):
        pass
    assert path.read_bytes() == held


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "s.jsonl"
    with State(SETTINGS, path) as state:
        state.record(_answer("q1"))
        state.record(_verdict("q1", 0))
    lines = path.read_bytes().splitlines(keepends=True)
    null = json.dumps({**json.loads(lines[1]), "text": None}).encode() + b"\n"
    for broken in (
        b"{]\n",
        b"{}\n",
        b'{"kind": []}\n',
        b'{"kind": "answer", "system": "x"}\n',
        b'{"kind": "note"}\n',
        null,
    ):
        path.write_bytes(lines[0] + broken + lines[2])
        with pytest.raises(Corrupt, match="line 2"), State(SETTINGS, path):
            pass


def test_two_processes_do_not_share_a_state_file_and_an_empty_one_goes(tmp_path):
    path = tmp_path / "s.jsonl"
    with State(SETTINGS, path), pytest.raises(Conflict, match="another process"), State(SETTINGS, path):
        pass
    assert not path.exists()


def test_scores_are_means_over_runs_and_what_is_no_verdict_counts_on_neither_side(data):
    talks, keys = read_locomo(data)[:1], read_keys(data)
    plan = make_plan(talks, keys, Limits(systems=(FULL,), categories=(1, 4), runs=2))
    state = State(SETTINGS)
    state.record(_answer("c-1/0", "clocks", answer_s=0.1))
    state.record(_answer("c-1/3", "green", answer_s=0.3, prompt_tokens=110))
    for question, run, label in (
        ("c-1/0", 0, "WRONG"),
        ("c-1/3", 0, "CORRECT"),
        ("c-1/0", 1, None),
        ("c-1/3", 1, "CORRECT"),
    ):
        state.record(_verdict(question, run, label))
    whole, multi_hop, single_hop = rows(plan, state)
    assert (whole.questions, whole.asked, whole.answered) == ("all asked", 2, 2)
    assert (whole.judge, whole.judge_sd) == (0.75, 0.25)  # runs: 1 of 2, and 1 of the 1 that was judged
    assert (multi_hop.judge, multi_hop.judge_sd, multi_hop.unreadable) == (0.0, 0.0, 1)
    assert single_hop.judge == 1.0
    assert multi_hop.f1 == pytest.approx(0.5)
    assert (whole.f1, whole.prompt_tokens, whole.counted_by) == (pytest.approx(0.75), 100, "server")
    assert whole.answer_s == (pytest.approx(0.2), pytest.approx(0.29))
    assert (whole.unanswered, whole.unjudged, whole.unreadable) == (0, 0, 1)

    report = Report("t", "c")
    fill_report(report, plan, state)
    assert report.passed
    assert any("no verdict" in note for note in report.notes)
    values = {f.name: f.value for f in report.figures}
    assert values["all asked, full-context: judge"] == 75.0
    assert values["all asked, full-context: unreadable verdicts"] == 1


def test_what_is_missing_fails_the_report_and_so_does_a_server_that_cuts_prompts(data):
    talks, keys = read_locomo(data)[:1], read_keys(data)
    plan = make_plan(talks, keys, Limits(systems=(FULL,), categories=(1, 4), runs=1))
    state = State(SETTINGS)
    state.record(_answer("c-1/0", prompt_tokens=40))
    report = Report("t", "c")
    fill_report(report, plan, state, ["answer full-context c-1/3: down"])
    assert [c.name for c in report.checks if not c.holds] == [
        "full-context: every question answered",
        "full-context: every answer judged 1 times",
        "the server read whole prompts",
    ]
    assert "failed: answer full-context c-1/3: down" in report.notes
