"""mem0 and LangGraph really installed and really run, beside this system, on a made conversation."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from cluster.cli.app import app
from memos_ray.bench.peers_env import environment
from memos_ray.errors import Unavailable

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(3600)]

runner = CliRunner()


def test_peers_hold_every_turn_and_find_evidence(tmp_path):
    data, figures = tmp_path / "made.json", tmp_path / "peers.json"
    made = runner.invoke(
        app, ["bench", "make-dialogues", "--out", str(data), "--conversations", "1", "--questions", "20"]
    )
    assert made.exit_code == 0, made.output
    arguments = [
        "bench",
        "peers",
        "--data",
        str(data),
        "--json",
        str(figures),
        "--out",
        str(tmp_path / "out"),
    ]
    done = runner.invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    report = json.loads(figures.read_text())
    assert report["passed"]
    found = {f["name"]: f["value"] for f in report["figures"]}
    for system in ("memos_ray", "mem0", "langgraph"):
        assert (tmp_path / "out" / f"{system}.json.gz").exists()
        assert found[f"{system}, categories 1-4: recall@50"] > 20
        assert found[f"{system}: search CPU p50"] > 0
        assert found[f"{system}: ingest"] > 0


def test_what_pip_cannot_install_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(Unavailable, match=r"mem0 cannot be installed: .*memos-ray-has-no-such-peer"):
        environment(
            "mem0", tmp_path / "cache", lambda *_: None, requirements=("memos-ray-has-no-such-peer==1.0",)
        )
    assert list((tmp_path / "cache").iterdir()) == []
