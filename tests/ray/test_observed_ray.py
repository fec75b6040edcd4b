"""A real system as it is watched: metrics over HTTP, logs with request ids, status, doctor on what is broken."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from typer.testing import CliRunner

from cluster import local_head
from cluster.checks.finding import Finding
from cluster.checks.joining import cluster
from cluster.checks.running import running_system
from cluster.cli.app import app
from cluster.cli.session import make_console
from cluster.cli.watching import view
from memos_ray import Invalid, MemOS
from memos_ray.telemetry import METRICS

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

NAMESPACE = "observed"
SECRET = "zimtschnecke"  # in memories and queries, and nowhere in the logs
runner = CliRunner()


@pytest.fixture(scope="module")
def folder() -> Iterator[str]:
    """Of a system that writes its logs as JSON and hands figures on every second."""
    folder = tempfile.mkdtemp(prefix="obs-", dir="/tmp")
    changed = {
        "TMPDIR": folder,
        "RAY_metrics_report_interval_ms": "1000",
        "MEMOS_RAY_DATA": f"{folder}/data",
        "MEMOS_RAY_EMBEDDER": "hash",
        "MEMOS_RAY_NAMESPACE": NAMESPACE,
        "MEMOS_RAY_LOG_FORMAT": "json",
        "MEMOS_RAY_LOG_LEVEL": "debug",
        "MEMOS_RAY_HOST_TIMEOUT_S": "30",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in changed.items():
            patch.setenv(name, value)
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setattr(tempfile, "tempdir", None)
        run("up")
        yield folder
        assert run("down") == {"ended": True}
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def memory(folder: str) -> Iterator[MemOS]:
    with MemOS() as memory:
        yield memory


def run(*arguments: str, code: int = 0) -> Any:
    """The JSON that a command prints."""
    result = runner.invoke(app, [*arguments, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def until(true: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What `true` comes to, once it is something; it fails after so long."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.2)
    return found


def scrape(where: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """name -> own tags -> value, summed over processes, of this package's series."""
    text = urllib.request.urlopen(f"http://{where}/metrics", timeout=10).read().decode()
    own = {tag for metric in METRICS.values() for tag in metric.tags} | {"le"}
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for name, labels, value in re.findall(r"^(ray_memos_[a-z_]+)\{([^}]*)\} (\S+)$", text, re.MULTILINE):
        tags = tuple(sorted(p for p in re.findall(r'([A-Za-z_]+)="([^"]*)"', labels) if p[0] in own))
        series = found.setdefault(name, {})
        series[tags] = series.get(tags, 0.0) + float(value)
    return found


def test_what_was_called_is_in_the_metrics(memory: MemOS):
    (where,) = [node["metrics"] for node in memory.status()["nodes"]]
    cube = memory.cube("measured")
    for i in range(3):
        cube.add(f"{SECRET} number {i}")
    for i in range(5):
        cube.search(f"which {SECRET} is number {i}?")
    with pytest.raises(Invalid):
        cube.search("x", filters={"AND": "no list"})

    # Each process hands its own on, at its own time.
    expected = {
        ("ray_memos_calls_total", (("outcome", "ok"), ("verb", "search"))): 5,
        ("ray_memos_calls_total", (("outcome", "rejected"), ("verb", "search"))): 1,
        ("ray_memos_calls_total", (("outcome", "ok"), ("verb", "add_messages"))): 3,
        ("ray_memos_call_seconds_count", (("verb", "search"),)): 6,
        ("ray_memos_search_seconds_count", (("stage", "hits"),)): 5,
        ("ray_memos_embed_queries_total", (("cache", "miss"),)): 5,
        ("ray_memos_registry_changes_total", (("kind", "create"),)): 1,
    }
    gauges = {"ray_memos_cubes", "ray_memos_memory_bytes", "ray_memos_embed_waiting", "ray_memos_hosts"}

    def there() -> Any:
        found = scrape(where)
        all_of_it = all(found.get(name, {}).get(tags, 0) >= n for (name, tags), n in expected.items())
        if not (all_of_it and gauges <= set(found)):
            return None
        # Gauges are of the directory's last tick: the first one that has heard of the host says what it takes.
        told = (
            sum(found["ray_memos_cubes"].values()) == 1
            and max(found["ray_memos_memory_bytes"].values()) > 1e6
        )
        return found if told else None

    found = until(there)
    assert {key: found[key[0]][key[1]] for key in expected} == expected
    stages = {dict(tags)["stage"]: n for tags, n in found["ray_memos_search_seconds_count"].items()}
    assert {name: stages[name] for name in ("dense", "text", "graph", "ranking", "hits")} == dict.fromkeys(
        ("dense", "text", "graph", "ranking", "hits"), 5
    )
    assert found["ray_memos_commit_rows_count"][()] >= 3
    assert sum(found["ray_memos_activations_total"].values()) == 1
    (node,) = memory.status()["nodes"]
    assert found["ray_memos_cubes"] == {(("node", node["node_id"]),): 1.0}
    assert found["ray_memos_memory_bytes"][(("node", node["node_id"]),)] > 1e6
    assert sum(found["ray_memos_hosts"].values()) >= 1
    exported = {metric.exported for metric in METRICS.values()}
    for name in found:
        assert name in exported or re.sub(r"_(bucket|sum|count)$", "", name) in exported


