"""Damaged logs: which version can be read, and what it lacks. On real Lance tables."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import lance
import pytest

from memos_ray.cube.examination import examine, list_versions, read_version
from memos_ray.cube.packing import stored_table
from memos_ray.cube.rows import JournalRow, Op
from memos_ray.errors import Corrupt


def row(seq):
    return JournalRow(
        Op.ADD,
        f"op-{seq}",
        "",
        "",
        memory_id=f"m-{seq}",
        text="t",
        epoch=1,
        seq=seq,
        recorded_at=datetime.now(UTC),
    )


@pytest.fixture
def log(tmp_path):
    """Three versions of two rows each."""
    path = tmp_path / "memories.lance"
    for n in range(3):
        mode = "append" if n else "create"
        lance.write_dataset(stored_table([row(2 * n + 1), row(2 * n + 2)]), str(path), mode=mode)
    return path


def manifest(log, version):
    return log / "_versions" / f"{2**64 - 1 - version:020}.manifest"


def data_file(log, version):
    newest = lance.dataset(str(log), version=version).get_fragments()[-1]
    return log / "data" / Path(newest.data_files()[0].path).name


def test_a_sound_log(log):
    health = examine(str(log))
    assert health.sound
    assert (health.newest, health.readable, health.rows) == (3, 3, 6)
    assert health.unreadable == ()
    assert list_versions(str(log)) == [3, 2, 1]


def test_a_manifest_without_content_makes_the_version_before_it_the_newest_readable(log):
    manifest(log, 3).write_bytes(b"")
    health = examine(str(log))
    assert not health.sound
    assert (health.newest, health.readable, health.rows) == (3, 2, 4)
    assert [v for v, _ in health.unreadable] == [3]
    assert read_version(str(log), 2).num_rows == 4
    with pytest.raises(Corrupt, match="version 3"):
        read_version(str(log), 3)


def test_a_truncated_data_file_counts_the_rows_that_are_gone(log):
    file = data_file(log, 3)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    health = examine(str(log))
    assert (health.readable, health.rows, health.missing, health.lost_rows) == (2, 4, (), 2)


def test_readable_rows_of_newer_versions_are_named(log):
    file = data_file(log, 2)
    file.unlink()
    health = examine(str(log))
    assert (health.readable, health.rows, health.lost_rows) == (1, 2, 2)
    assert [r["memory_id"] for r in health.missing] == ["m-5", "m-6"]


def test_nothing_readable(log):
    for file in (log / "data").iterdir():
        file.unlink()
    health = examine(str(log))
    assert (health.readable, health.rows) == (None, 0)
    assert [v for v, _ in health.unreadable] == [3, 2, 1]


def test_no_log_at_all(tmp_path):
    with pytest.raises(Corrupt, match="no log"):
        examine(str(tmp_path / "none"))
