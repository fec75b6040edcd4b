"""`bench locomo --answer` and `bench curve` as they are typed, on a real system, against a scripted server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from scripted_chat import KEYS, locomo_file, question_of, serving
from typer.testing import CliRunner

from cluster.cli.app import app

pytestmark = pytest.mark.ray

runner = CliRunner()


@pytest.fixture
def folder(monkeypatch):
    """For everything that the command leaves behind; short, for the sockets in it."""
    path = tempfile.mkdtemp(prefix="lo-", dir="/tmp")
    monkeypatch.setenv("TMPDIR", path)
    monkeypatch.setenv("MEMOS_RAY_EMBEDDER", "hash")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def script(model, prompt, n):
    question = question_of(prompt)
    if model == "answerer":
        return 200, "a kettle"
    if n == 0 and question.startswith("Would"):
        return 500, {}
    return 200, "I cannot tell" if question.startswith("When") else json.dumps({"label": "CORRECT"})


def test_killed_in_the_middle_it_goes_on_and_asks_nothing_twice(folder):
    data = locomo_file_in(folder)
    state, report = f"{folder}/state.jsonl", f"{folder}/report.json"
    with serving(script) as chat:
        arguments = ["bench", "locomo", "--data", data, "--answer", "answerer", "--judge", "judge", "--yes"]
        arguments += ["--base-url", chat.url, "--state", state, "--json", report]
        arguments += ["--top-k", "1", "--parallel", "3"]
        chat.hold_after = 7  # the 4 answers on the first conversation, and some verdicts
        command = [sys.executable, "-m", "memos_ray", *arguments, "--systems", "full-context"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert chat.holding.wait(90), process.poll()
            until(lambda: Path(state).read_bytes().count(b"\n") == 1 + 7)
            process.kill()
            process.wait()
        answered_before = chat.answered.copy()
        with open(state, "a") as file:
            file.write(
                '{"kind": "verdict", "system": "full-con'
            )  # as a kill in the middle of a line leaves it
        chat.hold_after = None

        done = runner.invoke(app, arguments, env={"COLUMNS": "220"})
        assert done.exit_code == 0, done.output

    expected = {"memos_ray": 2, "full-context": 2}  # conversations: the same messages and questions in both
    for question, (key, _) in KEYS.items():
        if key is None:
            assert not any(question in prompt for _, prompt in chat.answered)
            continue
        prompts = {
            prompt: n
            for (model, prompt), n in chat.answered.items()
            if model == "answerer" and question in prompt
        }
        assert sum(prompts.values()) == sum(expected.values())
        assert len(prompts) == 2  # one message found, and all messages
        assert sorted(len(re.findall("^(?:Ann|Bo): ", p, re.MULTILINE)) for p in prompts) == [1, 3]
        assert not any(word in prompt for prompt in prompts for word, _ in KEYS.values() if word)
    verdicts = sum(n for (model, _), n in chat.answered.items() if model == "judge")
    assert verdicts == 3 * 4 * 4
    assert all(chat.answered[call] >= n for call, n in answered_before.items())

    lines = [json.loads(line) for line in Path(state).read_text().splitlines()]
    keys = [(line["kind"], line.get("system"), line.get("question"), line.get("run")) for line in lines]
    assert len(keys) == len(set(keys)) == 1 + 16 + 48
    whole = json.loads(Path(report).read_text())
    assert whole["passed"]
    assert {"c-1: no turn lost", "c-2: no turn lost"} <= {c["name"] for c in whole["checks"]}
    found = {f["name"]: f["value"] for f in whole["figures"]}
    for system in ("memos_ray", "full-context"):
        assert found[f"all asked, {system}: judge"] == 100.0
        assert found[f"temporal, {system}: unreadable verdicts"] == 6
        assert f"temporal, {system}: judge" not in found
    assert found["all asked, memos_ray: search p50"] > 0
    assert found["all asked, memos_ray: prompt tokens"] < found["all asked, full-context: prompt tokens"]


@pytest.mark.slow  # the measurement itself is tested without Ray in tests/storage
def test_the_curves_are_measured_and_drawn(folder):
    svg, report = f"{folder}/curve.svg", f"{folder}/curve.json"
    arguments = [
        "bench",
        "curve",
        "--data",
        locomo_file_in(folder, 1),
        "--svg",
        svg,
        "--json",
        report,
        "--sample",
        "2",
    ]
    done = runner.invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    found = {f["name"]: f["value"] for f in json.loads(Path(report).read_text())["figures"]}
    assert found["k=3, categories 1-4, recall"] == found["k=200, categories 1-4, recall"] == 100.0
    assert found["k=1, tokens"] < found["k=2, tokens"] < found["k=3, tokens"] == found["k=5, tokens"]
    assert found["budget=100, hits"] == 3
    assert found["k=200, p95"] >= found["k=200, p50"] > 0
    assert found["searches that give the beginning of the longest list"] == 100.0
    assert "Recall over a token budget" in Path(svg).read_text()


def locomo_file_in(folder, conversations=2):
    return str(locomo_file(Path(folder, "talks.json"), conversations))


def until(holds, seconds=30.0):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)
