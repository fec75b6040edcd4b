"""Files under a root, on a folder and on an S3 server: whole ones, parts, streams, and what fails in the middle."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from s3_server import Proxy

from memos_ray.errors import Invalid, NotFound, Unavailable
from memos_ray.storage import files as files_module
from memos_ray.storage.files import Files
from memos_ray.storage.local import is_partial

MB = 1 << 20


@pytest.fixture(params=["folder", "s3"])
def root(request, tmp_path):
    return str(tmp_path / "data") if request.param == "folder" else request.getfixturevalue("s3_root")


@pytest.fixture
def proxy(s3_server, s3_root, monkeypatch):
    """A proxy that the environment leads to."""
    started = Proxy(s3_server.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", started.endpoint)
    yield started
    started.stop()


def test_files(root):
    files = Files(root)
    assert list(files.list()) == []
    with pytest.raises(NotFound):
        files.read_bytes("a/b.bin")
    files.delete("a/b.bin")
    assert files.write_bytes("a/b.bin", b"one")
    assert not files.write_bytes("a/b.bin", b"two", if_absent=True)
    assert files.read_bytes("a/b.bin") == b"one"
    assert files.write_bytes("a/b.bin", b"three")
    assert files.write_bytes("c.bin", b"x" * 6_000_000)  # in parts
    assert files.read_bytes("a/b.bin") == b"three"
    assert sorted((f.name, f.size_bytes) for f in files.list()) == [("a/b.bin", 5), ("c.bin", 6_000_000)]
    assert [f.name for f in files.list("a")] == ["a/b.bin"]
    files.delete("a/b.bin")
    files.delete("a/b.bin")
    assert [f.name for f in Files(root).list()] == ["c.bin"]
    for name in ("", "/a", "a//b", "../a", "a/./b"):
        with pytest.raises(Invalid):
            files.read_bytes(name)


def test_parts(root):
    files = Files(root)
    with pytest.raises(NotFound):
        files.read_part("a/b.bin", 0, 3)
    files.write_bytes("a/b.bin", b"0123456789")
    parts = {(2, 3): b"234", (0, 10): b"0123456789", (8, 5): b"89", (10, 1): b"", (99, 5): b"", (3, 0): b""}
    assert {at: files.read_part("a/b.bin", *at) for at in parts} == parts
    assert (files.size("a/b.bin"), files.size("a/c.bin"), files.size("a")) == (10, None, files.size("a"))
    for wrong in ((-1, 3), (0, -1)):
        with pytest.raises(Invalid):
            files.read_part("a/b.bin", *wrong)


@pytest.mark.parametrize("size", [0, 1, 300, 301, 600])
def test_a_file_is_read_and_written_in_pieces(root, monkeypatch, size):
    monkeypatch.setattr(files_module, "_CHUNK", 300)
    data = os.urandom(size)
    files = Files(root)
    with files.writer("a/b.bin") as file:
        for at in range(0, size, 7):
            file.write(data[at : at + 7])
        assert files.find_bytes("a/b.bin") is None
        assert list(files.list()) == []
    assert (
        b"".join(files.read_chunks("a/b.bin"))
        == files.read_bytes("a/b.bin")
        == bytes(files.view("a/b.bin"))
        == data
    )
    assert all(len(piece) <= 300 for piece in files.read_chunks("a/b.bin"))
    with pytest.raises(NotFound):
        next(files.read_chunks("a/c.bin"))


def test_what_is_written_to_its_end_alone_counts(root):
    files = Files(root)
    for before in (None, b"old"):
        for size in (10, 20 * MB):
            with pytest.raises(ZeroDivisionError), files.writer("a/b.bin") as file:  # noqa: PT012
                file.write(bytes(size))
                raise ZeroDivisionError
            assert files.find_bytes("a/b.bin") == before
        files.write_durably("a/b.bin", b"old")
    with files.writer("a/b.bin", durable=False) as file:
        file.write(bytes(20 * MB))
    assert files.size("a/b.bin") == 20 * MB
    assert [f.name for f in files.list()] == ["a/b.bin"]


def test_whether_there_is_anything(root):
    files = Files(root)
    assert files.is_empty()
    assert Files(f"{root}-not-there").is_empty()
    files.write_bytes("a/b.bin", b"")
    assert not files.is_empty()
    assert files.view("a/b.bin") == b""
    beside = Files(f"{root}-beside")  # the one's name begins with the other's
    beside.write_bytes("x", b"")
    assert [f.name for f in files.list()] == ["a/b.bin"]


def test_a_mapped_file_stays_what_it_was_when_another_takes_its_place(tmp_path):
    files = Files(str(tmp_path))
    files.write_durably("x", b"old" * 1000)
    seen = files.view("x")
    assert seen.readonly
    files.write_durably("x", b"new" * 1000)
    assert (seen[:3], files.view("x")[:3]) == (b"old", b"new")


def test_local_files_are_opened_without_the_object_stores_client(tmp_path):
    code = (
        "import sys; from memos_ray.storage.files import Files; f = Files(sys.argv[1]);"
        "f.write_durably('a/b', b'x'); f.view('a/b'); f.read_part('a/b', 0, 1); f.delete('a/b'); f.find_bytes('a/b');"
        "assert 'obstore' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_a_durable_file_is_on_disk_before_it_has_its_name_and_so_are_the_names(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(os.readlink(f"/proc/self/fd/{fd}")), sync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("named"), replace(a, b)))
    Files(str(tmp_path / "b")).write_durably("index/0.json", b"x")
    assert is_partial(done[0])
    assert done[1:] == ["named", *(str(tmp_path / name) for name in ("b/index", "b")), str(tmp_path)]
    done.clear()
    with Files(str(tmp_path / "b")).writer("index/0.json", durable=False) as file:
        file.write(b"y")
    assert done == ["named"]


def test_what_a_writer_that_died_left_is_no_file_and_goes(tmp_path):
    left = tmp_path / "a" / f"b.bin.{'0' * 32}.part"
    left.parent.mkdir()
    left.write_bytes(b"half")
    files = Files(str(tmp_path))
    assert list(files.list()) == []
    assert Files(str(tmp_path / "a")).is_empty()
    files.write_durably("a/b.bin", b"whole")
    assert [path.name for path in left.parent.iterdir()] == ["b.bin"]
    left.write_bytes(b"half")
    files.delete("a/b.bin")
    assert list(left.parent.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_disk_is_unavailable_and_leaves_what_was_there(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "none", str(tmp_path)], check=True)
    try:
        files = Files(str(tmp_path))
        files.write_durably("a", b"old")
        with pytest.raises(Unavailable, match="No space"), files.writer("a") as file:  # noqa: PT012
            for _ in range(20):
                file.write(bytes(100_000))
        assert files.read_bytes("a") == b"old"
        assert [path.name for path in Path(tmp_path).iterdir()] == ["a"]
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


@pytest.mark.parametrize("refused", ["uploads", "partNumber=2", "uploadId"])
def test_an_upload_that_fails_is_unavailable_and_leaves_what_was_there(s3_root, proxy, refused):
    files = Files(s3_root)
    files.write_bytes("a", b"old")
    proxy.before = lambda method, path: 403 if refused in path and method != "DELETE" else None
    with pytest.raises(Unavailable, match="cannot write a"), files.writer("a") as file:  # noqa: PT012
        for _ in range(20):
            file.write(bytes(MB))
    proxy.before = lambda method, path: None
    assert files.read_bytes("a") == b"old"
    assert [f.name for f in files.list()] == ["a"]


def test_requests(s3_root, proxy):
    """One for each whole file, part, look and small write, also beyond the end; a bucket has one client."""
    for ask in (
        lambda files: files.write_durably("a", bytes(MB)),
        lambda files: files.view("a"),
        lambda files: files.read_part("a", 10, 10),
        lambda files: files.read_part("a", 2 * MB, 10),
        lambda files: list(files.read_chunks("a")),
        lambda files: files.size("a"),
        lambda files: files.is_empty(),
        lambda files: files.delete("a"),
    ):
        proxy.paths.clear()
        ask(Files(s3_root))
        assert len(proxy.paths) == 1, proxy.paths
    assert Files(s3_root)._store() is Files(f"{s3_root}/x")._store()


def test_a_store_that_went_away_is_unavailable(s3_root, monkeypatch):
    files = Files(s3_root)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    for ask in (
        lambda: files.read_part("a", 0, 1),
        lambda: files.size("a"),
        lambda: files.is_empty(),
        lambda: files.write_durably("a", b""),
        lambda: files.delete("a"),
    ):
        with pytest.raises(Unavailable, match="error sending request"):
            ask()


def test_no_such_bucket_is_not_no_such_file(s3_root):
    with pytest.raises(Unavailable, match="NoSuchBucket"):
        Files("s3://nowhere-at-all/x").read_part("a", 0, 1)
