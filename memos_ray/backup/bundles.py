"""Writes the parts of a backup: many cubes to one file, so that a million small cubes are not a million files.

A bundle is an uncompressed ZIP archive, so that any program can take a .memcube file out of it; the index says
at which byte each begins, so that one cube is read without the others.
"""

from __future__ import annotations

import hashlib
import zipfile
from contextlib import ExitStack, suppress
from typing import Literal

from memos_ray.backup.layout import (
    Bundle,
    Damaged,
    Entry,
    Index,
    Part,
    Place,
    bundle_name,
    index_name,
    sealed,
)
from memos_ray.errors import MemosError
from memos_ray.storage.files import Bytes, Files

_OLDEST = (1980, 1, 1, 0, 0, 0)  # the time of all members: they have their own in their manifests


class _Hashing:
    """Counts and hashes what goes through. Cannot be rewound, and says so to zipfile by having no `tell`."""

    def __init__(self, to: Bytes) -> None:
        self._to = to
        self.bytes, self.sha256 = 0, hashlib.sha256()

    def write(self, data: bytes, /) -> int:
        self._to.write(data)
        self.bytes += len(data)
        self.sha256.update(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Whoever opened the stream closes it."""


class PartWriter:
    """One part in the making: give it cubes by id, then `finish` it. Leaves nothing that counts if it is not."""

    def __init__(self, files: Files, number: int) -> None:
        self.bytes = 0
        self.entries: list[Entry] = []
        self.damaged: list[Damaged] = []
        self._files, self._number = files, number
        self._open = ExitStack()
        self._out: _Hashing | None = None
        self._archive: zipfile.ZipFile | None = None

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, *error: object) -> Literal[False]:
        if self._archive is not None:
            with suppress(OSError, MemosError):  # of a part that is given up
                self._archive.close()
        self._open.__exit__(*error)  # type: ignore[arg-type]
        return False

    def put(self, data: bytes) -> Place:
        """Stores a .memcube file."""
        if self._archive is None:
            self._out = _Hashing(self._open.enter_context(self._files.writer(bundle_name(self._number))))
            self._archive = zipfile.ZipFile(self._out, "w", zipfile.ZIP_STORED)
        assert self._out is not None
        member = zipfile.ZipInfo(f"{len(self.entries):06d}.memcube", _OLDEST)
        member.file_size = len(data)
        with self._archive.open(member, "w") as file:
            offset = self._out.bytes
            file.write(data)
        self.bytes += len(data)
        sha256 = hashlib.sha256(data).hexdigest()
        return Place(bundle=bundle_name(self._number), offset=offset, bytes=len(data), sha256=sha256)

    def finish(self) -> Part:
        """Completes the bundle, then the index that names it."""
        bundle = None
        if self._archive is not None and self._out is not None:
            self._archive.close()
            self._open.close()
            bundle = Bundle(
                name=bundle_name(self._number), bytes=self._out.bytes, sha256=self._out.sha256.hexdigest()
            )
        index = Index(bundle=bundle, entries=tuple(self.entries), damaged=tuple(self.damaged))
        data = sealed(index)
        self._files.write_durably(index_name(self._number), data)
        return part_of(index, self._number, data)


def part_of(index: Index, number: int, data: bytes) -> Part:
    """A stored index as the manifest names it."""
    return Part(
        index=index_name(number),
        sha256=hashlib.sha256(data).hexdigest(),
        bundle=index.bundle,
        cubes=len(index.entries),
        first=index.entries[0].cube_id,
        last=index.entries[-1].cube_id,
    )
