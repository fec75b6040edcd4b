"""A process gets ready for its first cube, and leaves nothing behind."""

import gc
import os
import tempfile
from pathlib import Path

from memos_ray.config import Settings
from memos_ray.cube.warming import warm_up


def test_nothing_is_left_and_storage_is_as_it_was(tmp_path: Path, monkeypatch, caplog):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    try:
        warm_up(Settings(data=str(tmp_path / "data")))
    finally:
        gc.unfreeze()
    assert os.listdir(scratch) == []
    assert not (tmp_path / "data").exists()
    assert caplog.records == []


def test_storage_that_is_out_of_reach_is_no_reason_not_to_start(tmp_path: Path, monkeypatch, caplog):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "is not there"))
    try:
        warm_up(Settings(data=str(tmp_path / "data")))
    finally:
        gc.unfreeze()
    assert "could not be warmed up" in caplog.text
