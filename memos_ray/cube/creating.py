"""Creates a Lance table exactly once, however many processes try.

`lance.write_dataset(mode="create")` looks whether there is a dataset, and if there is none commits a version
that replaces everything: a process that stalls in between wipes what others wrote meanwhile. Seen with four
threads: two of them "created" the same table, as its versions 1 and 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import lance
import pyarrow as pa
from lance.commit import CommitConflictError


def create_or_open(
    path: str, first: pa.Table, options: dict[str, str] | None
) -> tuple[lance.LanceDataset, bool]:
    """The dataset at `path`, made of `first` if there is none; and whether this call made it.

    All who call it for a path must give an equal table: should two put version 1 at once, either's will do.
    """
    made = True
    try:
        lance.write_dataset(first, path, storage_options=options, commit_lock=_only_version_1)
    except OSError as error:
        text = str(error)
        if not (isinstance(error, CommitConflictError) or "already exists" in text or _TOO_LATE in text):
            raise
        made = False
    return lance.dataset(path, storage_options=options), made  # its own handle would keep the lock for ever


_TOO_LATE = "another process created this table first"


@contextmanager
def _only_version_1(version: int) -> Iterator[None]:
    """Lance enters this between its look-up and its put, with the version it is about to put."""
    if version != 1:
        raise OSError(_TOO_LATE)
    yield
