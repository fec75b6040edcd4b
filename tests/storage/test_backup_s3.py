"""Backups of a root in an object store, to an object store and to a folder, and back again."""

import pytest
from s3_server import Proxy
from test_backup import NO_SKEW, SMALL, append, make_cube, texts
from test_restore import System

from memos_ray.backup.locations import files_at
from memos_ray.backup.stored import Backup
from memos_ray.backup.taking import take_backup
from memos_ray.backup.verifying import verify
from memos_ray.config import Settings
from memos_ray.errors import Invalid, MemosError, Unavailable
from memos_ray.storage.files import Files


@pytest.fixture
def settings(s3_root):
    found = Settings(data=s3_root)
    for cube_id in ("a", "b", "c"):
        make_cube(found, cube_id)
    return found


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path, s3_root):
    return str(tmp_path / "backups") if request.param == "folder" else f"{s3_root}-backups"


async def test_there_and_back(settings, place, s3_root):
    first, second = f"{place}/1", f"{place}/2"
    assert take_backup(settings, first, options=SMALL).cubes == 3
    append(settings, "b", 2)
    manifest = take_backup(settings, second, since=first, options=SMALL)
    assert [(base.location, base.cubes) for base in manifest.bases] == [("../1", 2)]
    for location in (first, second):
        assert verify(location).problems == ()
    backup = Backup(second)
    assert backup.files.uri == second
    assert texts(backup, "b")[:3] == texts(backup, "a")
    assert len(texts(backup, "b")) == 5
    async with System(f"{s3_root}-restored") as system:
        restored = await system.restore(backup)
        assert {c: r.outcome for c, r in restored.items()} == dict.fromkeys("abc", "restored")
        assert {c: r.rows for c, r in restored.items()} == {"a": 3, "b": 5, "c": 3}
        assert len(await (await system.cube("b")).get_all()) == 5
        assert (await system.restore(backup, cubes=["c"]))["c"].outcome == "unchanged"


def test_damage_in_a_bucket_is_found(settings, s3_root):
    place = f"{s3_root}-backups"
    take_backup(settings, place, options=NO_SKEW)
    files = files_at(place)
    name = "bundles/000000.zip"
    whole = files.read_bytes(name)
    for damaged in (whole[:-1], whole[:900] + b"xxx" + whole[903:], b""):
        files.write_bytes(name, damaged)
        assert verify(place).problems
    files.delete(name)
    assert {p.cube_id for p in verify(place).problems} == {None, "a", "b", "c"}
    files.write_bytes(name, whole)
    assert verify(place).problems == ()


@pytest.mark.parametrize("refused", ["bundles/", "manifest.json"])
def test_an_interrupted_backup_goes_on_where_it_stopped(settings, s3_root, s3_server, monkeypatch, refused):
    place = f"{s3_root}-backups"
    proxy = Proxy(
        s3_server.endpoint, before=lambda method, path: 403 if method == "PUT" and refused in path else None
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    try:
        with pytest.raises(Unavailable):
            take_backup(settings, place, options=SMALL)
        with pytest.raises(Invalid, match="not finished"):
            Backup(place)
        assert not any(refused in file.name for file in Files(place).list())
        proxy.before = lambda method, path: None
        with pytest.raises(Invalid, match="of other cubes"):
            take_backup(settings, place, cubes=["a"], options=SMALL)
        assert take_backup(settings, place, options=SMALL).cubes == 3
    finally:
        proxy.stop()
    assert verify(place).problems == ()
    with pytest.raises(Invalid, match="finished backup"):
        take_backup(settings, place, options=SMALL)


def test_a_place_that_holds_something_else(settings, s3_root):
    Files(f"{s3_root}-else").write_bytes("a/b", b"")
    with pytest.raises(Invalid, match="holds something else"):
        take_backup(settings, f"{s3_root}-else", options=NO_SKEW)
    for wrong in ("s3://bucket/x?region=eu", "ftp://x/y"):
        with pytest.raises(MemosError, match="the place of a backup") as caught:
            take_backup(settings, wrong, options=NO_SKEW)
        assert caught.value.argument == "location"
