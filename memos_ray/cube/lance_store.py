"""The journal's table in Lance. Knows versions, files and errors of storage; nothing of owners or memories.

Every path goes through Lance, so a root may be a folder or any URI that it takes; only `durability="power"`
touches local files by itself (Lance never calls fsync; an object store's put is durable when it returns).
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import lance
import pyarrow as pa
from lance.commit import CommitConflictError
from lance.file import LanceFileSession
from lance.optimize import Compaction

from memos_ray.config import Durability
from memos_ray.cube import durable
from memos_ray.cube.creating import create_or_open
from memos_ray.cube.log_store import Hook
from memos_ray.cube.packing import STORED
from memos_ray.cube.rows import SCHEMA_VERSION, SCHEMA_VERSION_KEY
from memos_ray.cube.storage_errors import is_storage_failure, read_error, storage_failures
from memos_ray.errors import Corrupt, Moved, SchemaTooNew

Upgrade = Callable[["lance.LanceDataset"], None]
UPGRADES: Mapping[int, Upgrade] = {}
"""From a schema version to the next: changes a dataset in place; must do no harm if it is run twice."""

_READ_ATTEMPTS = 5  # a clean-up may take a version's files away while it is read; then a later one is there
_TIER = 4  # a fragment is left alone by compaction if it has more than this many times the rows after it


class LanceStore:
    """`LogStore` on one Lance dataset. `hook` is for tests; it costs nothing when it is None."""

    rewrite_span = 2  # Lance first reserves fragment ids, in a version of its own

    def __init__(
        self,
        path: str,
        *,
        durability: Durability = "process",
        storage_options: Mapping[str, str] | None = None,
        hook: Hook | None = None,
        upgrades: Mapping[int, Upgrade] = UPGRADES,
    ) -> None:
        self._path = path
        self._power = durability == "power"
        self._options = dict(storage_options) if storage_options else None
        self._hook = hook
        self._upgrades = upgrades
        self._at: lance.LanceDataset | None = None
        self._synced = durable.Synced(path)

    @property
    def path(self) -> str:
        """The dataset's folder or URI."""
        return self._path

    def open(self) -> None:
        """See `LogStore.open`. Safe against other processes that create or upgrade the same table."""
        self._at = self._found() or self._create()
        self._check_schema()

    def open_existing(self) -> bool:
        """Opens the table for reading only: makes none (then False), and upgrades none. Raises as `open`."""
        self._at = self._found()
        if self._at is None:
            return False
        if (found := _schema_version(self._at, self._path)) > SCHEMA_VERSION:
            raise _too_new(self._path, found)
        return True

    def _found(self) -> lance.LanceDataset | None:
        try:
            try:
                return self._dataset()
            except ValueError as error:
                if "was not found" not in str(error):
                    raise
                if not self._has_rows():
                    return None
                return self._dataset()  # if another process has just made it, it is there now
        except BaseException as error:
            if not is_storage_failure(error):
                raise
            raise read_error(error, self._path) from error

    def _dataset(self, version: int | None = None) -> lance.LanceDataset:
        found = lance.dataset(self._path, version=version, storage_options=self._options)
        if (
            found.version < 1
        ):  # what Lance makes of a manifest that is all zeros, as a loss of power leaves one
            raise OSError("its manifest is empty")
        return found

    def _has_rows(self) -> bool:
        """Whether there are data files: then a dataset without manifests is damaged, and not one to be made."""
        files = LanceFileSession(self._path, storage_options=self._options).list()
        return any(name.startswith("data/") for name in files)

    def _create(self) -> lance.LanceDataset:
        with storage_failures(self._path, "create the journal"):
            dataset, made = create_or_open(self._path, STORED.empty_table(), self._options)
            if made and self._power:
                self._synced.created(dataset)
            return dataset

    def _check_schema(self) -> None:
        while (found := _schema_version(self._handle(), self._path)) != SCHEMA_VERSION:
            if found > SCHEMA_VERSION:
                raise _too_new(self._path, found)
            if (upgrade := self._upgrades.get(found)) is None:
                raise Corrupt(
                    f"{self._path} has schema version {found}, which this release cannot upgrade",
                    path=self._path,
                )
            with storage_failures(self._path, "upgrade the journal's schema"):
                dataset = self._dataset()
                upgrade(dataset)
                dataset.update_schema_metadata({SCHEMA_VERSION_KEY.decode(): str(found + 1)})
                self._at = self._dataset()

    def _handle(self) -> lance.LanceDataset:
        if self._at is None:
            raise AssertionError("the store is used before open()")
        return self._at

    def _at_version(self, version: int) -> lance.LanceDataset:
        handle = self._handle()
        return handle if handle.version == version else handle.checkout_version(version)

    def latest(self) -> int:
        """See `LogStore.latest`. Lists the versions: 0.1 ms in a local folder."""
        with storage_failures(self._path, "look up the latest version"):
            return int(self._handle().latest_version)

    def read(self, columns: Sequence[str] | None = None) -> tuple[int, pa.Table]:
        """See `LogStore.read`."""
        version = self.latest()
        for _ in range(_READ_ATTEMPTS):
            try:
                handle = self._at_version(version)
                if handle.version != version:
                    raise OSError("its manifest is empty")
                table = handle.to_table(columns=list(columns) if columns else None)
                self._at = handle
                return version, table
            except BaseException as error:
                if not is_storage_failure(error):
                    raise
                later = self.latest()
                if later == version:
                    raise read_error(error, self._path, version) from error
                version = later
        raise Moved(f"{self._path} changed {_READ_ATTEMPTS} times while it was read", reason="busy")

    def append(self, base: int, rows: pa.Table) -> int:
        """See `LogStore.append`."""
        with storage_failures(self._path, "append to the journal"):
            handle = self._at_version(base)
            fragments = lance.fragment.write_fragments(rows, handle, mode="append")
            if self._hook is not None:
                self._hook("written")
            if self._power:
                self._synced.fragments(fragments)
            return self._commit(handle, lance.LanceOperation.Append(fragments))

    def remove(self, base: int, ignored: Sequence[tuple[int, int]]) -> int:
        """See `LogStore.remove`. Leaves deletion marks; the next rewrite leaves the rows out of its files."""
        rows = " OR ".join(f"(epoch = {epoch} AND seq >= {seq})" for epoch, seq in ignored)
        predicate = f"({rows}) AND op NOT IN ('claim', 'open')"
        with storage_failures(self._path, "remove rows that do not count"):
            handle = self._at_version(base)
            changed: list[Any] = []
            emptied: list[int] = []
            for fragment in handle.get_fragments():
                if not fragment.count_rows(predicate):
                    continue
                left = fragment.delete(predicate)
                if left is None:
                    emptied.append(fragment.fragment_id)
                else:
                    changed.append(left)
            if self._power:
                self._synced.fragments(changed)
            return self._commit(handle, lance.LanceOperation.Delete(changed, emptied, predicate))

    def _commit(self, handle: lance.LanceDataset, operation: Any) -> int:
        """One attempt: a second one would store the rows again behind whatever came in between."""
        try:
            landed = lance.LanceDataset.commit(
                handle,
                operation,
                read_version=handle.version,
                max_retries=0,
                commit_lock=None if self._hook is None else self._lock,
                storage_options=self._options,
            )
        except CommitConflictError as error:
            raise Moved(f"another writer committed to {self._path}: {error}", reason="conflict") from error
        if self._hook is not None:
            self._hook("landed")
        if self._power:
            self._synced.manifest(landed.version)
        self._at = landed
        return int(landed.version)

    @contextlib.contextmanager
    def _lock(self, version: int) -> Iterator[None]:
        """Lance enters this between its look-up of the latest version and its put of the manifest."""
        if self._hook is not None:
            self._hook("put")
        yield

    def pieces(self) -> int:
        """See `LogStore.pieces`: its fragments."""
        return len(self._handle().get_fragments())

    def prepare_rewrite(self, version: int) -> Any:
        """See `LogStore.prepare_rewrite`."""
        with storage_failures(self._path, "compact the journal"):
            handle = self._at_version(version)
            plan = Compaction.plan(
                handle,
                {
                    "materialize_deletions_threshold": 0.0,
                    "excluded_fragment_ids": _settled(handle),
                    "num_threads": 1,  # it runs beside the writes
                },
            )
            results = [task.execute(handle) for task in plan.tasks]
            if self._power:
                for result in results:
                    self._synced.fragments(result.new_fragments)
            return results or None

    def commit_rewrite(self, base: int, prepared: Any) -> int:
        """See `LogStore.commit_rewrite`. Lance rebases it behind other commits; the owner notices."""
        with storage_failures(self._path, "commit a compaction"):
            if self._hook is not None:
                self._hook("rewrite")
            rewritten = copy.copy(self._at_version(base))
            try:
                Compaction.commit(rewritten, prepared)
            except CommitConflictError as error:
                raise Moved(f"another writer rewrote {self._path}: {error}", reason="conflict") from error
            if self._power:
                self._synced.manifest(rewritten.version)
            self._at = rewritten
            return int(rewritten.version)

    def highest_epoch(self) -> int:
        """See `LogStore.highest_epoch`."""
        with storage_failures(self._path, "read the epochs"):
            epochs = self._handle().to_table(columns=["epoch"])["epoch"]
            return int(epochs.to_numpy().max()) if len(epochs) else 0

    def clean_up(self, version: int, keep_s: float) -> None:
        """See `LogStore.clean_up`. Syncs what `version` refers to before anything is deleted."""
        with storage_failures(self._path, "clean up old versions"):
            handle = self._at_version(version)
            self._synced.version(handle)
            # Lance takes a zero for "no limit given"; files of unknown origin are kept for seven days anyway
            older_than = timedelta(seconds=keep_s) or timedelta(microseconds=1)
            handle.cleanup_old_versions(older_than, error_if_tagged_old_versions=False)


def _settled(handle: lance.LanceDataset) -> list[int]:
    """Fragments that a compaction leaves alone: large against all that came after them, so that a row is
    rewritten some log(n) times in all and not at every compaction."""
    settled: list[int] = []
    after = 0
    for fragment in reversed(handle.get_fragments()):
        meta = fragment.metadata
        if meta.deletion_file is None and after and meta.physical_rows > _TIER * after:
            settled.append(fragment.fragment_id)
        after += meta.physical_rows
    return settled


def _too_new(path: str, found: int) -> SchemaTooNew:
    return SchemaTooNew(
        f"{path} has schema version {found}; this release reads up to {SCHEMA_VERSION}: "
        "use the release that wrote it, or a later one",
        path=path,
        found=found,
        supported=SCHEMA_VERSION,
    )


def _schema_version(dataset: lance.LanceDataset, path: str) -> int:
    raw = (dataset.schema.metadata or {}).get(SCHEMA_VERSION_KEY, b"")
    if not raw.isdigit():
        message = f"{path} is not a journal: its schema metadata has no {SCHEMA_VERSION_KEY.decode()}"
        raise Corrupt(message, path=path)
    return int(raw)
