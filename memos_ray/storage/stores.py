"""Opened clients of object stores, one for each bucket and environment in a process.

A client costs some tens of milliseconds, and its connections are worth keeping; an activation has time for neither.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from memos_ray.storage.options import client_settings
from memos_ray.storage.roots import Root

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_KEPT = 8
_NAMES = ("AWS_", "GOOGLE_", "AZURE_")
_opened: dict[object, ObjectStore] = {}
_opening = threading.Lock()


def bucket_store(where: Root) -> ObjectStore:
    """The whole bucket of `where`, which is no folder; keys begin with its prefix. Does no I/O beyond AWS's own files.

    What the environment says counts as of this call: after a change of it, another client is opened.
    Raises `Invalid` as `client_settings` does.
    """
    settings = client_settings(where)
    environment = tuple(sorted(item for item in os.environ.items() if item[0].startswith(_NAMES)))
    key = (where.scheme, where.bucket, repr(settings), environment)
    with _opening:
        if key not in _opened:
            from obstore.store import S3Store, from_url

            while len(_opened) >= _KEPT:
                del _opened[next(iter(_opened))]
            if where.scheme == "s3":
                _opened[key] = S3Store(where.bucket, **settings)
            else:
                _opened[key] = from_url(f"{where.scheme}://{where.bucket}", **settings)
        return _opened[key]
