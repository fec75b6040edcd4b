"""What peers are given and how their results are scored. That they really run is a slow test in tests/ray."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from memos_ray.bench import locomo, peers, peers_env, peers_worker
from memos_ray.bench.locomo_data import Conversation, DatedSession, Question, Turn
from memos_ray.bench.report import Deadline, Report
from memos_ray.errors import Invalid, Unavailable


@pytest.fixture
def talk():
    turns = (Turn("D1:1", "Ann", "I bought a kite."), Turn("D1:2", "Bo", "A red one?"))
    session = DatedSession("1", datetime(2023, 5, 8, 13, 56, tzinfo=UTC), turns)
    asked = (Question("c/0", "Who bought a kite?", 4, ("D1:1",)), Question("c/1", "A secret?", 5, ("D1:2",)))
    return Conversation("c", (session,), asked)


def _result(**more):
    items = [{"text": "Bo: A red one?", "sources": ["D1:2"]}, {"text": "Ann: kite", "sources": ["D1:1"]}]
    queries = [{"qid": f"c/{n}", "seconds": 0.02, "cpu": 0.01, "items": items} for n in (0, 1)]
    ingest = [{"conv": "c", "turns": 2, "seconds": 0.5, "cpu": 0.1}]
    return {"system": "s", "ingest": ingest, "queries": queries, "held": {"c": 2}, "network": []} | more


def test_a_peer_sees_texts_with_dates_and_no_evidence(talk):
    given = peers.questions_for([talk], "model")
    (conversation,) = given["conversations"]
    assert conversation["turns"][0] == ("D1:1", "Ann (8 May 2023): I bought a kite.")
    assert conversation["questions"] == [("c/0", "Who bought a kite?"), ("c/1", "A secret?")]
    assert set(conversation) == {"id", "turns", "questions"}


def test_scores_are_those_of_bench_locomo_and_those_by_tokens(talk):
    found, plain = peers.score([talk], _result()), locomo.score([talk], _result()["queries"])
    assert found.keys() == plain.keys()
    for name, means in plain.items():
        assert means.items() <= found[name].items()
    assert found[peers.ALL]["rec@500t"] == 1.0
    assert found[peers.ALL]["tokens@10"] > 5
    assert peers.score([talk], _result(queries=[]))[peers.ALL]["rec@500t"] == 0.0


def test_costs_are_medians_and_what_is_missing_is_left_out():
    assert peers.costs(_result()) == {"search CPU p50": 10.0, "search p50": 20.0, "ingest": 4.0}
    assert peers.costs(_result(ingest=[], queries=[{"qid": "c/0", "items": []}])) == {}


@pytest.mark.parametrize(
    ("changed", "failed"),
    [
        ({}, None),
        ({"held": {"c": 1}}, "s: no turn lost"),
        ({"queries": _result()["queries"][:1]}, "s: every question asked"),
        ({"network": ["('example.org', 443)"]}, "s: no attempt to reach the network"),
        (
            {"queries": [q | {"items": [{"text": "", "sources": ["D9:9"]}]} for q in _result()["queries"]]},
            "s: every source is a turn of the conversation asked about",
        ),
    ],
)
def test_what_a_peer_did_wrong_fails_the_report_and_a_low_recall_does_not(talk, changed, failed):
    report = Report("t", "c")
    peers.fill_report(report, [talk], {"s": _result(**changed)})
    assert [c.name for c in report.checks if not c.holds] == ([failed] if failed else [])


def test_result_files_are_written_and_read_and_others_refused(tmp_path):
    peers.write_result(tmp_path / "r.json.gz", _result(), split="x")
    assert peers.read_result(tmp_path / "r.json.gz")["queries"] == _result()["queries"]
    (tmp_path / "plain.json").write_text(json.dumps(_result()))
    assert peers.read_result(tmp_path / "plain.json")["system"] == "s"
    for name, data in (
        ("a.json", b"{}"),
        ("b.json", b"no"),
        ("c.json.gz", b"no"),
        ("d.json.gz", gzip.compress(b"[]")),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(Invalid, match="is not a result file"):
            peers.read_result(tmp_path / name)


def test_a_worker_reaches_no_network_and_says_that_it_was_tried():
    code = f"""
import runpy, socket
worker = runpy.run_path({str(Path(peers_worker.__file__))!r})
worker["_stay_offline"]()
for attempt in (lambda: socket.create_connection(("192.0.2.1", 9)), lambda: socket.getaddrinfo("example.org", 1),
                lambda: socket.socket().connect(("192.0.2.1", 9))):
    try:
        attempt()
    except OSError:
        continue
    raise SystemExit("connected")
print(len(worker["_attempts"]))
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr


def test_a_failing_worker_is_reported_with_its_last_words(talk, tmp_path):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho 'no such module: mem0' >&2\nexit 3\n")
    python.chmod(0o755)
    where = peers_env.Environment(tmp_path)
    with pytest.raises(Unavailable, match="exit code 3: no such module: mem0"):
        peers.run_peer("mem0", where, [talk], lambda *_: None, Deadline(60))


def test_a_worker_whose_time_is_up_is_ended(talk, tmp_path):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho '[\"x\", 0, 1]'\nexec sleep 60\n")
    python.chmod(0o755)
    assert (
        peers.run_peer("mem0", peers_env.Environment(tmp_path), [talk], lambda *_: None, Deadline(0.2))
        is None
    )


def test_versions_are_exact_and_torch_is_the_projects():
    torch = next(
        line.split(";")[0].strip().strip('",')
        for line in Path(__file__).parents[2].joinpath("pyproject.toml").read_text().splitlines()
        if '"torch==' in line
    )
    for wanted in peers_env.REQUIREMENTS.values():
        assert all("==" in line for line in wanted)
        assert torch in wanted
    assert peers_env.REQUIREMENTS.keys() == peers_worker.PEERS.keys()
