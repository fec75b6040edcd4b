"""Where backups lie, and how one names another. Names only, no I/O."""

from __future__ import annotations

import os
import posixpath

from memos_ray.storage.files import Files


def files_at(location: str) -> Files:
    """The files of the backup at a folder or s3://bucket/prefix. Raises `Invalid`."""
    return Files(location, what="place of a backup", argument="location")


def relative_location(to: str, base: str) -> str:
    """How a backup at `base` names one at `to`: relative if both are folders, or in the same bucket; else as it is."""
    if ("://" in to) != ("://" in base):
        return to
    if "://" not in to:
        return os.path.relpath(to, base)
    (kind, _, there), (other, _, here) = to.partition("://"), base.partition("://")
    if kind != other or there.split("/")[0] != here.split("/")[0]:
        return to
    return posixpath.relpath("/" + there, "/" + here)


def resolve_location(named: str, base: str) -> str:
    """The inverse of `relative_location`."""
    if "://" in named or os.path.isabs(named):
        return named
    if "://" not in base:
        return os.path.normpath(os.path.join(base, named))
    kind, _, here = base.partition("://")
    return f"{kind}:/{posixpath.normpath(posixpath.join('/' + here, named))}"
