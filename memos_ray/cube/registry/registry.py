"""The registry itself: which cubes there are, and which incarnation of each is the current one. Synchronous.

Finds the table of a cube and says what each change means; `table.py` reads and commits, `group.py` puts together what
comes in at once.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import lance

from memos_ray.clock import SystemClock
from memos_ray.config import Durability
from memos_ray.cube.paths import registry_path
from memos_ray.cube.registry.group import Change, GroupCommit, Outcome
from memos_ray.cube.registry.index import RegistryIndex
from memos_ray.cube.registry.indexed_table import IndexedTable
from memos_ray.cube.registry.records import (
    CubeRecord,
    Grant,
    NewCube,
    State,
    check_grants,
    check_incarnation,
    check_new,
    check_owner,
    check_state,
)
from memos_ray.cube.registry.table import RegistryTable
from memos_ray.errors import Conflict, NotFound
from memos_ray.ids import check_id
from memos_ray.placement.shards import TABLES, table_of
from memos_ray.protocols import Clock
from memos_ray.storage.options import storage_options as options_of

_THREADS = 8  # of a bulk registration; on an object store they mostly wait
_CACHE_BYTES = 32 * 1024 * 1024  # of Lance, for the metadata of all tables


class Registry:
    """The registry under `root`. Raises `Unavailable` or `Corrupt` if storage fails; threads may share it.

    Every change is in storage when the call returns, and is a true compare-and-set against every process.
    """

    def __init__(
        self,
        root: str,
        *,
        clock: Clock | None = None,
        storage_options: Mapping[str, str] | None = None,
        durability: Durability = "process",
    ) -> None:
        self._clock = clock or SystemClock()
        options = dict(storage_options) if storage_options else options_of(root)
        self._index: RegistryIndex | None = None
        self._index_threads = 16 if "://" in root else 2  # there they wait; here each leaves memory behind
        session = lance.Session(  # type: ignore[attr-defined]
            metadata_cache_size_bytes=_CACHE_BYTES, index_cache_size_bytes=0
        )
        self.tables = [
            RegistryTable(
                registry_path(root, i), durability=durability, storage_options=options, session=session
            )
            for i in range(TABLES)
        ]
        self._groups = [GroupCommit(table) for table in self.tables]

    def index(self) -> RegistryIndex:
        """This registry's index, the same at every call. It is told of every change that is made here."""
        with _sharing:
            if self._index is None:
                tables = [IndexedTable(table) for table in self.tables]
                for group, table in zip(self._groups, tables, strict=True):
                    group.index = table
                self._index = RegistryIndex(tables, threads=self._index_threads)
            return self._index

    def lookup(self, cube_id: str) -> CubeRecord | None:
        """The cube's record as it is in storage now, a removed cube's too; None if there never was one."""
        check_id(cube_id, "cube_id")
        table = self.tables[table_of(cube_id)]
        dataset = table.latest()
        return None if dataset is None else table.find(dataset, [cube_id]).get(cube_id)

    def create_if_absent(
        self,
        cube_id: str,
        *,
        incarnation: str,
        embedder: str,
        owner: str = "",
        grants: tuple[Grant, ...] = (),
    ) -> CubeRecord:
        """The active cube of that id; made with these values if there is none, or if it was removed."""
        cube = check_new(NewCube(cube_id, incarnation, embedder, owner, grants))
        return self._change(Change(cube_id, partial(self._create, cube)))

    def create_many(self, cubes: Iterable[NewCube]) -> list[CubeRecord]:
        """`create_if_absent` of each, in their order, with one commit for all that fall into a table.

        All are checked before any is registered. If storage fails under one table, those of others may have been
        registered: the same call may be repeated, with the same incarnations or with new ones. Holds all of
        them in memory: give a million in calls of some 100,000.
        """
        wanted = [check_new(cube) for cube in cubes]
        by_table: dict[int, list[int]] = defaultdict(list)
        for position, cube in enumerate(wanted):
            by_table[table_of(cube.cube_id)].append(position)

        def register(table: int) -> list[Outcome]:
            mine = (wanted[position] for position in by_table[table])
            return self._groups[table].submit([Change(c.cube_id, partial(self._create, c)) for c in mine])

        made: dict[int, Outcome] = {}
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="registry") as pool:
            for table, outcomes in zip(by_table, pool.map(register, by_table), strict=True):
                made.update(zip(by_table[table], outcomes, strict=True))
        return [_or_raise(made[position]) for position in range(len(wanted))]

    def compare_and_set(
        self,
        cube_id: str,
        expected_revision: int,
        *,
        incarnation: str | None = None,
        embedder: str | None = None,
        state: State | None = None,
        owner: str | None = None,
        grants: tuple[Grant, ...] | None = None,
    ) -> CubeRecord:
        """Changes what is given if the revision is still the expected one; returns the new record.

        Raises `Conflict` (`version` is the revision found) if it is not, `NotFound` if there is no such cube.
        """
        check_id(cube_id, "cube_id")
        changes: dict[str, Any] = {}
        if incarnation is not None:
            changes["incarnation"] = check_incarnation(incarnation)
        if embedder is not None:
            changes["embedder"] = check_id(embedder, "embedder")
        if state is not None:
            changes["state"] = check_state(state)
        if owner is not None:
            changes["owner"] = check_owner(owner)
        if grants is not None:
            changes["grants"] = check_grants(grants)

        def change(found: CubeRecord | None) -> CubeRecord:
            if found is None:
                raise NotFound(f"there is no cube {cube_id!r}", what="cube", id=cube_id)
            if found.revision != expected_revision:
                message = f"cube {cube_id!r} is at revision {found.revision}, not {expected_revision}"
                raise Conflict(message, expected_version=expected_revision, version=found.revision)
            return replace(found, revision=found.revision + 1, **changes)

        return self._change(Change(cube_id, change))

    def _create(self, cube: NewCube, found: CubeRecord | None) -> CubeRecord:
        if found is not None and found.state == "active":
            return found
        return CubeRecord(
            cube_id=cube.cube_id,
            incarnation=cube.incarnation,
            embedder=cube.embedder,
            state="active",
            created_at=self._clock.now(),
            revision=found.revision + 1 if found else 1,
            owner=cube.owner,
            grants=cube.grants,
        )

    def _change(self, change: Change) -> CubeRecord:
        (outcome,) = self._groups[table_of(change.cube_id)].submit([change])
        return _or_raise(outcome)


def _or_raise(outcome: Outcome) -> CubeRecord:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


_shared: dict[tuple[Any, ...], Registry] = {}
_sharing = threading.Lock()


def shared_registry(
    root: str,
    *,
    storage_options: Mapping[str, str] | None = None,
    durability: Durability = "process",
) -> Registry:
    """This process's registry of that root, with its tables open: a look-up then opens nothing."""
    key = (root.rstrip("/"), durability, *sorted((storage_options or {}).items()))
    with _sharing:
        if key not in _shared:
            _shared[key] = Registry(root, storage_options=storage_options, durability=durability)
        return _shared[key]
