"""The files of a backup, in a folder or at a URI such as s3://…: whole ones, parts of them, and streams.

Whatever is written appears under its name only when it is complete, and in a folder only when it is on disk.
Knows nothing of backups.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import pyarrow.fs as pafs

from memos_ray.cube.durable import fsync
from memos_ray.errors import Invalid, Unavailable

_CHUNK = 1 << 20
_PARTIAL = ".partial"  # of a local file that is being written


class Writer(Protocol):
    """What a stream takes."""

    def write(self, data: bytes) -> object:
        """Appends."""
        ...


def filesystem(root: str) -> tuple[pafs.FileSystem, str]:
    """(the file system of a folder or URI, the root's path in it). Raises `Invalid` for a URI that is none."""
    if "://" not in root:
        return pafs.LocalFileSystem(), str(Path(root).expanduser().resolve())
    try:
        found, path = pafs.FileSystem.from_uri(root)
    except (OSError, ValueError) as error:
        raise Invalid(f"{root!r} is neither a folder nor a URI: {error}", argument="location") from error
    return found, path.rstrip("/")


class Files:
    """The files below one root. Names are relative, with "/". Raises `Unavailable` if storage fails."""

    def __init__(self, root: str) -> None:
        self.filesystem, self._path = filesystem(root)
        self._local = isinstance(self.filesystem, pafs.LocalFileSystem)
        self.root = self._path if self._local else root.rstrip("/")

    def path(self, name: str) -> str:
        """Where a file is, for messages."""
        return f"{self.root}/{name}"

    def read(self, name: str) -> bytes | None:
        """All of a file; None if there is none."""
        with self._failures(f"read {self.path(name)}"):
            try:
                with self.filesystem.open_input_stream(self._at(name)) as stream:
                    data: bytes = stream.read()
            except FileNotFoundError:
                return None
            return data

    def read_part(self, name: str, offset: int, size: int) -> bytes | None:
        """`size` bytes from `offset` on, fewer where the file ends before; None if there is none."""
        with self._failures(f"read {self.path(name)}"):
            try:
                with self.filesystem.open_input_file(self._at(name)) as file:
                    if offset >= file.size():
                        return b""
                    file.seek(offset)
                    data: bytes = file.read(min(size, file.size() - offset))
            except FileNotFoundError:
                return None
            return data

    def chunks(self, name: str) -> Iterator[bytes]:
        """A file from its beginning, in pieces. Nothing at all if there is none."""
        with self._failures(f"read {self.path(name)}"):
            try:
                with self.filesystem.open_input_stream(self._at(name)) as stream:
                    while data := stream.read(_CHUNK):
                        yield data
            except FileNotFoundError:
                return

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is none."""
        with self._failures(f"look at {self.path(name)}"):
            info = self.filesystem.get_file_info(self._at(name))
            return int(info.size) if info.type is pafs.FileType.File else None

    def empty(self) -> bool:
        """Whether there is nothing below the root."""
        with self._failures(f"list {self.root}"):
            found = self.filesystem.get_file_info(pafs.FileSelector(self._path, allow_not_found=True))
            return all(info.base_name.endswith(_PARTIAL) for info in found)

    def write(self, name: str, data: bytes) -> None:
        """A whole file, in place of one that was there."""
        with self.stream(name) as file:
            file.write(data)

    @contextmanager
    def stream(self, name: str) -> Iterator[Writer]:
        """A file written piece by piece; it appears when the block ends without an error."""
        with self._failures(f"write {self.path(name)}"):
            if self._local:
                with _local_stream(Path(self._at(name))) as file:
                    yield file
            else:
                # An object is durable once its upload is completed. Arrow completes it after an error too, so what
                # it holds must say whether it is whole: manifests and indexes have checksums.
                with self.filesystem.open_output_stream(self._at(name)) as upload:
                    yield upload

    def _at(self, name: str) -> str:
        return posixpath.join(self._path, name)

    @contextmanager
    def _failures(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Unavailable(f"cannot {doing}: {error}", what=self.root) from error


@contextmanager
def _local_stream(path: Path) -> Iterator[BinaryIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + _PARTIAL)
    with partial.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    fsync(path.parent)


def relative_location(to: str, base: str) -> str:
    """How a backup at `base` names one at `to`: relative if both are folders, or in the same bucket; else as it is."""
    if ("://" in to) != ("://" in base):
        return to
    if "://" not in to:
        return os.path.relpath(to, base)
    (kind, _, there), (other, _, here) = to.partition("://"), base.partition("://")
    if kind != other or there.split("/")[0] != here.split("/")[0] or "?" in to or "?" in base:
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
