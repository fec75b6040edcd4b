"""Creates a Lance table exactly once, however many processes try.

`lance.write_dataset(mode="create")` looks whether there is a dataset, and if there is none commits a version that
replaces everything: a process that stalls in between wipes what others wrote meanwhile. Of 30 races of four threads
on an S3 server, two or three threads "created" the same table in 27, as its versions 1, 2 and 3. A `commit_lock` that
lets only version 1 pass keeps others from being wiped, but Lance then puts the manifest without a condition: in 9 of
30 races more than one thread put version 1.

A commit that says it was built on version 0 and may not be tried again is what does it, on a folder as on an object
store: if there is a dataset by then, Lance looks for its version 0 and finds none; if there is none, version 1 is
put under the condition that it is not there. Of 30 such races one thread won each.
"""

from __future__ import annotations

import lance
import pyarrow as pa
from lance.commit import CommitLock

from memos_ray.cube.storage_errors import is_storage_failure


def create_or_open(
    path: str, first: pa.Table, options: dict[str, str] | None, *, commit_lock: CommitLock | None = None
) -> tuple[lance.LanceDataset, bool]:
    """The dataset at `path`, made of `first` if there is none; and whether this call made it.

    `commit_lock` is for tests, which stall here: Lance enters it before it puts version 1.
    """
    try:
        fragments = []
        if first.num_rows:
            fragments = lance.fragment.write_fragments(
                first, path, mode="create", schema=first.schema, storage_options=options
            )
        lance.LanceDataset.commit(
            path,
            lance.LanceOperation.Overwrite(first.schema, fragments),
            read_version=0,
            max_retries=0,
            commit_lock=commit_lock,
            storage_options=options,
        )
    except Exception as error:
        if not is_storage_failure(error):
            raise
        try:
            return lance.dataset(path, storage_options=options), False
        except Exception:
            raise error from None  # there is none: why it could not be made says more
    return lance.dataset(path, storage_options=options), True
