"""Which cubes there are, and which incarnation of each is the current one. Synchronous; on Lance.

One row per cube, in a few tables by hash of the id. Every change is a true compare-and-set: each table has a
head row that every change updates, so that of two changes made of the same version Lance refuses one. (Two
processes that insert the same new id would otherwise both succeed: Lance sees no conflict between inserts.)
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import lance
import pyarrow as pa
from lance.commit import CommitConflictError

from memos_ray.clock import SystemClock
from memos_ray.cube.creating import create_or_open
from memos_ray.cube.paths import REGISTRY_SHARDS, registry_path, registry_shard
from memos_ray.cube.storage_errors import is_storage_failure, read_error, storage_failures
from memos_ray.errors import Conflict, NotFound, Unavailable
from memos_ray.ids import check_id
from memos_ray.protocols import Clock
from memos_ray.storage.options import storage_options as options_of

State = Literal["active", "removed"]

_SCHEMA = pa.schema(
    [
        ("cube_id", pa.string()),
        ("incarnation", pa.string()),
        ("embedder", pa.string()),
        ("state", pa.string()),
        ("created_at", pa.timestamp("us", tz="UTC")),
        ("revision", pa.int64()),
        ("owner", pa.string()),
    ]
)
_HEAD = ""  # no cube has an empty id
_PATIENCE_S = 20.0  # for one change, while others keep winning
_COMPACT_AT = 24  # fragments; a change adds one
_KEEP = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class CubeRecord:
    """What the registry knows of a cube, removed or not. `revision` grows with every change."""

    cube_id: str
    incarnation: str
    embedder: str
    state: State
    created_at: datetime
    revision: int
    owner: str = ""


Records = list[CubeRecord]
Rows = list[dict[str, Any]]


class Registry:
    """The registry under `root`. Raises `Unavailable` or `Corrupt` if storage fails; threads may share it."""

    def __init__(
        self, root: str, *, clock: Clock | None = None, storage_options: Mapping[str, str] | None = None
    ) -> None:
        """`storage_options`: what Lance is told of the store; None: what the environment says."""
        self._clock = clock or SystemClock()
        options = dict(storage_options) if storage_options else options_of(root)
        self._shards = [_Shard(registry_path(root, i), options) for i in range(REGISTRY_SHARDS)]

    def lookup(self, cube_id: str) -> CubeRecord | None:
        """The cube's record, a removed cube's too; None if there never was one."""
        check_id(cube_id, "cube_id")
        return self._shard(cube_id).lookup(cube_id)

    def create_if_absent(
        self, cube_id: str, *, incarnation: str, embedder: str, owner: str = ""
    ) -> CubeRecord:
        """The active cube of that id; made with this incarnation if there is none, or if it was removed."""
        check_id(cube_id, "cube_id")

        def change(found: CubeRecord | None) -> CubeRecord | None:
            if found is not None and found.state == "active":
                return None
            revision = found.revision + 1 if found else 1
            return CubeRecord(cube_id, incarnation, embedder, "active", self._clock.now(), revision, owner)

        return self._shard(cube_id).change(cube_id, change)

    def compare_and_set(
        self,
        cube_id: str,
        expected_revision: int,
        *,
        incarnation: str | None = None,
        embedder: str | None = None,
        state: State | None = None,
        owner: str | None = None,
    ) -> CubeRecord:
        """Changes what is given if the revision is still the expected one; returns the new record.

        Raises `Conflict` (`version` is the revision found) if it is not, `NotFound` if there is no such cube.
        """
        check_id(cube_id, "cube_id")
        given = {"incarnation": incarnation, "embedder": embedder, "state": state, "owner": owner}
        changes: dict[str, Any] = {k: v for k, v in given.items() if v is not None}

        def change(found: CubeRecord | None) -> CubeRecord:
            if found is None:
                raise NotFound(f"there is no cube {cube_id!r}", what="cube", id=cube_id)
            if found.revision != expected_revision:
                message = f"cube {cube_id!r} is at revision {found.revision}, not {expected_revision}"
                raise Conflict(message, expected_version=expected_revision, version=found.revision)
            return replace(found, revision=found.revision + 1, **changes)

        return self._shard(cube_id).change(cube_id, change)

    def list(self, prefix: str = "", limit: int = 1000, after: str = "") -> Records:
        """Active cubes whose id starts with `prefix` and comes after `after`, by id, at most `limit`."""
        found = [record for shard in self._shards for record in shard.page(prefix, limit, after)]
        return sorted(found, key=lambda r: r.cube_id)[:limit]

    def _shard(self, cube_id: str) -> _Shard:
        return self._shards[registry_shard(cube_id)]


class _Shard:
    """One table of the registry."""

    def __init__(self, path: str, options: dict[str, str] | None) -> None:
        self._path = path
        self._options = options
        self._handle: lance.LanceDataset | None = None
        self._lock = threading.Lock()  # changes from one process would only defeat one another

    def lookup(self, cube_id: str) -> CubeRecord | None:
        dataset = self._latest(create=False)
        if dataset is None:
            return None
        rows = self._read(dataset, f"cube_id = {_quote(cube_id)}")
        return _record(rows[0]) if rows else None

    def page(self, prefix: str, limit: int, after: str) -> Records:
        dataset = self._latest(create=False)
        if dataset is None:
            return []
        wanted = f"state = 'active' AND cube_id > {_quote(after)}"
        if prefix:
            wanted += f" AND starts_with(cube_id, {_quote(prefix)})"
        rows = sorted(self._read(dataset, wanted), key=lambda row: str(row["cube_id"]))
        return [_record(row) for row in rows[:limit]]

    def change(self, cube_id: str, change: Callable[[CubeRecord | None], CubeRecord | None]) -> CubeRecord:
        """Applies `change` to the record as it is now (None: leave it be) and returns what then holds."""
        give_up_at = time.monotonic() + _PATIENCE_S
        while True:
            with self._lock:
                dataset = self._latest(create=True)
                assert dataset is not None
                rows = self._read(dataset, f"cube_id IN ('', {_quote(cube_id)})")
                head = next(row for row in rows if row["cube_id"] == _HEAD)
                found = next((_record(row) for row in rows if row["cube_id"] == cube_id), None)
                wanted = change(found)
                if wanted is None:
                    assert found is not None
                    return found
                if self._put(dataset, head, wanted):
                    return wanted
            if time.monotonic() > give_up_at:
                raise Unavailable(
                    f"{self._path} is being changed by too many others; try again", what=self._path
                )
            time.sleep(random.uniform(0.001, 0.03))

    def _put(self, dataset: lance.LanceDataset, head: dict[str, Any], record: CubeRecord) -> bool:
        """False if another change was made of the same version first."""
        head = {**head, "revision": head["revision"] + 1}
        rows = pa.Table.from_pylist([head, asdict(record)], schema=_SCHEMA)
        with storage_failures(self._path, "write the registry"):
            merge = dataset.merge_insert("cube_id").when_matched_update_all().when_not_matched_insert_all()
            started = time.monotonic()
            try:
                merge.conflict_retries(0).execute(rows)
            except OSError as error:
                if _is_conflict(error):
                    return False
                raise
            # A writer that stalled for as long as versions are kept may have filled one that was cleaned up.
            if (
                time.monotonic() - started > _KEEP.total_seconds() / 2
                and self.lookup(record.cube_id) != record
            ):
                return False
            self._keep_small(dataset)
            return True

    def _keep_small(self, dataset: lance.LanceDataset) -> None:
        if len(dataset.get_fragments()) >= _COMPACT_AT:
            with contextlib.suppress(OSError):  # another process is at it; whoever comes next tries again
                dataset.optimize.compact_files(num_threads=1)
                dataset.cleanup_old_versions(_KEEP)

    def _read(self, dataset: lance.LanceDataset, wanted: str) -> Rows:
        try:
            rows: Rows = dataset.to_table(filter=wanted).to_pylist()
        except BaseException as error:
            if not is_storage_failure(error):
                raise
            raise read_error(error, self._path, dataset.version) from error
        return rows

    def _latest(self, *, create: bool) -> lance.LanceDataset | None:
        """A handle of its own for each caller: a merge moves its handle on."""
        try:
            if self._handle is None:
                self._handle = lance.dataset(self._path, storage_options=self._options)  # the latest
            else:
                self._handle = self._handle.checkout_version(self._handle.latest_version)
            return self._handle.checkout_version((None, None)) if create else self._handle
        except BaseException as error:
            if not is_storage_failure(error):
                raise
            if self._handle is not None or "was not found" not in str(error):
                raise read_error(error, self._path) from error
        return self._create() if create else None

    def _create(self) -> lance.LanceDataset:
        head = {**dict.fromkeys(_SCHEMA.names, ""), "created_at": None, "revision": 0}
        rows = pa.Table.from_pylist([head], schema=_SCHEMA)
        with storage_failures(self._path, "create the registry"):
            return create_or_open(self._path, rows, self._options)[0]


def _is_conflict(error: OSError) -> bool:
    text = str(error)
    return isinstance(error, CommitConflictError) or "concurrent" in text or "onflict" in text


def _record(row: dict[str, Any]) -> CubeRecord:
    return CubeRecord(**{f.name: row[f.name] for f in fields(CubeRecord)})


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
