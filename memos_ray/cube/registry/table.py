"""One table of the registry in Lance: reading it at a version, and one compare-and-set commit on it.

The table is a log of rows; of a cube's rows the one with the highest revision counts. Its newest fragment is the
*tail*. Every commit takes the tail away and puts back its rows together with the changed ones, in one `Update`
transaction: of two commits made of the same version Lance refuses one, because both remove the same fragment. (Two
appends would both succeed: Lance sees no conflict between them.)

A full tail is left behind as a fragment of its own, sorted by id. When `_FRAGMENTS` have gathered, the commit that
finds them also merges those that are not large against what came after them, so that a row is rewritten some log(n)
times in all: a commit that merges 16,000 rows takes 35 ms instead of 6. Replaced files stay for `_KEEP`, for
readers of older versions; clean-up lists them at every `_CLEAN_EVERY`-th version, at most twice in that time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import Any

import lance
import pyarrow as pa
import pyarrow.compute as pc
from lance.commit import CommitConflictError

from memos_ray.config import Durability
from memos_ray.cube import durable
from memos_ray.cube.creating import create_or_open
from memos_ray.cube.registry import rows as layout
from memos_ray.cube.registry.records import CubeRecord
from memos_ray.cube.storage_errors import is_storage_failure, read_error, storage_failures
from memos_ray.errors import Corrupt, SchemaTooNew

_TAIL = 256  # rows in the tail, which every commit writes again
_FRAGMENTS = 8  # of which a look-up reads each
_TIER = 4  # a fragment is not merged if it has more than this many times the rows after it
_KEEP = timedelta(minutes=10)
_CLEAN_EVERY = 32
_FEW = 100  # ids looked for by a filter; for more the whole table is read


class RegistryTable:
    """One table. `session` holds Lance's caches and is shared by the tables. Threads may share it."""

    def __init__(
        self,
        path: str,
        *,
        durability: Durability = "process",
        storage_options: dict[str, str] | None = None,
        session: Any = None,
    ) -> None:
        self.path = path
        self._power = durability == "power"
        self._options = storage_options
        self._session = session
        self._synced = durable.Synced(path)
        self._handle: lance.LanceDataset | None = None
        self._tail: tuple[int, pa.Table] | None = None  # of the version that this process committed last
        self._cleaned = float("-inf")

    def latest(self, *, create: bool = False) -> lance.LanceDataset | None:
        """The newest version; None if there is no table and none is to be made.

        When nothing changed some 0.1 ms in a local folder, and a request on an object store.
        """
        try:
            if self._handle is None:
                found = lance.dataset(self.path, storage_options=self._options, session=self._session)
                self._check_schema(found)
                self._handle = found
                return found
            handle = self._handle
            version = handle.latest_version
            if version != handle.version:
                handle = self._handle = handle.checkout_version(version)
            return handle
        except BaseException as error:
            if not is_storage_failure(error):
                raise
            if self._handle is not None or "was not found" not in str(error):
                raise read_error(error, self.path) from error
        return self._create() if create else None

    def _create(self) -> lance.LanceDataset:
        with storage_failures(self.path, "create the registry"):
            made, first = create_or_open(self.path, layout.first_rows(), self._options)
            if first and self._power:
                self._synced.created(made)
            self._check_schema(made)
            self._handle = made
            return made

    def _check_schema(self, dataset: lance.LanceDataset) -> None:
        raw = (dataset.schema.metadata or {}).get(layout.SCHEMA_VERSION_KEY, b"")
        if not raw.isdigit():
            message = f"{self.path} is not a table of the registry: its schema has no version"
            raise Corrupt(message, path=self.path)
        if (found := int(raw)) > layout.SCHEMA_VERSION:
            raise SchemaTooNew(
                f"{self.path} has schema version {found}; this release reads up to {layout.SCHEMA_VERSION}: "
                "use the release that wrote it, or a later one",
                path=self.path,
                found=found,
                supported=layout.SCHEMA_VERSION,
            )

    def find(self, dataset: lance.LanceDataset, ids: Collection[str]) -> dict[str, CubeRecord]:
        """Those of the cubes that have a record at this version."""
        if len(ids) <= _FEW:
            rows = self.read(dataset, f"cube_id IN ({', '.join(map(_quote, ids))})")
        else:
            rows = self.read(dataset)
            rows = rows.filter(pc.is_in(rows["cube_id"], pa.array(list(ids), pa.string())))
        return {record.cube_id: record for record in layout.to_records(layout.folded(rows))}

    def read(
        self,
        dataset: lance.LanceDataset,
        wanted: str | None = None,
        fragments: Sequence[lance.LanceFragment] | None = None,
    ) -> pa.Table:
        """Rows of a version, unfolded: all, those that a filter takes, or those of some fragments."""
        try:
            return dataset.scanner(filter=wanted, fragments=fragments).to_table()
        except BaseException as error:
            if not is_storage_failure(error):
                raise
            raise read_error(error, self.path, dataset.version) from error

    def put(self, base: lance.LanceDataset, records: Sequence[CubeRecord]) -> lance.LanceDataset | None:
        """Commits the records on top of `base`, in one version, and returns that; None if another was made of `base`
        first.

        Raises `Unavailable` if storage fails: then the change may or may not have been made.
        """
        fragments = sorted(base.get_fragments(), key=lambda fragment: fragment.fragment_id)
        removed = _merged(fragments, len(records))
        with storage_failures(self.path, "write the registry"):
            rows = self._with(base, removed, records)
            # One row is enough of a tail, and none would leave nothing for the next two to conflict about.
            cut = len(rows) - 1 if len(rows) > _TAIL or len(removed) > 1 else 0
            settled, tail = layout.folded(rows.slice(0, cut)), rows.slice(cut)
            started = time.monotonic()
            written = [
                fragment
                for part in (settled, tail)
                if len(part)
                for fragment in lance.fragment.write_fragments(part, base, mode="append")
            ]
            if self._power:
                self._synced.fragments(written)
            operation = lance.LanceOperation.Update(
                removed_fragment_ids=[fragment.fragment_id for fragment in removed], new_fragments=written
            )
            try:
                landed = lance.LanceDataset.commit(
                    base,
                    operation,
                    read_version=base.version,
                    max_retries=0,
                    storage_options=self._options,
                )
            except OSError as error:
                if _is_conflict(error):
                    return None
                raise
            if self._power:
                self._synced.manifest(landed.version)
            # A writer that stalled for as long as versions are kept may have filled one that was cleaned up.
            if time.monotonic() - started > _KEEP.total_seconds() / 2 and not self._holds(records):
                return None
            self._handle, self._tail = landed, (landed.version, tail)
            self._clean_up(landed)
        return landed

    def _with(
        self,
        base: lance.LanceDataset,
        removed: Sequence[lance.LanceFragment],
        records: Sequence[CubeRecord],
    ) -> pa.Table:
        """The rows of the fragments that are removed that still count among them, then those of the records."""
        known = self._tail
        if len(removed) == 1 and known is not None and known[0] == base.version:
            carried = known[1]
        else:
            carried = self.read(base, fragments=removed)
        gone = pa.array(["", *(record.cube_id for record in records)], pa.string())
        carried = carried.filter(pc.invert(pc.is_in(carried["cube_id"], gone)))
        new = layout.to_rows(records)
        return pa.concat_tables([carried.cast(layout.SCHEMA), new])

    def _holds(self, records: Iterable[CubeRecord]) -> bool:
        wanted = {record.cube_id: record for record in records}
        dataset = self.latest()
        return dataset is not None and self.find(dataset, wanted) == wanted

    def _clean_up(self, dataset: lance.LanceDataset) -> None:
        now = time.monotonic()
        if dataset.version % _CLEAN_EVERY or now - self._cleaned < _KEEP.total_seconds() / 2:
            return
        self._cleaned = now
        with contextlib.suppress(OSError):  # another process is at it; a later change tries again
            self._synced.version(dataset)
            dataset.cleanup_old_versions(_KEEP)


def _merged(fragments: Sequence[lance.LanceFragment], more: int) -> list[Any]:
    """The fragments that a commit of `more` rows replaces: the tail alone, unless many have gathered."""
    taken = [fragments[-1]]
    if len(fragments) >= _FRAGMENTS:
        rows = taken[0].metadata.physical_rows + more
        for fragment in reversed(fragments[:-1]):
            size = fragment.metadata.physical_rows
            if size > _TIER * rows:
                break
            taken.append(fragment)
            rows += size
    return taken


def _is_conflict(error: OSError) -> bool:
    text = str(error)
    return isinstance(error, CommitConflictError) or "concurrent" in text or "onflict" in text


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
