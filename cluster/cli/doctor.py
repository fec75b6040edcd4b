"""What `memos-ray doctor` looks at: this machine, storage, the running system if there is one, and the cubes' logs.

Reads beside a running system. A repair writes: it is refused while a system runs here. The checks are in
`cluster.checks`; that of a cube's log is here.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from cluster import local_head
from cluster.address import LOCAL, cluster_address
from cluster.checks.finding import Finding
from cluster.checks.joining import cluster
from cluster.checks.machine import machine
from cluster.checks.storage import data_root
from memos_ray._siblings import load
from memos_ray.config import Settings
from memos_ray.cube.examination import Health, examine, read_version
from memos_ray.cube.live import survey, take_live
from memos_ray.cube.opening import write_incarnation
from memos_ray.cube.paths import journal_path
from memos_ray.cube.registry import CubeRecord, Registry
from memos_ray.errors import Corrupt, MemosError, NotFound, Unavailable
from memos_ray.ids import new_op_id
from memos_ray.storage.options import storage_options

_SAMPLE = 200  # cubes that are looked at without `--all`
_NAMED = 20  # missing rows that are listed one by one


def examine_all(settings: Settings, *, cube_id: str | None, every: bool = False) -> Iterator[Finding]:
    """Machine, data root, cluster and system, then every cube (or one; or a sample of very many, unless `every`).

    Raises `NotFound` for a cube that is not registered.
    """
    yield from machine()
    root = data_root(settings)
    yield root
    yield from _system(settings)
    if root.state == "bad" and "://" in settings.data:
        return
    try:
        yield from _cubes(settings, cube_id, every)
    except NotFound:
        raise
    except MemosError as error:
        yield Finding("bad", "registry", error.message, "restore it from a backup if it is damaged")


def _system(settings: Settings) -> Iterator[Finding]:
    """The way to the cluster, and what runs there."""
    address = cluster_address(settings)
    if address is None or address == LOCAL:
        yield Finding("ok", "system", "none runs on this machine")
        return
    if ":" in address and "://" not in address:
        joined = cluster(address, own=address == local_head.address())
        yield joined
        if joined.state == "bad":
            return
    try:
        load("cluster.launch").join(settings)
    except MemosError as error:
        yield Finding("bad", "cluster", error.message, "see the cluster's logs")
        return
    yield from load("cluster.checks.running").running_system(settings.namespace)


def _cubes(settings: Settings, cube_id: str | None, every: bool) -> Iterator[Finding]:
    """Every cube, or a sample drawn evenly (Vitter's algorithm R) if there are very many."""
    kept: list[CubeRecord] = []
    count = 0
    for record in _records(settings, cube_id):
        count += 1
        if every or len(kept) < _SAMPLE:
            kept.append(record)
        elif (at := random.randrange(count)) < _SAMPLE:
            kept[at] = record
    if len(kept) < count:
        yield Finding(
            "ok", "cubes", f"{len(kept)} of {count:,} are looked at, by chance; --all looks at each"
        )
    for record in kept:
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
        text = f"no version of {path} can be read; the newest, {version}: {reason}"
        return Finding("bad", what, text, "restore a backup of it")
    text = f"version {version} cannot be read ({reason}); version {health.readable} can, with {health.rows:,} rows"
    how = f"`memos-ray doctor --repair --cube {record.cube_id}` goes on from there"
    return Finding("bad", what, f"{text}; {missing(health)}", how)
