"""Small files under a root, on a folder or an object store alike: whole files, written at once or not at all.

For checkpoints, backups and the like. Synchronous. Tables are Lance's business.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from memos_ray.errors import Invalid, MemosError, NotFound, Unavailable
from memos_ray.storage.options import client_settings
from memos_ray.storage.roots import parse_root

if TYPE_CHECKING:
    from obstore.store import ObjectStore


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file as a listing shows it; `name` is relative to the root."""

    name: str
    size_bytes: int
    modified_at: datetime


class Files:
    """Files below `root`, by names relative to it ("a/b.bin"). Threads may share it.

    All methods raise `Unavailable` if the store cannot be reached or refuses, `Invalid` for a bad name.
    """

    def __init__(self, root: str) -> None:
        """Raises `Invalid` for a root, or an environment, that cannot work. Does no I/O."""
        self.root = parse_root(root)
        self._opened: ObjectStore | None = None

    def read_bytes(self, name: str) -> bytes:
        """The whole file. Raises `NotFound`."""
        import obstore

        if self._absent():
            raise NotFound(f"there is no file {name!r} under {self.root.uri}", what="file", id=name)
        with self._failures(f"read {name}"):
            try:
                return bytes(obstore.get(self._store(), _checked(name)).bytes())
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                raise NotFound(
                    f"there is no file {name!r} under {self.root.uri}", what="file", id=name
                ) from error

    def write_bytes(self, name: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Writes the file whole: no reader ever sees half of it. On an object store it is durable then.

        With `if_absent`, False (and nothing written) if there is one: of many who try at once one succeeds, as
        far as the store keeps its word (`probe`).
        """
        import obstore

        with self._failures(f"write {name}"):
            if self.root.is_folder:
                os.makedirs(self.root.uri, exist_ok=True)
            mode = "create" if if_absent else "overwrite"
            whole = {"use_multipart": False} if if_absent else {}
            try:
                obstore.put(self._store(), _checked(name), data, mode=mode, **whole)  # type: ignore[arg-type]
            except obstore.exceptions.AlreadyExistsError:
                return False
            return True

    def delete(self, name: str) -> None:
        """Deletes the file, if it is there."""
        import obstore

        if self._absent():
            return
        with self._failures(f"delete {name}"):
            try:
                obstore.delete(self._store(), _checked(name))
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise

    def list(self, folder: str = "") -> Iterator[FileInfo]:
        """All files below a folder of the root (""; all), however deep, in no order that is promised."""
        import obstore

        if self._absent():
            return
        prefix = _checked(folder) if folder else None
        with self._failures(f"list {folder or 'files'}"):
            for page in obstore.list(self._store(), prefix):
                for entry in page:
                    yield FileInfo(entry["path"], entry["size"], entry["last_modified"])

    def _absent(self) -> bool:
        return self.root.is_folder and not os.path.isdir(self.root.uri)

    def _store(self) -> ObjectStore:
        """Opened on first use, which for a folder needs it to be there."""
        if self._opened is None:
            from obstore.store import LocalStore, S3Store, from_url

            if self.root.is_folder:
                self._opened = LocalStore(self.root.uri)
            elif self.root.scheme == "s3":
                prefix = self.root.prefix or None
                self._opened = S3Store(self.root.bucket, prefix=prefix, **client_settings(self.root))
            else:
                self._opened = from_url(self.root.uri, **client_settings(self.root))
        return self._opened

    @contextmanager
    def _failures(self, doing: str) -> Iterator[None]:
        """What the store raises becomes this project's errors; the store's own words, without its debug print."""
        from obstore.exceptions import BaseError

        try:
            yield
        except MemosError:
            raise
        except (BaseError, OSError, ValueError) as error:
            text = " ".join(str(error).split("Debug source")[0].split())
            raise Unavailable(f"cannot {doing} under {self.root.uri}: {text}", what=self.root.uri) from error


def _checked(name: str) -> str:
    if not name or any(part in ("", ".", "..") for part in name.split("/")) or "\\" in name or "\0" in name:
        raise Invalid(f"{name!r} is not a file's name relative to a root", argument="name")
    return name
