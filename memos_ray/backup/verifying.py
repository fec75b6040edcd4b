"""Reads a whole backup, as a restore would, and says everything that is wrong with it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from memos_ray.backup.layout import Bundle, Entry, Part
from memos_ray.backup.stored import Backup, checked, parsed
from memos_ray.errors import Corrupt, NotFound
from memos_ray.storage.files import Files


@dataclass(frozen=True, slots=True)
class Problem:
    """Something damaged. `cube_id` None: a file of the backup itself."""

    cube_id: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What was read, and what is wrong with it."""

    location: str
    id: str
    cubes: int
    rows: int
    bytes: int
    problems: tuple[Problem, ...]


def verify(
    location: str, *, fold: bool = True, progress: Callable[[int, int], None] | None = None
) -> Verification:
    """Checks every file, also those of older backups that this one refers to; with `fold`, makes each cube's state of
    its rows too (some 60 µs a row). Raises as `Backup` does if there is no backup to be checked."""
    return _Run(Backup(location), fold, progress or (lambda cubes, read: None)).run()


class _Run:
    def __init__(self, backup: Backup, fold: bool, progress: Callable[[int, int], None]) -> None:
        self._backup, self._fold, self._progress = backup, fold, progress
        self._problems: list[Problem] = []
        self._cubes = self._rows = self._bytes = 0

    def run(self) -> Verification:
        manifest = self._backup.manifest
        for damaged in manifest.damaged:
            self._problems.append(
                Problem(damaged.cube_id, f"was damaged when it was backed up: {damaged.error}")
            )
        for part in manifest.parts:
            try:
                index = self._backup.index(part)
            except Corrupt as error:
                self._problems.append(Problem(None, f"{error.message}; {part.cubes} cubes are in it"))
                continue
            self._part(part, index.entries)
        if not self._problems and (self._cubes, self._rows) != (manifest.cubes, manifest.rows):
            self._problems.append(
                Problem(None, f"it has {self._cubes} cubes, the manifest says {manifest.cubes}")
            )
        return Verification(
            self._backup.files.uri, manifest.id, self._cubes, self._rows, self._bytes, tuple(self._problems)
        )

    def _part(self, part: Part, entries: tuple[Entry, ...]) -> None:
        own = [entry for entry in entries if entry.place.base is None]
        if part.bundle is not None:
            self._bundle(part.bundle, own)
        elif own:
            self._problems.append(Problem(None, f"{part.index} names no bundle for {len(own)} cubes"))
        for entry in entries:
            if entry.place.base is not None:
                self._cube(entry, partial(self._backup.memcube, entry))

    def _bundle(self, bundle: Bundle, entries: list[Entry]) -> None:
        """One pass over the file: the members, and what lies between them."""
        path = self._backup.files.path(bundle.name)
        stream = _Stream(self._backup.files, bundle.name)
        for entry in sorted(entries, key=lambda e: e.place.offset):
            stream.skip(entry.place.offset - stream.at)
            data = stream.take(entry.place.bytes)
            self._cube(entry, partial(checked, data, entry, path))
        stream.skip(None)
        if stream.at == 0 and bundle.bytes:
            self._problems.append(Problem(None, f"{path} is missing"))
        elif stream.at != bundle.bytes:
            self._problems.append(Problem(None, f"{path} has {stream.at} bytes, not {bundle.bytes}"))
        elif stream.sha256.hexdigest() != bundle.sha256:
            self._problems.append(
                Problem(None, f"{path} was damaged: it does not have the SHA-256 that the manifest states")
            )

    def _cube(self, entry: Entry, read: Callable[[], bytes]) -> None:
        try:
            data = read()
            if self._fold:
                parsed(data, entry, f"{self._backup.files.uri}, cube {entry.cube_id!r}")
        except Corrupt as error:
            self._problems.append(Problem(entry.cube_id, error.message))
            return
        self._cubes += 1
        self._rows += entry.rows
        self._bytes += len(data)
        self._progress(self._cubes, self._bytes)


class _Stream:
    """A file read once, from its beginning; hashes what goes by. Nothing at all if there is none."""

    def __init__(self, files: Files, name: str) -> None:
        self.at, self.sha256 = 0, hashlib.sha256()
        self._chunks: Iterator[bytes] = files.read_chunks(name)
        self._held = memoryview(b"")  # of which pieces cost no copy of the rest

    def take(self, size: int) -> bytes:
        """The next bytes; fewer where the file ends."""
        parts = list(self._next(max(size, 0)))
        return b"".join(parts)

    def skip(self, size: int | None) -> None:
        """Goes on by that much; None: to the end."""
        for _ in self._next(size):
            pass

    def _next(self, size: int | None) -> Iterator[memoryview]:
        while size is None or size > 0:
            if not self._held:
                try:
                    self._held = memoryview(next(self._chunks, b""))
                except NotFound:
                    return
                if not self._held:
                    return
            piece = self._held if size is None else self._held[:size]
            self._held = self._held[len(piece) :]
            self.at += len(piece)
            self.sha256.update(piece)
            if size is not None:
                size -= len(piece)
            yield piece