def lines_of(memory: MemOS) -> list[dict[str, Any]]:
    """Every JSON line in the log folder."""
    folder = Path(memory.status()["directory"]["logs"])
    texts = [path.read_text(errors="replace") for path in folder.glob("worker-*.err")]
    return [json.loads(line) for text in texts for line in text.splitlines() if line.startswith('{"time"')]


def test_an_error_leads_to_its_line_in_the_logs(memory: MemOS):
    cube = memory.cube("logged")
    cube.add(f"{SECRET}, once more")
    cube.search(SECRET)
    with pytest.raises(Invalid) as caught:
        cube.search(f"where is {SECRET}?", filters={"AND": SECRET})
    request_id = caught.value.fields["request_id"]
    (line,) = until(lambda: [x for x in lines_of(memory) if x["request_id"] == request_id])
    assert line["message"].startswith("search: rejected after")
    assert (line["level"], line["actor"], line["cube_id"]) == ("INFO", "host", "logged")
    assert line["actor_name"].startswith("host:")
    assert line["node_id"] == memory.status()["nodes"][0]["node_id"]
    assert line["time"].endswith("Z")
    done = [x for x in lines_of(memory) if x["cube_id"] == "logged" and "search: ok" in x["message"]]
    assert [x["level"] for x in done] == ["DEBUG"]


def test_nothing_that_users_store_is_in_the_logs(memory: MemOS):
    cube = memory.cube("quiet")
    cube.add(SECRET)
    cube.search(SECRET)
    for arguments in ({"filters": {SECRET: {SECRET: 1}}}, {"recipe": SECRET}, {"consistency": SECRET}):
        with pytest.raises(Invalid):
            cube.search(SECRET, **arguments)
    folder = Path(memory.status()["directory"]["logs"])
    assert any(x["cube_id"] == "quiet" for x in until(lambda: lines_of(memory)))
    for path in folder.rglob("*"):
        if path.is_file():
            assert SECRET not in path.read_text(errors="replace"), path


def test_the_command_line_shows_the_request_id_of_an_error(memory: MemOS):
    memory.add("x", cube_id="cli")
    asked = ["get", "01900000-0000-7000-8000-000000000000", "-c", "cli"]
    assert run(*asked, code=3)["error"]["request_id"]
    result = runner.invoke(app, [*asked, "--debug"])
    assert re.search(r"request_id=\S{8,}", result.stderr)


