"""What the doctor makes of packages, tokens, nodes, clocks and versions, one at a time."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import pytest

from cluster.checks.joining import versions
from cluster.checks.machine import open_files, packages, shared_memory, threads, token
from cluster.checks.running import dead_nodes, nodes, raylet_says
from cluster.cli.placing import node_named
from memos_ray.errors import Invalid
from memos_ray.wire import NodeInfo


def test_packages_outside_their_bounds_are_named_with_what_to_install():
    found = {"ray": "2.40.0", "lance": "14.1", "new": "9.0rc1"}
    required = ["ray[serve]>=2.60,<3", "lance>=14", "absent>=1", "new>=8", "pytest>=99 ; extra == 'dev'"]
    said = list(packages(required, found.get))
    assert [(f.state, f.do) for f in said] == [
        ("bad", "pip install 'ray<3,>=2.60'"),
        ("bad", "pip install 'absent>=1'"),
    ]
    assert "2.40.0 is installed" in said[0].text


def test_the_packages_installed_here_are_within_the_bounds():
    assert list(packages(metadata.requires("memos-ray") or ())) == []


def test_tokens(tmp_path: Path):
    path = tmp_path / "token"
    where = {"RAY_AUTH_TOKEN_PATH": str(path), "RAY_AUTH_MODE": "token"}
    assert token(where).state == "bad"
    path.write_text("\n")
    assert "is empty" in token(where).text
    path.write_text("f" * 64)
    path.chmod(0o600)
    assert token(where).state == "ok"
    path.chmod(0o644)
    reachable = all(folder.stat().st_mode & 0o011 for folder in path.parents)
    assert token(where).state == ("note" if reachable else "ok")
    assert token({"RAY_AUTH_TOKEN": "x"}).state == "ok"
    assert token({"HOME": str(tmp_path)}).state == "ok"  # none yet: Ray makes one
    assert token({"RAY_AUTH_MODE": "disabled"}).state == "note"


def test_a_token_that_others_can_reach_is_worth_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "token"
    path.write_text("f" * 64)
    path.chmod(0o644)
    monkeypatch.setattr("cluster.checks.machine._reachable", lambda path: True)
    found = token({"RAY_AUTH_TOKEN_PATH": str(path)})
    assert (found.state, found.do) == ("note", f"chmod 600 {path}")


def test_shared_memory_threads_and_open_files(tmp_path: Path):
    assert shared_memory(tmp_path / "none").state == "ok"
    assert threads().state in ("ok", "note")
    mine = open_files({"this": os.getpid(), "elsewhere": 2**30})
    assert mine is not None
    assert "this (process" in mine.text
    assert open_files({"elsewhere": 2**30}) is None


def node(**changed) -> NodeInfo:
    fields = {
        "node_id": "ab" * 28,
        "cpus": 4.0,
        "memory_bytes": 10**9,
        "used_bytes": 10**8,
        "hosts": 3,
        "cubes": 7,
        "busy": 0.5,
        "draining": False,
        "labels": {},
        "limit_bytes": 6 * 10**8,
    }
    return NodeInfo(**{**fields, **changed})


@pytest.mark.parametrize(
    ("changed", "states", "word"),
    [
        ({}, ["ok"], "3 processes"),
        ({"used_bytes": 7 * 10**8}, ["bad"], "over the limit"),
        ({"suspect": True}, ["note"], "fell silent"),
        ({"draining": True}, ["note"], "drained"),
        ({"busy": 3.9}, ["note"], "busy"),
        ({"clock_s": 90.0}, ["ok", "bad"], "90.0 s ahead"),
        ({"clock_s": -90.0}, ["ok", "bad"], "90.0 s behind"),
        ({"clock_s": 0.2}, ["ok"], "3 processes"),
    ],
)
def test_nodes(changed, states, word):
    found = list(nodes([node(**changed)]))
    assert [f.state for f in found] == states
    assert any(word in f.text for f in found)
    assert all(bool(f.do) == (f.state != "ok") for f in found)


def test_dead_nodes_are_one_note():
    entries = [{"Alive": True, "NodeID": "a"}]
    assert list(dead_nodes(entries)) == []
    dead = {"Alive": False, "NodeID": "b" * 56, "DeathReasonMessage": "health check failed"}
    (found,) = dead_nodes([*entries, dead])
    assert (found.state, "health check failed" in found.text) == ("note", True)


def test_versions_of_the_cluster():
    here = {"ray_version": metadata.version("ray"), "python_version": platform.python_version()}
    assert versions(here, "x:1").state == "ok"
    assert versions({**here, "ray_version": "2.1.0"}, "x:1").state == "bad"
    assert versions({**here, "python_version": "3.9.1"}, "x:1").state == "bad"
    major, minor, _ = platform.python_version_tuple()
    assert versions({**here, "python_version": f"{major}.{minor}.99"}, "x:1").state == "ok"


def test_what_the_raylet_says(tmp_path: Path):
    assert raylet_says(tmp_path) == ""
    (tmp_path / "raylet.err").write_text("first\n\n[E] cannot start worker\n\n")
    assert raylet_says(tmp_path) == "; raylet.err ends with: [E] cannot start worker"


def test_a_node_is_named_by_the_beginning_of_its_id():
    known = [{"node_id": "abc1"}, {"node_id": "abd2"}]
    assert node_named("abc", known) == "abc1"
    for prefix, said in (("ab", "2 nodes"), ("x", "no node"), ("", "no node")):
        with pytest.raises(Invalid, match=said):
            node_named(prefix, known)
