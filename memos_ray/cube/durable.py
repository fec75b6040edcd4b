"""Makes a local Lance dataset survive a loss of power: which of its files to fsync, and when.

Lance leaves that to the operating system. On an object store a put is durable when it returns, so everything
here does nothing there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from memos_ray.storage.local import fsync

_TOP_VERSION = 2**64 - 1


class Synced:
    """The files of one dataset that are known to be on disk."""

    def __init__(self, uri: str) -> None:
        self._root = local_path(uri)
        self._done: set[str] = set()

    def created(self, dataset: Any) -> None:
        """A new dataset: its first manifest, and every folder on the way to it."""
        if self._root is not None:
            self.version(dataset)
            for folder in (self._root, *self._root.parents):
                fsync(folder)

    def fragments(self, fragments: Iterable[Any]) -> None:
        """New data and deletion files (`FragmentMetadata`), before the commit that refers to them."""
        if self._root is not None:
            self._files(name for fragment in fragments for name in _files_of(fragment))

    def manifest(self, version: int) -> None:
        """A version that was just committed."""
        if self._root is not None:
            self._files([f"_versions/{_TOP_VERSION - version:020d}.manifest"])

    def version(self, dataset: Any) -> None:
        """Everything that this version of a dataset refers to."""
        if self._root is None:
            return
        names = [name for fragment in dataset.get_fragments() for name in _files_of(fragment.metadata)]
        self._done.intersection_update(names)  # what it refers to no longer will not be asked for again
        self._files(names)
        self.manifest(dataset.version)

    def _files(self, names: Iterable[str]) -> None:
        assert self._root is not None
        folders = set()
        for name in names:
            if name not in self._done:
                path = self._root / name
                fsync(path)
                folders.add(path.parent)
                self._done.add(name)
        for folder in folders:
            fsync(folder)


def local_path(uri: str) -> Path | None:
    """The folder that a dataset's URI names, if it is on this machine."""
    if uri.startswith("file://"):
        return Path(uri.removeprefix("file://"))
    return None if "://" in uri else Path(uri).absolute()


def _files_of(fragment: Any) -> Iterator[str]:
    for file in fragment.files:
        yield f"data/{file.path}"
    if (deletions := fragment.deletion_file) is not None:
        yield deletions.path(fragment.id)
