"""The files of a backup without any cube behind them: layout, checksums, and damage of every kind."""

from __future__ import annotations

import json
import shutil
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from memos_ray.backup.bundles import PartWriter
from memos_ray.backup.incarnations import Names
from memos_ray.backup.layout import Entry, Manifest, Plan, sealed, unsealed
from memos_ray.backup.locations import relative_location, resolve_location
from memos_ray.backup.stored import Backup
from memos_ray.backup.verifying import verify
from memos_ray.cube.portable import memcube_bytes, read_memcube
from memos_ray.cube.rows import JournalRow, Op, rows_to_table
from memos_ray.errors import Corrupt, Invalid, MemosError, SchemaTooNew
from memos_ray.storage.files import Files

AT = datetime(2025, 1, 1, tzinfo=UTC)


def table_of(cube_id: str, rows: int = 3):
    return rows_to_table(
        [
            JournalRow(
                Op.ADD,
                f"op-{i}",
                memory_id=f"{cube_id}-{i}",
                version=1,
                text=f"text {i}",
                seq=i + 1,
                recorded_at=AT,
            )
            for i in range(rows)
        ]
    )


def write_backup(folder: str, cubes: tuple[str, ...] = ("a", "b", "c", "d"), per_part: int = 2) -> None:
    files = Files(folder)
    files.write_durably("backup.json", sealed(Plan(id="the-id", at=AT, data="/d")))
    parts = []
    for number in range(0, len(cubes), per_part):
        with PartWriter(files, len(parts)) as part:
            for cube_id in cubes[number : number + per_part]:
                data = memcube_bytes(cube_id, table_of(cube_id))[1]
                place = part.put(data)
                record = {"cube_id": cube_id, "incarnation": "x"}
                part.entries.append(
                    Entry(cube_id=cube_id, record=record, version=1, rows=3, key="k", last=True, place=place)
                )
            parts.append(part.finish())
    manifest = Manifest(
        id="the-id",
        at=AT,
        finished_at=AT,
        data="/d",
        all_cubes=True,
        bases=(),
        parts=tuple(parts),
        cubes=len(cubes),
        rows=3 * len(cubes),
        bytes=0,
    )
    files.write_durably("manifest.json", sealed(manifest))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backups") / "b"
    write_backup(str(folder))
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "b"))


def test_what_was_written_is_read(folder: Path):
    backup = Backup(str(folder))
    assert [e.cube_id for e in backup.entries()] == ["a", "b", "c", "d"]
    assert [e.cube_id for e in backup.chosen(["d", "b"])] == ["b", "d"]
    assert all(backup.table(e).equals(table_of(e.cube_id)) for e in backup.entries())
    found = verify(str(folder))
    assert (found.cubes, found.rows, found.problems) == (4, 12, ())
    assert not list(folder.rglob("*.part"))


def test_any_zip_program_takes_a_cube_out_of_a_bundle(folder: Path, tmp_path: Path):
    with zipfile.ZipFile(folder / "bundles" / "000001.zip") as bundle:
        assert bundle.testzip() is None
        assert bundle.namelist() == ["000000.memcube", "000001.memcube"]
        bundle.extract("000001.memcube", tmp_path)
    assert read_memcube(tmp_path / "000001.memcube")[0]["cube_id"] == "d"


