"""Files in a folder: written beside their place and then renamed, and put on disk if asked to."""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_PARTIAL = re.compile(r"\.[0-9a-f]{32}\.part$")


def is_partial(name: str) -> bool:
    """Whether it is the name of a file that is, or was, being written."""
    return _PARTIAL.search(name) is not None


@contextmanager
def replacing(path: Path, *, durable: bool) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block ends without an error; with `durable`, on disk by then.

    Of two who write one file at once, the one who began first may fail. Raises `OSError`.
    """
    missing = [folder for folder in (path.parent, *path.parent.parents) if not folder.is_dir()]
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        with partial.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    if durable:
        for folder in (path.parent, *(made.parent for made in missing)):
            fsync(folder)


def sweep(path: Path) -> None:
    """Takes away what writers of this file that died left behind. One that still lives fails."""
    with contextlib.suppress(OSError):
        for entry in os.listdir(path.parent):
            if entry.startswith(f"{path.name}.") and is_partial(entry):
                with contextlib.suppress(OSError):
                    os.remove(path.parent / entry)


def mapped(path: Path) -> memoryview:
    """The file's bytes, read from disk when they are used. Raises `OSError`."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def is_empty(folder: Path) -> bool:
    """Whether there is nothing in it but what writers that died left. True if there is no such folder."""
    try:
        return all(is_partial(name) for name in os.listdir(folder))
    except FileNotFoundError:
        return True


def fsync(path: Path) -> None:
    """Puts a file, or the names in a folder, on disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
