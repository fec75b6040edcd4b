"""The whole registry in memory, for whoever asks about many cubes: the directory, `memos-ray doctor`.

What it answers was true when it last looked at storage: changes made through its own registry are in it when they
return, those of others after `refresh`. It never gives a newer record up for an older one. So whoever decides by it
must do so by compare-and-set with the revision that it named: then an old answer costs a `Conflict`, not data. A cube
that it does not know may have been made by another process a moment ago: `create_if_absent` says so.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from operator import itemgetter

from memos_ray.arguments import check_whole
from memos_ray.cube.registry.columns import Wanted
from memos_ray.cube.registry.indexed_table import IndexedTable
from memos_ray.cube.registry.records import CubeRecord, State, check_state
from memos_ray.errors import Invalid
from memos_ray.ids import check_id
from memos_ray.placement.shards import table_of
from memos_ray.process import release_memory

_MANY = 100_000  # cubes, whose reading leaves tens of megabytes behind


class RegistryIndex:
    """Made by `Registry.index()`. Reads a table when it is first asked about it, or all in `refresh`.

    Threads may share it. Methods block while a table is read, and raise `Unavailable` or `Corrupt` if it cannot be.
    """

    def __init__(self, tables: Sequence[IndexedTable], *, threads: int) -> None:
        self._tables = tables
        self._threads = threads  # that read tables side by side

    def __len__(self) -> int:
        """Records read so far, those of removed cubes too."""
        return sum(map(len, self._tables))

    @property
    def nbytes(self) -> int:
        """Memory of what was read."""
        return sum(table.nbytes for table in self._tables)

    def refresh(self, max_age_s: float = 0.0) -> int:
        """Reads what others changed, of tables last looked at more than `max_age_s` ago; how many had changed.

        Looking at a table is 0.1 ms in a local folder and a request on an object store, for each of 64: there, give
        an age of a few seconds, or call this beside the answers and not before them.
        """
        before = len(self)
        with ThreadPoolExecutor(self._threads, thread_name_prefix="registry-index") as pool:
            changed = list(pool.map(lambda table: table.refresh(max_age_s), self._tables))
        if len(self) - before > _MANY:
            release_memory(collect=False)
        return changed.count(True)

    def note(self, record: CubeRecord) -> None:
        """Takes in what another registry, or process, says that it changed, so that no `refresh` is needed for it."""
        self._tables[table_of(record.cube_id)].note(record)

    def lookup(self, cube_id: str) -> CubeRecord | None:
        """The cube's record, a removed cube's too; None if it is not known."""
        table = self._tables[table_of(check_id(cube_id, "cube_id"))]
        if not table.loaded:
            table.refresh()
        return table.lookup(cube_id)

    def peek(self, cube_id: str) -> CubeRecord | None:
        """`lookup` that never reads storage: None also while the cube's table has not been read."""
        table = self._tables[table_of(check_id(cube_id, "cube_id"))]
        return table.lookup(cube_id) if table.loaded else None

    def page(
        self,
        prefix: str = "",
        *,
        after: str = "",
        limit: int = 1000,
        owner: str | None = None,
        granted: str | None = None,
        embedder: str | None = None,
        state: State | None = "active",
    ) -> list[CubeRecord]:
        """Cubes whose id starts with `prefix` and comes after `after`, by id (code points), at most `limit`.

        `granted` is a principal that holds a grant of any role; `state=None` takes removed cubes in. Raises `Invalid`.
        """
        wanted = _wanted(prefix, owner, granted, embedder, state)
        check_whole(limit, "limit", 1)
        start = _text(after, "after").encode()
        self._load()
        pages = (table.page(wanted, start) for table in self._tables)
        found = islice(heapq.merge(*pages, key=itemgetter(0)), limit)
        return [columns.record(what) if isinstance(what, int) else what for _, what, columns in found]

    def every(
        self, prefix: str = "", *, after: str = "", state: State | None = "active"
    ) -> Iterator[CubeRecord]:
        """All cubes beyond `after` by id, in pages: what changes meanwhile may be in it or not."""
        while found := self.page(prefix, after=after, state=state):
            yield from found
            after = found[-1].cube_id

    def count(
        self,
        prefix: str = "",
        *,
        owner: str | None = None,
        granted: str | None = None,
        embedder: str | None = None,
        state: State | None = "active",
    ) -> int:
        """How many cubes `page` would list in all."""
        wanted = _wanted(prefix, owner, granted, embedder, state)
        self._load()
        return sum(table.count(wanted) for table in self._tables)

    def _load(self) -> None:
        if not all(table.loaded for table in self._tables):
            self.refresh(float("inf"))


def _wanted(
    prefix: str, owner: str | None, granted: str | None, embedder: str | None, state: State | None
) -> Wanted:
    return Wanted(
        prefix=_text(prefix, "prefix"),
        owner=None if owner is None else _text(owner, "owner"),
        granted=None if granted is None else check_id(granted, "granted"),
        embedder=None if embedder is None else check_id(embedder, "embedder"),
        state=None if state is None else check_state(state),
    )


def _text(value: object, argument: str) -> str:
    """Empty, or what may be an id: what could not be encoded would match nothing, or fail."""
    if value == "":
        return ""
    if not isinstance(value, str):
        raise Invalid(f"{argument} must be a text, not {value!r:.100}", argument=argument)
    return check_id(value, argument)