def test_status_is_one_picture_of_the_system(memory: MemOS):
    cube = memory.cube("pictured")
    for i in range(20):
        cube.add(f"note {i}")
    answer = until(lambda: (s := memory.status(cubes=3))["directory"]["calls_per_s"] > 0 and s)
    assert len(answer["busiest"]) == 3
    assert answer["active_cubes"] == sum(len(host["cubes"]) for host in answer["hosts"])
    (node,) = answer["nodes"]
    assert 0 < node["used_bytes"] < node["limit_bytes"] <= node["memory_bytes"]
    assert abs(node["clock_s"]) < 1.0
    assert answer["directory"]["uptime_s"] > 0
    assert Path(answer["directory"]["logs"]).is_dir()
    assert answer["embedding"]["loaded"] is True
    console = make_console()
    with console.capture() as shown:
        console.print(view(answer))
    for word in ("pictured", node["node_id"][:12], "calls", "blank", "texts a second"):
        assert word in shown.get()
    assert "pictured" in runner.invoke(app, ["status"]).stdout


def test_move_passivate_and_drain_are_commands(memory: MemOS):
    cube = memory.cube("placed")
    cube.add("stays")
    before = cube.stats()
    (node,) = memory.status()["nodes"]
    assert run("move", "--cube", "placed", "--node", node["node_id"][:8])["epoch"] > before["epoch"]
    assert cube.stats()["pid"] != before["pid"]
    assert run("passivate", "-c", "placed") == {"cube_id": "placed", "was_active": True}
    assert run("passivate", "-c", "placed") == {"cube_id": "placed", "was_active": False}
    assert run("move", "-c", "placed", code=3)["error"]["what"] == "cube"
    assert run("drain", "nonsense", code=2)["error"]["argument"] == "node"
    assert run("move", code=2)["error"]["argument"] == "cube"
    drained = run("drain", node["node_id"][:8])
    assert drained["draining"] is True
    assert memory.status()["nodes"][0]["draining"] is True
    assert run("drain", node["node_id"], "--undo")["draining"] is False
    assert cube.get_all()[0].text == "stays"


def findings() -> dict[str, Finding]:
    return {found.what: found for found in running_system(NAMESPACE)}


def test_a_sound_system_has_nothing_bad(memory: MemOS):
    memory.add("x", cube_id="sound")
    found = findings()
    assert [f for f in found.values() if f.state == "bad"] == []
    assert {"directory", "embedder", "cube processes", "open files"} <= set(found)


def test_a_cluster_refuses_another_token(memory: MemOS, folder: str):
    address = local_head.address()
    assert address is not None
    assert cluster(address, own=True).state == "ok"
    other = Path(folder) / "other-token"
    other.write_text("0" * 64)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    refused = cluster(
        address, own=True, environment={**kept, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(other)}
    )
    assert refused.state == "bad"
    assert "refuses this user's token" in refused.text
    without = cluster(
        address,
        own=False,
        environment={**kept, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": f"{folder}/none"},
    )
    assert "there is no token" in without.text


@pytest.mark.fault
def test_a_stopped_process_is_found(memory: MemOS):
    cube = memory.cube("stopped")
    cube.add("x")
    pid = cube.stats()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        bad = [f for f in findings().values() if f.state == "bad"]
    finally:
        os.kill(pid, signal.SIGCONT)
    (host,) = [f for f in bad if f.what.startswith("host:")]
    assert "no answer" in host.text
    assert host.do
    until(lambda: not [f for f in findings().values() if f.state == "bad"])


@pytest.mark.fault
def test_a_directory_that_is_gone_is_found_and_comes_back(memory: MemOS):
    memory.add("before", cube_id="goes-on")
    ray.kill(ray.get_actor("directory", namespace=NAMESPACE), no_restart=True)
    until(lambda: "directory" not in {e["name"] for e in ray.util.list_named_actors(all_namespaces=True)})
    found = findings()["directory"]
    assert (found.state, found.text.startswith("does not answer: there is none")) == ("bad", True)
    assert "memos-ray up" in found.do
    with MemOS() as again:
        assert again.get_all(cube_id="goes-on")["results"][0]["memory"] == "before"
    assert findings()["directory"].state in ("ok", "note")
