"""A finished backup: what it says of itself, and the rows of each cube in it, each checked as it is read."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator

import pyarrow as pa

from memos_ray.backup.layout import MANIFEST, PLAN, Base, Entry, Index, Manifest, Part, unsealed
from memos_ray.backup.locations import files_at, resolve_location
from memos_ray.cube.portable import parse_memcube
from memos_ray.errors import Corrupt, Invalid, NotFound
from memos_ray.storage.files import Files


class Backup:
    """Opens the backup at a folder or URI.

    Raises `Invalid` if there is none or it was not finished, `SchemaTooNew`, `Corrupt`, `Unavailable`.
    """

    def __init__(self, location: str) -> None:
        self.files = files_at(location)
        data = self.files.find_bytes(MANIFEST)
        if data is None:
            if self.files.find_bytes(PLAN) is not None:
                raise Invalid(
                    f"the backup at {self.files.uri} was not finished: continue it with "
                    f"`memos-ray backup {self.files.uri}`",
                    argument="location",
                )
            raise Invalid(
                f"there is no backup at {self.files.uri}: it has no {MANIFEST}", argument="location"
            )
        self.manifest = unsealed(data, Manifest, self.files.path(MANIFEST))
        self._bases: dict[int, Files] = {}

    def entries(self) -> Iterator[Entry]:
        """Every cube, by id."""
        for part in self.manifest.parts:
            yield from self.index(part).entries

    def chosen(self, cube_ids: Iterable[str] | None) -> Iterator[Entry]:
        """The entries of these cubes, by id; of all if None. Raises `NotFound` for one that is not there."""
        if cube_ids is None:
            yield from self.entries()
            return
        lasts = [part.last for part in self.manifest.parts]
        at, known = -1, {}
        for cube_id in sorted(set(cube_ids)):
            number = bisect_left(lasts, cube_id)
            if number != at and number < len(lasts):
                known = {entry.cube_id: entry for entry in self.index(self.manifest.parts[number]).entries}
                at = number
            if number == len(lasts) or cube_id not in known:
                raise NotFound(f"there is no cube {cube_id!r} in {self.files.uri}", what="cube", id=cube_id)
            yield known[cube_id]

    def index(self, part: Part) -> Index:
        """A part's index. Raises `Corrupt` if it is not the one that the manifest names."""
        path = self.files.path(part.index)
        data = self.files.find_bytes(part.index)
        if data is None:
            raise Corrupt(f"{path} is missing", path=path)
        if hashlib.sha256(data).hexdigest() != part.sha256:
            raise Corrupt(
                f"{path} was damaged: it does not have the SHA-256 that the manifest states", path=path
            )
        return unsealed(data, Index, path)

    def base(self, number: int) -> Base:
        """The older backup of that number."""
        if number >= len(self.manifest.bases):
            raise Corrupt(
                f"{self.files.uri} names an older backup that it does not know", path=self.files.uri
            )
        return self.manifest.bases[number]

    def memcube(self, entry: Entry) -> bytes:
        """A cube's .memcube file, as it was written. Raises `Corrupt`."""
        place = entry.place
        files = self.files if place.base is None else self._base_files(place.base)
        path = files.path(place.bundle)
        try:
            data = files.read_part(place.bundle, place.offset, place.bytes)
        except NotFound as error:
            whose = "" if place.base is None else f" (of the older backup {self.base(place.base).id})"
            message = f"{path}{whose} is missing; cube {entry.cube_id!r} is in it"
            raise Corrupt(message, path=path) from error
        return checked(data, entry, path)

    def table(self, entry: Entry) -> pa.Table:
        """A cube's rows (`rows.SCHEMA`). Raises `Corrupt` if they are damaged, or no cube can be made of them."""
        return parsed(self.memcube(entry), entry, f"{self.files.uri}, cube {entry.cube_id!r}")

    def _base_files(self, number: int) -> Files:
        if number not in self._bases:
            self._bases[number] = files_at(resolve_location(self.base(number).location, self.files.uri))
        return self._bases[number]


def checked(data: bytes, entry: Entry, path: str) -> bytes:
    """`data` if it is what the entry says. Raises `Corrupt`."""
    if len(data) != entry.place.bytes:
        raise Corrupt(f"{path} was cut short within cube {entry.cube_id!r}", path=path)
    if hashlib.sha256(data).hexdigest() != entry.place.sha256:
        raise Corrupt(
            f"{path} was damaged: cube {entry.cube_id!r} does not have the SHA-256 that its index states",
            path=path,
        )
    return data


def parsed(data: bytes, entry: Entry, name: str) -> pa.Table:
    """The rows of a .memcube file that are the entry's. Raises `Corrupt`."""
    manifest, table = parse_memcube(data, name)
    if manifest["cube_id"] != entry.cube_id or table.num_rows != entry.rows:
        raise Corrupt(
            f"{name}: its file is of {manifest['cube_id']!r}, with {table.num_rows} rows", path=name
        )
    return table
