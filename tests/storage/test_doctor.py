"""`memos-ray doctor` on sound and damaged cubes, without a running system."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import lance
import pytest
from typer.testing import CliRunner

from cluster.checks.joining import cluster
from cluster.checks.storage import object_store
from cluster.cli.app import app
from memos_ray.clock import SystemClock
from memos_ray.config import Settings
from memos_ray.cube.opening import journal_store, write_incarnation
from memos_ray.cube.owner import Owner
from memos_ray.cube.packing import stored_table
from memos_ray.cube.paths import journal_path
from memos_ray.cube.registry import Registry
from memos_ray.cube.rows import JournalRow, Op, rows_to_table
from memos_ray.ids import new_op_id
from memos_ray.storage.files import Files
from memos_ray.storage.options import storage_options

runner = CliRunner()


def row(seq, *, epoch=0, memory_id=None):
    return JournalRow(
        Op.ADD,
        f"op-{epoch}-{seq}",
        memory_id=memory_id or f"m-{seq}",
        version=1,
        text="t",
        epoch=epoch,
        seq=seq,
        recorded_at=datetime.now(UTC),
    )


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A temporary folder in which no system is known to run."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("MEMOS_RAY_ADDRESS", raising=False)


@pytest.fixture
def root(tmp_path, alone):
    """A data root with one cube of two commits."""
    return filled(str(tmp_path / "data"))


@pytest.fixture
def bucket(s3_root, alone):
    """The same in an object store."""
    return filled(s3_root)


def filled(data):
    settings = Settings(data=data)
    incarnation = new_op_id()
    write_incarnation(settings, "c", incarnation, rows_to_table([row(1), row(2)]))
    store = journal_store(settings, "c", incarnation)
    store.open()
    store.append(store.latest(), stored_table([row(3)]))
    Registry(settings.data).create_if_absent("c", incarnation=incarnation, embedder="hash")
    return settings


def journal(settings):
    record = Registry(settings.data).lookup("c")
    return Path(journal_path(settings.data, "c", record.incarnation))


def doctor(settings, *arguments):
    result = runner.invoke(app, ["doctor", "--data", settings.data, "--json", *arguments])
    return result.exit_code, json.loads(result.stdout)


def test_a_sound_cube(root):
    code, answer = doctor(root)
    assert code == 0
    found = {f["what"]: f["state"] for f in answer["findings"]}
    assert "bad" not in found.values()
    assert {"installation", "auth token", "shared memory", "processes", "data", "system", "cube c"} <= set(
        found
    )
    assert found["cube c"] == found["data"] == found["system"] == "ok"
    assert not any(f["do"] for f in answer["findings"] if f["state"] == "ok")
    assert doctor(root, "--repair", "--cube", "c")[1]["findings"][0]["state"] == "ok"


def test_a_damaged_cube_is_found_and_goes_on_from_its_newest_readable_version(root):
    path = journal(root)
    newest = lance.dataset(str(path)).get_fragments()[-1].data_files()[0].path
    (path / "data" / Path(newest).name).write_bytes(b"")

    code, answer = doctor(root)
    assert code == 7
    bad = next(f for f in answer["findings"] if f["what"] == "cube c")
    assert bad["state"] == "bad"
    assert "1 rows of newer versions cannot be read" in bad["text"]

    code, answer = doctor(root, "--repair", "--cube", "c")
    assert code == 0
    assert answer["findings"][0]["state"] == "repaired"
    assert str(path) in answer["findings"][0]["text"]
    assert journal(root) != path
    assert path.exists()
    assert lance.dataset(str(journal(root))).to_table()["memory_id"].to_pylist() == ["m-1", "m-2"]
    assert doctor(root)[0] == 0


def test_a_repair_does_not_bring_back_what_a_fenced_off_owner_wrote(root):
    store = journal_store(root, "c", journal(root).parent.name)
    store.open()
    for epoch in (1, 2):
        owner = Owner(store, SystemClock(), f"owner {epoch}")
        owner.activate()
        owner.write(stored_table([row(owner.next_seq, epoch=owner.epoch, memory_id=f"by-{epoch}")]))
    stale = row(5, epoch=1, memory_id="stale")  # epoch 1 owned up to seq 4
    store.append(store.latest(), stored_table([stale]))
    store.append(store.latest(), stored_table([row(6, epoch=2)]))
    newest = lance.dataset(str(journal(root))).get_fragments()[-1].data_files()[0].path
    (journal(root) / "data" / Path(newest).name).write_bytes(b"")
    assert doctor(root, "--repair", "--cube", "c")[1]["findings"][0]["state"] == "repaired"
    kept = lance.dataset(str(journal(root))).to_table()["memory_id"].to_pylist()
    assert kept == ["m-1", "m-2", "m-3", "by-1", "by-2"]


def test_what_only_the_empty_beginning_is_left_of_cannot_be_repaired(root):
    for file in (journal(root) / "data").iterdir():
        file.unlink()
    assert doctor(root)[0] == 7
    code, answer = doctor(root, "--repair", "--cube", "c")
    assert code == 7
    assert "backup" in answer["error"]["message"]


def test_repair_is_refused_while_a_system_may_be_using_the_cube(root, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    code, answer = doctor(root, "--repair", "--cube", "c")
    assert code == 5
    assert "memos-ray down" in answer["error"]["message"]


def test_a_cube_that_is_not_there(root):
    assert doctor(root, "--cube", "other")[0] == 3


def test_in_a_bucket(bucket):
    code, answer = doctor(bucket)
    assert code == 0
    assert {finding(answer, what)["state"] for what in ("data", "cube c")} == {"ok"}
    assert "honours conditional puts" in finding(answer, "data")["text"]

    record = Registry(bucket.data).lookup("c")
    path = journal_path(bucket.data, "c", record.incarnation)
    files = Files(path)
    latest = lance.dataset(path, storage_options=storage_options(bucket.data))
    newest = Path(latest.get_fragments()[-1].data_files()[0].path).name
    files.write_bytes(f"data/{newest}", b"")
    code, answer = doctor(bucket)
    assert code == 7
    assert "1 rows of newer versions cannot be read" in finding(answer, "cube c")["text"]
    code, answer = doctor(bucket, "--repair", "--cube", "c")
    assert (code, answer["findings"][0]["state"]) == (0, "repaired")
    code, answer = doctor(bucket)
    assert (code, finding(answer, "cube c")["text"].partition(",")[0]) == (0, "2 rows")
    assert files.size(f"data/{newest}") == 0


def test_a_manifest_in_a_bucket_that_is_gone_or_garbage(bucket):
    files = Files(journal_path(bucket.data, "c", Registry(bucket.data).lookup("c").incarnation))
    newest = min(file.name for file in files.list("_versions"))  # they are named so that it comes first
    files.write_bytes(newest, b"garbage")
    code, answer = doctor(bucket)
    assert code == 7
    assert "cannot be read" in finding(answer, "cube c")["text"]
    for file in list(files.list("_versions")):
        files.delete(file.name)
    assert "there is no log at s3://" in finding(doctor(bucket)[1], "cube c")["text"]


def finding(answer, what):
    (found,) = [f for f in answer["findings"] if f["what"] == what]
    return found


def test_of_very_many_cubes_a_sample_is_looked_at(root, monkeypatch):
    monkeypatch.setattr("cluster.cli.doctor._SAMPLE", 3)
    registry = Registry(root.data)
    for i in range(5):
        incarnation = new_op_id()
        write_incarnation(root, f"more-{i}", incarnation, rows_to_table([row(1)]))
        registry.create_if_absent(f"more-{i}", incarnation=incarnation, embedder="hash")
    code, answer = doctor(root)
    assert code == 0
    assert finding(answer, "cubes")["text"].startswith("3 of 6 are looked at")
    assert sum(f["what"].startswith("cube ") for f in answer["findings"]) == 3
    assert sum(f["what"].startswith("cube ") for f in doctor(root, "--all")[1]["findings"]) == 6


def test_a_root_that_cannot_be_written(root, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    for where in (tmp_path / "file" / "data", Path("/proc/memos-ray")):
        code, answer = doctor(root.model_copy(update={"data": str(where)}))
        assert code == 7
        assert finding(answer, "data")["state"] == "bad"
        assert "--data" in finding(answer, "data")["do"]


FULL = """
import resource, sys
from cluster.checks.joining import cluster
from cluster.checks.storage import object_store
from cluster.cli.app import app
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # as a full disk: larger files cannot be written
app(["doctor", "--data", sys.argv[1], "--json"])
"""


def test_a_disk_that_takes_nothing_more(root):
    done = subprocess.run(
        [sys.executable, "-c", FULL, root.data], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 7, done.stderr
    found = finding(json.loads(done.stdout), "data")
    assert found["state"] == "bad"
    assert "make room" in found["do"]
    assert not [p for p in Path(root.data).iterdir() if p.name.startswith(".memos-ray-doctor")]


def test_an_object_store_that_does_not_answer(root, monkeypatch):
    for name, value in {
        "AWS_ENDPOINT": "http://127.0.0.1:1",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "x",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    found = object_store(root.model_copy(update={"data": "s3://nobody/here"}))
    assert found.state == "bad"
    assert "AWS_ACCESS_KEY_ID" in found.do


def test_an_address_where_nothing_listens(root, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    code, answer = doctor(root)
    assert code == 7
    assert finding(answer, "cluster")["text"].startswith("nothing listens at 127.0.0.1:1")
    assert "memos-ray up" in finding(answer, "cluster")["do"]
    assert finding(answer, "cube c")["state"] == "ok"  # looked at all the same


def test_what_listens_but_is_no_ray_cluster(monkeypatch):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        found = cluster(f"127.0.0.1:{listening.getsockname()[1]}", own=False, patience_s=2.0)
    assert found.state == "bad"
    assert "no Ray cluster" in found.text


def test_a_token_that_is_needed_and_not_there(root, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    code, answer = doctor(root)
    assert code == 7
    assert "ray get-auth-token" in finding(answer, "auth token")["do"]
