"""The command line on a real system: one `up` for all tests, commands as users type them, then `down`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile

import pytest
from typer.testing import CliRunner

from cluster.cli.app import app
from cluster.cli.examples import example_path, load_example
from memos_ray import MemOS

pytestmark = pytest.mark.ray

runner = CliRunner()


@pytest.fixture(scope="module")
def system():
    """A running system with its own folder for everything; short, for the sockets in it."""
    folder = tempfile.mkdtemp(prefix="cli-", dir="/tmp")
    changed = {
        "TMPDIR": folder,
        "MEMOS_RAY_DATA": f"{folder}/data",
        "MEMOS_RAY_EMBEDDER": "hash",
        "MEMOS_RAY_NAMESPACE": "cli-test",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in changed.items():
            patch.setenv(name, value)
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setattr(tempfile, "tempdir", None)
        assert run("up")["data"] == f"{folder}/data"
        yield folder
        assert run("down") == {"ended": True}
        assert runner.invoke(app, ["status"]).exit_code == 5
    shutil.rmtree(folder, ignore_errors=True)


def run(*arguments, code=0):
    """The JSON that a command prints."""
    result = runner.invoke(app, [*arguments, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def table(*arguments):
    result = runner.invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_memory_from_add_to_history(system):
    added = run("add", "Ada keeps bees behind the observatory.", "--cube", "bees", "--speaker", "Ada")
    memory_id = added["results"][0]["id"]
    assert added["results"][0]["event"] == "ADD"

    found = run("search", "who keeps bees?", "-c", "bees", "--explain")["results"]
    assert found[0]["id"] == memory_id
    assert found[0]["explanation"]["arms"]
    assert "behind the observatory" in table("search", "who keeps bees?", "-c", "bees", "--explain")

    assert run("get", memory_id, "-c", "bees")["memory"] == "Ada keeps bees behind the observatory."
    assert "Ada keeps bees" in table("get", memory_id, "-c", "bees")
    assert [m["id"] for m in run("get", "--all", "-c", "bees")["results"]] == [memory_id]
    (step,) = run("history", memory_id, "-c", "bees")["results"]
    assert (step["op"], step["item"]["version"]) == ("add", 1)
    assert "add" in table("history", memory_id, "-c", "bees")


def test_registered_cubes_are_listed_filtered_and_paged(system):
    for cube in ("list:a", "list:b", "list:c"):
        run("add", "something to remember", "-c", cube)
    listed = run("cubes", "--prefix", "list:")
    assert [c["cube_id"] for c in listed] == ["list:a", "list:b", "list:c"]
    assert {(c["embedder"], c["state"], c["owner"], tuple(c["grants"])) for c in listed} == {
        ("hash", "active", "", ())
    }
    assert [c["cube_id"] for c in run("cubes", "--prefix", "list:", "--limit", "1", "--after", "list:a")] == [
        "list:b"
    ]
    assert run("cubes", "--owner", "nobody") == run("cubes", "--embedder", "another") == []
    assert "list:c" in table("cubes")
    assert run("cubes", "--embedder", "", code=2)["error"]["argument"] == "embedder"


def test_the_same_op_id_adds_once_and_refuses_another_text(system):
    first = run("add", "once", "-c", "ops", "--op-id", "op-1")
    assert run("add", "once", "-c", "ops", "--op-id", "op-1")["results"] == first["results"]
    assert run("add", "twice", "-c", "ops", "--op-id", "op-1", code=4)["error"]["type"] == "Conflict"
    assert len(run("get", "--all", "-c", "ops")["results"]) == 1


def test_a_prompt_is_printed_alone(system):
    run("add", "Bees fly\n\nat dawn.", "-c", "prompts", "--speaker", "Ada", "--timestamp", "2024-05-06")
    asked = ("search", "when do bees fly?", "-c", "prompts", "--prompt")
    text = "2024-05-06\nAda: Bees fly\n  at dawn."
    assert table(*asked) == text + "\n"
    assert table(*asked, "--budget-tokens", "14") == text + "\n"
    assert run(*asked)["prompt"] == text
    empty = runner.invoke(app, [*asked, "--budget-tokens", "5"])
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert run(*asked, "--tokenizer", "no/such", code=2)["error"]["argument"] == "tokenizer"


def test_what_is_not_there_exits_with_3_and_what_is_wrong_with_2(system):
    run("add", "something", "-c", "codes")
    missing = run("get", "01900000-0000-7000-8000-000000000000", "-c", "codes", code=3)
    assert missing["error"]["type"] == "NotFound"
    assert (
        run("search", "x", "-c", "codes", "--as-of", "yesterday-ish", code=2)["error"]["argument"] == "as_of"
    )
    result = runner.invoke(app, ["search", " ", "-c", "codes"])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("memos-ray: Invalid: query")
    assert result.stderr.count("\n") == 1


def test_ingesting_a_conversation_twice_changes_nothing(system):
    name = "lin_zh.json"
    turns = {t["turn"]: t["text"] for s in load_example(name)["sessions"] for t in s["turns"]}
    first = run("ingest", str(example_path(name)), "-c", "talk")
    assert first["files"][0]["memories"] == len(turns)
    run("ingest", str(example_path(name)), "-c", "talk")
    items = run("get", "--all", "-c", "talk", "-k", "1000")["results"]
    assert [i["memory"] for i in items] == list(turns.values())
    assert [i["sources"][0]["turn"] for i in items] == list(turns)

    before = run("search", "周航做的独立游戏叫什么名字？", "-c", "talk", "--as-of", "2024-06-30")["results"]
    assert "2:17" in {h["sources"][0]["turn"] for h in before}
    assert max(h["valid_from"] for h in before) < "2024-06-30"


def test_ingesting_a_document_keeps_headings(system):
    assert "kitchen_handbook.md" in table(
        "ingest", str(example_path("kitchen_handbook.md")), "--user", "baker"
    )
    hits = run("search", "how much dough may go into the mixer?", "--user", "baker")["results"]
    assert "mixer" in {(h["sources"][0].get("heading") or "").lower().split()[-1] for h in hits[:3]}


def test_export_and_import_keep_every_version(system):
    added = run("add", "The password hint is a heron.", "-c", "old")
    file = f"{system}/cube.memcube"
    assert run("export", file, "-c", "old")["bytes"] == os.path.getsize(file)
    assert run("import", file, "-c", "new")["cube_id"] == "new"
    memory_id = added["results"][0]["id"]
    assert run("get", memory_id, "-c", "new") == run("get", memory_id, "-c", "old")
    assert run("import", file, "-c", "new", code=4)["error"]["type"] == "Conflict"
    with open(file, "r+b") as damaged:
        damaged.seek(-200, os.SEEK_END)
        damaged.truncate()
    assert run("import", file, "-c", "newer", code=7)["error"]["type"] == "Corrupt"


def test_back_up_lose_everything_and_restore(system):
    added = run("add", "The spare key is under the fern.", "-c", "kept", "--op-id", "kept-1")
    run("add", "The fern needs water.", "-c", "other-kept")
    place = f"{system}/backups/1"
    taken = run("backup", place, "--skew", "0.05")
    assert taken["backup"] == place
    assert taken["cubes"] >= 2
    assert run("verify-backup", place)["problems"] == []
    assert "cubes" in table("verify-backup", place, "--checksums-only")

    with MemOS() as memory:
        memory.delete_all(cube_id="kept")
        memory.add("Only since then.", cube_id="other-kept")
    assert run("get", "--all", "-c", "kept")["results"] == []
    assert run("restore", place, "-c", "kept", code=4)["error"]["type"] == "Conflict"
    restored = run("restore", place, "-c", "kept", "--replace")
    assert (restored["restored"], restored["results"][0]["rows"]) == (1, 1)
    (memory_found,) = run("get", "--all", "-c", "kept")["results"]
    assert memory_found["id"] == added["results"][0]["id"]
    assert run("search", "where is the key?", "-c", "kept")["results"][0]["id"] == memory_found["id"]
    again = run("add", "The spare key is under the fern.", "-c", "kept", "--op-id", "kept-1")
    assert again["results"] == added["results"]
    assert run("restore", place, "-c", "kept", "--replace")["unchanged"] == 1
    assert len(run("get", "--all", "-c", "other-kept")["results"]) == 2

    run("restore", place, "-c", "other-kept", "--as", "second-kept")
    assert [m["memory"] for m in run("get", "--all", "-c", "second-kept")["results"]] == [
        "The fern needs water."
    ]
    assert "changed" in table("restore", place, "-c", "kept", "--replace")

    following = run("backup", f"{system}/backups/2", "--since", place, "--skew", "0.05")
    assert following["bases"][0]["cubes"] >= 1
    with open(f"{place}/bundles/000000.zip", "r+b") as damaged:
        damaged.truncate(100)
    assert run("verify-backup", place, code=7)["problems"]
    assert run("restore", place, "-c", "kept", "--as", "third-kept", code=7)["error"]["type"] == "Corrupt"
    assert run("verify-backup", f"{system}/nowhere", code=2)["error"]["type"] == "Invalid"


def test_a_cube_goes_back_in_time_and_forward_again(system):
    run("add", "Monday.", "-c", "days")
    (monday,) = run("get", "--all", "-c", "days")["results"]
    run("add", "Tuesday.", "-c", "days")
    back = run("rewind", "-c", "days", "--at", monday["recorded_at"])
    assert back["outcome"] == "restored"
    assert [m["memory"] for m in run("get", "--all", "-c", "days")["results"]] == ["Monday."]
    run("rewind", "-c", "days", "--incarnation", back["previous"])
    assert len(run("get", "--all", "-c", "days")["results"]) == 2
    run("rewind", "-c", "days", "--at", monday["recorded_at"], "--as", "monday")
    assert [m["memory"] for m in run("get", "--all", "-c", "monday")["results"]] == ["Monday."]
    assert run("rewind", code=2)["error"]["argument"] == "cube"
    assert run("rewind", "--all", code=2)["error"]["argument"] == "at"
    assert "outcome" in table(
        "rewind", "--all", "--at", run("get", "--all", "-c", "days")["results"][1]["recorded_at"]
    )


def test_status_shows_who_holds_what_and_a_killed_cube_answers_again(system):
    run("add", "still here", "-c", "killed")
    host, cube = _holder("killed")
    assert "killed" in table("status")
    os.kill(host["pid"], signal.SIGKILL)
    assert run("search", "still here", "-c", "killed")["results"][0]["memory"] == "still here"
    after, same = _holder("killed")
    assert after["pid"] != host["pid"]
    assert same["epoch"] > cube["epoch"]


def _holder(cube_id: str):
    """(host, cube) as status shows them."""
    hosts = run("status")["hosts"]
    (found,) = [(h, c) for h in hosts for c in h["cubes"] if c["cube_id"] == cube_id]
    return found


def test_status_starts_no_system_on_a_cluster_without_one(system, monkeypatch):
    monkeypatch.setenv("MEMOS_RAY_NAMESPACE", "nobody-started-this")
    assert run("status", code=5) == {"running": False}
    assert run("status", code=5) == {"running": False}


def test_another_data_root_than_the_running_one_is_refused(system):
    refused = run("search", "x", "--data", f"{system}/elsewhere", code=2)
    assert f"{system}/data" in refused["error"]["message"]


def test_doctor_finds_every_cube_sound(system):
    run("add", "checked", "-c", "sound")
    findings = run("doctor")["findings"]
    assert "bad" not in {f["state"] for f in findings}, findings
    assert any(f["what"] == "cube sound" for f in findings)
