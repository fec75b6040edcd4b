"""What a journal needs of its storage: an append-only table with numbered versions. Synchronous.

`LanceStore` is the real one; `testing.memory_store.MemoryStore` keeps its versions in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import pyarrow as pa

Hook = Callable[[str], None]
"""For tests that stop, kill or fail a process at a named point: called with "claimed", "folded", "written",
"put" (between look-up and put of a manifest), "landed" or "rewrite"."""


class LogStore(Protocol):
    """One table of journal rows. Versions are numbered from 1 and never change.

    One thread at a time may call it; only `prepare_rewrite` and `clean_up` may run beside another call. All
    methods raise `Unavailable` if storage cannot be reached or written.
    """

    rewrite_span: int
    """How many versions `commit_rewrite` takes if nobody else commits: a compaction of Lance takes two."""

    @property
    def path(self) -> str:
        """Where it is, for messages."""
        ...

    def open(self) -> None:
        """Makes an empty table if there is none, and brings an older schema up to date.

        Raises `SchemaTooNew`, and `Corrupt` if the newest version cannot be opened.
        """
        ...

    def latest(self) -> int:
        """The latest version in storage, looked up now."""
        ...

    def read(self, columns: Sequence[str] | None = None) -> tuple[int, pa.Table]:
        """The latest version and its rows, in the order in which they were committed. Raises `Corrupt`."""
        ...

    def append(self, base: int, rows: pa.Table) -> int:
        """Commits `rows`, built on version `base`; the version at which they landed, maybe a later one.

        Raises `Moved` if another writer took the version that was to be written.
        """
        ...

    def remove(self, base: int, ignored: Sequence[tuple[int, int]]) -> int:
        """Commits the removal of the rows of each (epoch, from seq on), claims and opens excepted."""
        ...

    def pieces(self) -> int:
        """How many parts the version read or committed last consists of; more than a few are slow to read."""
        ...

    def prepare_rewrite(self, version: int) -> Any:
        """Compacts `version` into larger files that no version refers to yet; None if there is no need."""
        ...

    def commit_rewrite(self, base: int, prepared: Any) -> int:
        """Commits what `prepare_rewrite` made; the version at which it landed. Raises as `append`."""
        ...

    def highest_epoch(self) -> int:
        """The highest epoch in the version that this store committed last."""
        ...

    def clean_up(self, version: int, keep_s: float) -> None:
        """Deletes versions before `version` and older than `keep_s` seconds, and what only they refer to."""
        ...
