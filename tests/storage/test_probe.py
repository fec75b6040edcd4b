"""The start-up probe, on a folder and on an S3 server."""

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from s3_server import BUCKET, Proxy

from memos_ray.errors import Invalid, Unavailable
from memos_ray.storage.files import Files
from memos_ray.storage.probe import probe


@pytest.fixture(params=["folder", "s3"])
def root(request, tmp_path):
    return str(tmp_path / "data") if request.param == "folder" else request.getfixturevalue("s3_root")


@pytest.fixture
def proxy(s3_server, s3_root, monkeypatch):
    """Starts a proxy that the environment leads to."""
    started = []

    def start(**how):
        started.append(Proxy(s3_server.endpoint, **how))
        monkeypatch.setenv("AWS_ENDPOINT_URL", started[-1].endpoint)
        return started[-1]

    yield start
    for one in started:
        one.stop()


def test_a_good_root_passes_and_is_left_empty(root):
    passed = probe(root)
    assert passed.root == root
    assert passed.seconds < 5
    assert list(Files(root).list()) == []
    probe(root)


def test_a_store_that_ignores_conditions_is_refused(s3_server, s3_root, proxy):
    proxy(strip="If-None-Match")
    with pytest.raises(Invalid, match="If-None-Match") as caught:
        probe(s3_root)
    assert caught.value.argument == "data"
    assert "overwrote an object" in caught.value.message
    assert list(Files(s3_root).list()) == []


def test_a_store_whose_check_and_put_are_two_steps_is_refused(s3_server, s3_root, proxy):
    """Its conditional put works for one writer at a time, and lets simultaneous ones all pass."""
    gate = threading.Barrier(4)
    there = set()

    def check(method, path):
        if method == "PUT" and path.endswith("-race"):
            gate.wait(20)
        elif method == "PUT":
            if path in there:
                return 412
            there.add(path)
        return None

    proxy(strip="If-None-Match", before=check)
    with pytest.raises(Invalid, match="let 4 of 4 simultaneous puts create the same object"):
        probe(s3_root)
    assert list(Files(s3_root).list()) == []


def test_nobody_there(s3_root, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    started = time.monotonic()
    with pytest.raises(Unavailable, match="does not answer"):
        probe(s3_root)
    assert time.monotonic() - started < 20


def test_no_such_bucket(s3_root):
    with pytest.raises(Invalid, match=r"no such bucket: s3://nowhere-at-all/x; make it first"):
        probe("s3://nowhere-at-all/x")


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"])
def test_credentials_that_are_refused(s3_root, proxy, code):
    proxy(refuse=code)
    with pytest.raises(Invalid, match=f"check the credentials .*{code}"):
        probe(s3_root)


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "data").write_text("x")
    with pytest.raises((Invalid, Unavailable), match="data"):
        probe(str(tmp_path / "data"))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_file_system_that_cannot_be_written(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k,ro", "none", str(tmp_path)], check=True)
    try:
        with pytest.raises(Invalid, match="cannot be written by this user"):
            probe(str(tmp_path / "data"))
        with pytest.raises(Invalid, match="cannot be written by this user"):
            probe(str(tmp_path))
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_the_bucket_itself_may_be_the_root(s3_root):
    probe(f"s3://{BUCKET}")
    assert not any(f.name.startswith(".probe") for f in Files(f"s3://{BUCKET}").list())


def test_a_folder_is_made(tmp_path):
    probe(str(tmp_path / "a b" / "data"))
    assert Path(tmp_path / "a b" / "data").is_dir()
