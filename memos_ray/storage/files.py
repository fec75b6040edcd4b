"""Files under a root, on a folder or an object store alike: written whole or not at all, read whole or in parts.

For checkpoints, backups and the like; nothing else in the project opens what lies in storage but Lance, whose business
tables are. Synchronous.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from memos_ray.errors import Invalid, MemosError, NotFound, Unavailable
from memos_ray.storage import local
from memos_ray.storage.roots import parse_root
from memos_ray.storage.stores import bucket_store

if TYPE_CHECKING:
    from obstore.store import ObjectStore
    from typing_extensions import Buffer

_CHUNK = 8 << 20
"""Bytes of a file that is read in a stream, each by a request of its own: no connection waits for who works on them."""
_UPLOAD = 8 << 20
"""Bytes held of a file that is being written to an object store: up to them it is one put, else an upload in parts."""

_BEYOND = "416 Range Not Satisfiable"  # what stores answer to who asks for bytes after the last


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file as a listing shows it; `name` is relative to the root."""

    name: str
    size_bytes: int
    modified_at: datetime


class Bytes(Protocol):
    """Where bytes go: a file of `Files.writer`."""

    def write(self, data: Buffer, /) -> int:
        """Appends; returns how many."""
        ...


class Files:
    """Files below `root`, by names relative to it ("a/b.bin"). Threads may share it.

    All methods raise `Unavailable` if the store cannot be reached or refuses, `Invalid` for a bad name.
    """

    def __init__(self, root: str, *, what: str = "data root", argument: str = "data") -> None:
        """Raises `Invalid` for a root that cannot be one: `what` and `argument` are for its message. Does no I/O."""
        self.root = parse_root(root, what=what, argument=argument)
        self._opened: ObjectStore | None = None

    @property
    def uri(self) -> str:
        """The root, as it is written: an absolute folder, or a URI."""
        return self.root.uri

    def path(self, name: str) -> str:
        """Where a file is, for messages."""
        return f"{self.root.uri}/{name}"

    def read_bytes(self, name: str) -> bytes:
        """The whole file. Raises `NotFound`."""
        return bytes(self.view(name))

    def find_bytes(self, name: str) -> bytes | None:
        """The whole file; None if there is none."""
        try:
            return self.read_bytes(name)
        except NotFound:
            return None

    def view(self, name: str) -> memoryview:
        """The whole file, read-only: a local one is mapped, of an object store it is one GET. Raises `NotFound`."""
        key = self._key(name)
        with self._failures(f"read {name}"), self._finding(name):
            if self.root.is_folder:
                return local.mapped(Path(key))
            import obstore

            return memoryview(obstore.get(self._store(), key).bytes())

    def read_part(self, name: str, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, fewer where the file ends before. One GET. Raises `NotFound`."""
        key = self._key(name)
        if offset < 0 or size < 0:
            raise Invalid(f"there are no {size} bytes from {offset} on", argument="offset")
        if not size:
            return b""
        with self._failures(f"read {name}"), self._finding(name):
            if self.root.is_folder:
                with open(key, "rb") as file:
                    file.seek(offset)
                    return file.read(size)
            import obstore

            try:
                return bytes(obstore.get_range(self._store(), key, start=offset, length=size))
            except obstore.exceptions.BaseError as error:
                if _BEYOND in str(error):
                    return b""
                raise

    def read_chunks(self, name: str) -> Iterator[bytes]:
        """A file from its beginning, in pieces of some megabytes. Raises `NotFound`."""
        offset = 0
        while piece := self.read_part(name, offset, _CHUNK):
            yield piece
            offset += len(piece)
            if len(piece) < _CHUNK:
                return

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is none."""
        key = self._key(name)
        with self._failures(f"look at {name}"):
            try:
                if self.root.is_folder:
                    return os.stat(key).st_size
                import obstore

                return int(obstore.head(self._store(), key)["size"])
            except FileNotFoundError:
                return None

    def write_bytes(self, name: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Writes the file whole: no reader ever sees half of it. On an object store it is durable then.

        With `if_absent`, False (and nothing written) if there is one: of many who try at once one succeeds, as
        far as the store keeps its word (`probe`).
        """
        import obstore

        name = _checked(name)
        with self._failures(f"write {name}"):
            if self.root.is_folder:
                os.makedirs(self.root.uri, exist_ok=True)
            mode = "create" if if_absent else "overwrite"
            whole = {"use_multipart": False} if if_absent else {}
            try:
                obstore.put(self._store(), self._in_store(name), data, mode=mode, **whole)  # type: ignore[arg-type]
            except obstore.exceptions.AlreadyExistsError:
                return False
            return True

    def write_durably(self, name: str, data: bytes) -> None:
        """`write_bytes`; in a folder it is on disk then, too."""
        with self.writer(name) as file:
            file.write(data)

    @contextmanager
    def writer(self, name: str, *, durable: bool = True) -> Iterator[Bytes]:
        """A file written piece by piece, in little memory. It takes the place of what was there when the block ends
        without an error; else it leaves what was there. `durable`: in a folder it is on disk by then, too.

        What the block itself raises passes as it is.
        """
        key = self._key(name)
        doing = f"write {name}"
        opened: AbstractContextManager[Bytes]
        with self._failures(doing):
            if self.root.is_folder:
                opened = local.replacing(Path(key), durable=durable)
            else:
                import obstore

                opened = obstore.open_writer(self._store(), key, buffer_size=_UPLOAD)
            file = opened.__enter__()
        try:
            yield _Writer(self, file, doing)
        except BaseException as error:
            with contextlib.suppress(Exception):  # an upload is given up, a local file removed
                opened.__exit__(type(error), error, error.__traceback__)
            raise
        with self._failures(doing):
            opened.__exit__(None, None, None)

    def delete(self, name: str) -> None:
        """Deletes the file, if it is there, and in a folder what writers of it that died left behind."""
        key = self._key(name)
        with self._failures(f"delete {name}"):
            try:
                if self.root.is_folder:
                    local.sweep(Path(key))
                    os.remove(key)
                else:
                    import obstore

                    obstore.delete(self._store(), key)
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise

    def list(self, folder: str = "") -> Iterator[FileInfo]:
        """All files below a folder of the root (""; all), however deep, in no order that is promised."""
        import obstore

        if self.root.is_folder and not os.path.isdir(self.root.uri):
            return
        prefix = self._in_store(_checked(folder)) if folder else self._in_store("").rstrip("/") or None
        skipped = len(self._in_store(""))
        with self._failures(f"list {folder or 'files'}"):
            for page in obstore.list(self._store(), prefix):
                for entry in page:
                    if not local.is_partial(entry["path"]):
                        yield FileInfo(entry["path"][skipped:], entry["size"], entry["last_modified"])

    def is_empty(self) -> bool:
        """Whether there is nothing below the root, not even a folder."""
        if not self.root.is_folder:
            return next(self.list(), None) is None
        with self._failures("list files"):
            return local.is_empty(Path(self.root.uri))

    def _key(self, name: str) -> str:
        """The path of a local file, or the key of an object. Raises `Invalid`."""
        name = _checked(name)
        return f"{self.root.uri}/{name}" if self.root.is_folder else self._in_store(name)

    def _in_store(self, name: str) -> str:
        """The key of a file in `_store()`: that of a folder begins at the root, that of a bucket at its top."""
        return f"{self.root.prefix}/{name}" if self.root.prefix else name

    def _store(self) -> ObjectStore:
        """Opened on first use, which for a folder needs it to be there."""
        if self._opened is None:
            if self.root.is_folder:
                from obstore.store import LocalStore

                self._opened = LocalStore(self.root.uri)
            else:
                self._opened = bucket_store(self.root)
        return self._opened

    @contextmanager
    def _finding(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise
            raise NotFound(
                f"there is no file {name!r} under {self.root.uri}", what="file", id=name
            ) from error

    @contextmanager
    def _failures(self, doing: str) -> Iterator[None]:
        """What the store raises becomes this project's errors; the store's own words, without its debug print."""
        try:
            yield
        except MemosError:
            raise
        except Exception as error:
            if not isinstance(error, (OSError, ValueError)) and not _of_a_store(error):
                raise
            text = " ".join(str(error).split("Debug source")[0].split())
            raise Unavailable(f"cannot {doing} under {self.root.uri}: {text}", what=self.root.uri) from error


class _Writer:
    """A file in the making, whose failures are this project's errors."""

    def __init__(self, files: Files, file: Bytes, doing: str) -> None:
        self._files, self._file, self._doing = files, file, doing

    def write(self, data: Buffer, /) -> int:
        """Appends; returns how many."""
        with self._files._failures(self._doing):
            return self._file.write(
                memoryview(data).cast("B")
            )  # as stores want it, whatever it is a buffer of


def _of_a_store(error: Exception) -> bool:
    """Whether obstore raised it. Does not import it: a local file is opened without."""
    exceptions = sys.modules.get("obstore.exceptions")
    return exceptions is not None and isinstance(error, exceptions.BaseError)


def _checked(name: str) -> str:
    if not name or any(part in ("", ".", "..") for part in name.split("/")) or "\\" in name or "\0" in name:
        raise Invalid(f"{name!r} is not a file's name relative to a root", argument="name")
    return name
