"""`bench locomo --answer` as it is typed, against a scripted server, where no search is needed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from scripted_chat import KEYS, locomo_file, question_of, serving
from typer.testing import CliRunner

from cluster.cli.app import app

runner = CliRunner()
ANSWERS = {
    "What does Ann repair?": "clocks",
    "When did Ann buy the boat?": "<think>8 - 1</think>7 May 2023",
    "Would Bo enjoy the sea?": "Yes",
    "What colour is the boat?": "It is green.",
}


def script(model, prompt, n):
    question = question_of(prompt)
    if model == "answerer":
        return 200, ANSWERS[question]
    return 200, json.dumps({"label": "WRONG" if question.startswith("Would") else "CORRECT"})


@pytest.fixture
def typed(tmp_path):
    data, state, report = (
        locomo_file(tmp_path / "talks.json"),
        tmp_path / "state.jsonl",
        tmp_path / "report.json",
    )

    def arguments(*more, url="http://127.0.0.1:9/v1"):
        given = ["bench", "locomo", "--data", str(data), "--answer", "answerer", "--judge", "judge"]
        given += [
            "--systems",
            "full-context",
            "--state",
            str(state),
            "--base-url",
            url,
            "--json",
            str(report),
        ]
        return [*given, *more]

    def run(*more, code=0, **options):
        done = runner.invoke(app, arguments(*more, **options), env={"COLUMNS": "220"})
        assert done.exit_code == code, done.output
        return done

    run.arguments, run.state, run.report = arguments, state, report
    return run


def figures(path):
    return {f["name"]: f["value"] for f in json.loads(path.read_text())["figures"]}


def test_from_question_to_table(typed):
    with serving(script) as chat:
        done = typed("--yes", "--runs", "2", url=chat.url)
    found = figures(typed.report)
    assert found["all asked, full-context: judge"] == 75.0
    assert found["open-domain, full-context: judge"] == 0.0
    assert found["temporal, full-context: F1"] == 100.0
    assert found["multi-hop, full-context: F1"] == 50.0
    assert found["single-hop, full-context: BLEU-1"] == pytest.approx(25.0)  # it is green .
    assert found["all asked, full-context: output tokens"] == 7
    assert "75.0 ± 0.0" in done.stdout
    prompts = chat.prompts("answerer")
    assert len(prompts) == 8
    for prompt in prompts:
        assert not any(key and key in prompt for key, _ in KEYS.values())
        assert "\n2023-05-08\nAnn: Yesterday I got myself a boat!\n" in prompt
        assert "Ignore {braces}." in prompt
    assert set(chat.answered.values()) == {
        2,
        4,
    }  # the same in both conversations: one answer and two verdicts each
    formats = {body["model"]: body.get("response_format", {}).get("type") for body in chat.bodies}
    assert formats == {"answerer": None, "judge": "json_schema"}


def test_a_second_run_asks_nothing_and_more_runs_ask_for_those_alone(typed):
    with serving(script) as chat:
        typed("--yes", "--runs", "1", url=chat.url)
        before = len(chat.bodies)
        first = figures(typed.report)
        typed("--runs", "1", url=chat.url)  # there is nothing to consent to
        assert len(chat.bodies) == before
        assert figures(typed.report) == first
        typed("--yes", "--runs", "3", url=chat.url)
    assert [body["model"] for body in chat.bodies[before:]] == ["judge"] * 16


def test_trouble_is_waited_out_and_what_is_no_verdict_is_counted_apart(typed):
    def troubled(model, prompt, n):
        if n == 0 and question_of(prompt).startswith("When"):
            return (429, {}) if model == "answerer" else (500, {})
        if model == "judge" and question_of(prompt).startswith("What colour"):
            return 200, "Well, CORRECT I would say"
        return script(model, prompt, n)

    with serving(troubled, usage=False) as chat:
        done = typed("--yes", "--runs", "1", "--only", "c-1", url=chat.url)
    found = figures(typed.report)
    assert found["all asked, full-context: unreadable verdicts"] == 1
    assert found["all asked, full-context: judge"] == pytest.approx(200 / 3)
    assert "single-hop, full-context: judge" not in found
    assert "1 of 4 replies of the judge are no verdict" in done.stdout
    assert " ≈" in done.stdout
    assert '"said": "Well, CORRECT' in typed.state.read_text()


def test_calls_that_fail_are_asked_again_by_the_next_run(typed):
    def down(model, prompt, n):
        return (404, {}) if question_of(prompt).startswith("When") else script(model, prompt, n)

    with serving(down) as chat:
        done = typed("--yes", "--runs", "1", "--only", "c-1", url=chat.url, code=1)
        assert "the same command goes on where this one ended" in done.stdout
        assert "answered 404" in done.stdout
        chat.script = script
        typed("--yes", "--runs", "1", "--only", "c-1", url=chat.url)
    assert set(chat.answered.values()) == {1}


def test_a_server_that_answers_nothing_ends_the_run(typed):
    with serving(lambda *_: (401, {})) as chat:
        done = typed("--yes", "--systems", "none", "--parallel", "1", url=chat.url, code=5)
    assert len(chat.bodies) == 10
    assert "calls failed one after another" in done.stderr
    assert not typed.state.exists()


def test_the_key_comes_from_the_environment_and_is_written_nowhere(typed, monkeypatch, tmp_path):
    monkeypatch.setenv("MY_KEY", "sk-hidden")
    monkeypatch.setenv("MEMOS_RAY_LLM_API_KEY", "sk-other")
    monkeypatch.setattr(sys, "argv", ["memos-ray", *typed.arguments()])
    with serving(script) as chat:
        done = typed("--yes", "--limit", "1", "--api-key-env", "MY_KEY", url=chat.url)
        assert {h["authorization"] for h in chat.headers} == {"Bearer sk-hidden"}
        chat.headers.clear()
        elsewhere = ("--judge-base-url", chat.url, "--state", str(tmp_path / "two.jsonl"))
        typed("--yes", "--limit", "1", "--api-key-env", "MY_KEY", *elsewhere, url=chat.url)
        assert {h.get("authorization") for h in chat.headers} == {"Bearer sk-hidden", None}
    written = "".join(p.read_text() for p in tmp_path.iterdir()) + done.output
    assert "sk-" not in written


def test_the_estimate_comes_first_and_asks_nothing(typed):
    done = typed("--estimate-only", "--price-in", "1000000", "--price-out", "0")
    assert "answers, full-context" in done.stderr
    assert " 24 " in done.stderr  # verdicts
    assert "at the prices given" in done.stderr
    assert not typed.state.exists()
    assert not typed.report.exists()


def test_without_a_terminal_it_takes_a_yes(typed):
    done = typed(code=2)
    assert "say --yes" in done.stderr
    assert not typed.state.exists()


@pytest.mark.parametrize(("said", "started"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_on_a_terminal_it_asks(typed, said, started):
    with serving(script) as chat:
        terminal, end = os.openpty()
        os.write(terminal, said.encode())
        arguments = typed.arguments("--limit", "1", "--runs", "1", url=chat.url)
        done = subprocess.run(
            [sys.executable, "-m", "memos_ray", *arguments],
            stdin=end,
            capture_output=True,
            text=True,
            check=False,
        )
        os.close(terminal)
        os.close(end)
    assert "Start? (y/N)" in done.stderr
    assert (done.returncode, len(chat.bodies)) == ((0, 2) if started else (1, 0)), done.stderr


def test_a_state_of_other_settings_is_refused_before_anything_is_asked(typed):
    with serving(script) as chat:
        typed("--yes", "--limit", "1", url=chat.url)
        asked = len(chat.bodies)
        for other, named in (
            (("--answer", "another"), "answer model was 'answerer' and is 'another'"),
            (("--top-k", "7"), "top k was 20 and is 7"),
            (("--recipe", "fast"), "recipe was 'default' and is 'fast'"),
            (("--budget-tokens", "9"), "budget tokens was None and is 9"),
        ):
            refused = typed("--yes", *other, url=chat.url, code=4)
            assert named in refused.stderr
        assert len(chat.bodies) == asked


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--categories", "5"), "no answer key"),
        (("--systems", "mem1"), "systems must be some of"),
        (("--recipe", "slow"), "recipe must be one of"),
        (("--out", "x.json"), "--out holds"),
    ],
)
def test_wrong_options_are_refused(typed, more, said):
    assert said in typed("--yes", *more, code=2).stderr


@pytest.mark.parametrize(
    "more", [("--answer", "m"), ("--judge", "m"), ("--top-k", "3"), ("--estimate-only",)]
)
def test_both_models_are_named_or_neither(tmp_path, more):
    data = str(locomo_file(tmp_path / "talks.json"))
    assert runner.invoke(app, ["bench", "locomo", "--data", data, *more]).exit_code == 2


# A test run in the background of a shell ignores SIGINT, and its children inherit that.
HEEDING_SIGINT = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('memos_ray', run_name='__main__', alter_sys=True)"
)


def test_ctrl_c_keeps_what_is_there(typed):
    with serving(script) as chat:
        chat.hold_after = 3
        arguments = typed.arguments("--yes", "--parallel", "1", url=chat.url)
        command = [sys.executable, "-c", HEEDING_SIGINT, *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert chat.holding.wait(60)
            process.send_signal(signal.SIGINT)
            try:
                _, stderr = process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert process.returncode == 130, stderr
        assert "3 answers and 0 verdicts are in" in stderr
        chat.hold_after = None
        typed("--yes", url=chat.url)
    assert chat.answered.total() == 8 + 24
