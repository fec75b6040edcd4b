"""Checks of the data root: is it there, can it be written, is there room."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

from cluster.checks.finding import Finding
from memos_ray.config import Settings
from memos_ray.errors import MemosError
from memos_ray.ids import new_op_id
from memos_ray.storage.probe import probe

_LITTLE_BYTES = 100e6  # with less free space than this, writes are about to fail
_PROBE_BYTES = 1 << 20


def data_root(settings: Settings) -> Finding:
    """The root that all storage is under."""
    return object_store(settings) if "://" in settings.data else local_root(Path(settings.data))


def local_root(root: Path) -> Finding:
    """A folder: something is written there and taken away again."""
    existing = next(p for p in (root, *root.parents) if p.exists())
    if not existing.is_dir():
        return Finding(
            "bad", "data", f"{existing} is not a folder", "name another root with --data or MEMOS_RAY_DATA"
        )
    try:
        free = shutil.disk_usage(existing).free
        _write_probe(existing)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        text = f"{existing} cannot be written: {error.strerror}"
        how = (
            "make room: snapshots and deleted cubes take space until they are cleaned up; or use a larger disk"
            if full
            else f"let the user {os.getuid()} write there, or name another root with --data or MEMOS_RAY_DATA"
        )
        return Finding("bad", "data", text, how)
    text = f"{root}, {free / 1e9:.1f} GB free" + ("" if root.exists() else ", not there yet")
    if free < _LITTLE_BYTES:
        return Finding("bad", "data", f"{text}: writes are about to fail", "make room, or use a larger disk")
    return Finding("ok", "data", text)


def _write_probe(folder: Path) -> None:
    path = folder / f".memos-ray-doctor-{new_op_id()}"
    try:
        with path.open("xb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def object_store(settings: Settings) -> Finding:
    """An object store, by what a start asks of it: to write, to read, and to refuse to put what is there already."""
    try:
        passed = probe(settings.data)
    except MemosError as error:
        how = "check the address, the network, and the credentials in the environment (AWS_ACCESS_KEY_ID …)"
        return Finding("bad", "data", error.message, how)
    return Finding(
        "ok", "data", f"{settings.data}, honours conditional puts (asked in {passed.seconds:.1f} s)"
    )