def test_every_flipped_byte_is_found(folder: Path):
    for file in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "backup.json"):
        whole = file.read_bytes()
        for at in {0, 30, 31, len(whole) // 3, len(whole) // 2, len(whole) - 200, len(whole) - 1}:
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            try:
                problems = verify(str(folder), fold=False).problems
            except MemosError:
                assert file.name == "manifest.json"
                continue
            assert problems, (file.name, at)
        file.write_bytes(whole)
    assert not verify(str(folder)).problems


@pytest.mark.parametrize("keep", [0, 10, 2_000, -1])
def test_a_bundle_that_was_cut_short(folder: Path, keep: int):
    bundle = folder / "bundles" / "000000.zip"
    bundle.write_bytes(bundle.read_bytes()[:keep])
    found = verify(str(folder))
    assert any("000000.zip" in p.text for p in found.problems)
    assert found.cubes == (4 if keep == -1 else 2)
    backup = Backup(str(folder))
    if keep != -1:
        with pytest.raises(Corrupt, match="cut short"):
            backup.table(next(backup.chosen(["b"])))
    assert backup.table(next(backup.chosen(["c"]))).num_rows == 3


def test_missing_files(folder: Path):
    (folder / "bundles" / "000000.zip").unlink()
    assert {p.cube_id for p in verify(str(folder)).problems} == {None, "a", "b"}
    (folder / "index" / "000001.json").unlink()
    problems = verify(str(folder)).problems
    assert any("index/000001.json is missing; 2 cubes" in p.text for p in problems)
    with pytest.raises(Corrupt, match="is missing"):
        list(Backup(str(folder)).chosen(["c"]))


def test_indexes_that_were_exchanged(folder: Path):
    one, other = (folder / "index" / f"00000{i}.json" for i in (0, 1))
    shutil.copy(one, other)
    assert any("SHA-256" in p.text for p in verify(str(folder)).problems)


def test_what_is_no_backup(tmp_path: Path, folder: Path):
    for place in (tmp_path / "nothing", tmp_path):
        with pytest.raises(Invalid, match="no backup"):
            Backup(str(place))
    manifest = folder / "manifest.json"
    for foreign in ({"format": "zip"}, {}, []):
        manifest.write_text(json.dumps(foreign))
        with pytest.raises(Invalid):
            Backup(str(folder))
    manifest.unlink()
    with pytest.raises(Invalid, match="not finished"):
        Backup(str(folder))
    with pytest.raises(Invalid, match="the place of a backup has the scheme 'nonsense'; it is a folder"):
        Backup("nonsense://x")


def test_a_manifest_of_a_newer_release_or_a_damaged_one(folder: Path):
    manifest = folder / "manifest.json"
    value = json.loads(manifest.read_bytes())
    manifest.write_text(json.dumps({**value, "version": 2, "parts": "of another form"}))
    with pytest.raises(SchemaTooNew):
        Backup(str(folder))
    for text in ("", json.dumps(value)[:-20], json.dumps({**value, "rows": 11}), "[" * 100_000):
        manifest.write_text(text)
        with pytest.raises(Corrupt):
            Backup(str(folder))


def test_a_manifest_that_is_whole_but_says_something_else(folder: Path):
    manifest = unsealed((folder / "manifest.json").read_bytes(), Manifest, "it")
    for changed, said in (({"cubes": 5}, "5"), ({"rows": 13}, "manifest says")):
        (folder / "manifest.json").write_bytes(sealed(manifest.model_copy(update=changed)))
        assert any(said in p.text for p in verify(str(folder)).problems)


def test_another_cube_s_rows_are_refused(folder: Path):
    backup = Backup(str(folder))
    entries = {e.cube_id: e for e in backup.entries()}
    swapped = entries["a"].model_copy(update={"place": entries["b"].place})
    with pytest.raises(Corrupt, match="'b'"):
        backup.table(swapped)


def test_a_part_that_fails_leaves_nothing_that_counts(tmp_path: Path):
    files = Files(str(tmp_path / "b"))
    part = PartWriter(files, 0)
    part.put(b"x" * 100)
    part.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert files.size("bundles/000000.zip") is None
    assert files.is_empty() is False  # its folder
    assert Files(str(tmp_path / "none")).is_empty()


def test_locations():
    assert relative_location("/b/1", "/b/2") == "../1"
    assert resolve_location("../1", "/b/2") == "/b/1"
    assert resolve_location("/a", "/b/2") == "/a"
    for to, base in (("s3://bucket/b/1", "s3://bucket/b/2"), ("/b/1", "/c/d/2")):
        assert resolve_location(relative_location(to, base), base) == to
    assert relative_location("s3://bucket/b/1", "s3://bucket/b/2") == "../1"
    for to, base in (
        ("s3://bucket/1", "s3://other/2"),
        ("/b/1", "s3://bucket/2"),
        ("s3://bucket/1", "/b/2"),
    ):
        assert relative_location(to, base) == to
        assert resolve_location(to, base) == to


def test_the_incarnations_of_a_restore_are_its_own():
    one, same, other = Names("restore", "b", "c"), Names("restore", "b", "c"), Names("restore", "bc")
    assert [one[i] for i in range(3)] == [same[i] for i in range(3)]
    assert len({one[0], one[1], other[0]}) == 3
    assert one[7] in same
    assert one[0] not in other
    assert "not a uuid" not in one
