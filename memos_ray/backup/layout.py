"""What lies in a backup, version 1, and how its parts say of themselves that they are whole.

    backup.json            what is to be backed up, as of when: written first; an interrupted backup goes on from it
    index/000000.json      the cubes of a part, by id, and where the rows of each are
    bundles/000000.zip     these rows: a ZIP archive of .memcube files, none of them compressed
    manifest.json          all parts with their checksums: written last; without it there is no backup

A part without rows of its own has no bundle: an incremental backup refers to the bundles of older ones.
Pure: knows JSON and checksums, no files.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from memos_ray.errors import Corrupt, Invalid, SchemaTooNew

FORMAT = "memos-ray-backup"
FORMAT_VERSION = 1
PLAN, MANIFEST = "backup.json", "manifest.json"
_SEAL = "sha256"


class _Model(BaseModel):
    """What a later release of the same version adds is ignored."""

    model_config = ConfigDict(frozen=True)


class Base(_Model):
    """An older backup that this one builds on. `location`: relative to this one's root, if it is."""

    id: str
    location: str
    cubes: int = 0  # how many cubes have their rows there


class Plan(_Model):
    """`backup.json`. `cubes` None: all. `at`: rows recorded up to then are in."""

    format: str = FORMAT
    version: int = FORMAT_VERSION
    id: str
    at: datetime
    data: str
    cubes: tuple[str, ...] | None = None
    bases: tuple[Base, ...] = ()


class Place(_Model):
    """Where the rows of a cube are: bytes of a bundle, which are a .memcube file. `base`: in which older backup."""

    base: int | None = None
    bundle: str
    offset: int = Field(ge=0)
    bytes: int = Field(ge=0)
    sha256: str


class Entry(_Model):
    """One cube. `record` is its row in the registry.

    `version` is the journal's that was read, `key` stands for which rows were taken (`reading.key_of`), `last` says
    that there were no others: then an unchanged version means unchanged rows.
    """

    cube_id: str
    record: dict[str, Any]
    version: int
    rows: int = Field(ge=0)
    key: str
    last: bool
    place: Place

    @property
    def incarnation(self) -> str:
        """The incarnation that was read."""
        return str(self.record["incarnation"])


class Damaged(_Model):
    """A cube whose storage could not be read: it is not in the backup."""

    cube_id: str
    error: str


class Bundle(_Model):
    """A bundle and its checksum."""

    name: str
    bytes: int
    sha256: str


class Index(_Model):
    """`index/…json`. `bundle` None: all rows are in older backups."""

    bundle: Bundle | None
    entries: tuple[Entry, ...]
    damaged: tuple[Damaged, ...] = ()


class Part(_Model):
    """An index as the manifest knows it: cubes from `first` to `last`."""

    index: str
    sha256: str
    bundle: Bundle | None
    cubes: int
    first: str
    last: str


class Manifest(_Model):
    """`manifest.json`."""

    format: str = FORMAT
    version: int = FORMAT_VERSION
    id: str
    at: datetime
    finished_at: datetime
    data: str
    all_cubes: bool
    bases: tuple[Base, ...]
    parts: tuple[Part, ...]
    cubes: int
    rows: int
    bytes: int  # in bundles of its own
    damaged: tuple[Damaged, ...] = ()


def index_name(number: int) -> str:
    """The index of a part."""
    return f"index/{number:06d}.json"


def bundle_name(number: int) -> str:
    """The bundle of a part."""
    return f"bundles/{number:06d}.zip"


def sealed(model: _Model) -> bytes:
    """JSON that says by its own checksum whether it is whole."""
    value = model.model_dump(mode="json")
    return json.dumps({**value, _SEAL: _digest(value)}, ensure_ascii=False, indent=1).encode()


M = TypeVar("M", bound=_Model)


def unsealed(data: bytes, kind: type[M], path: str) -> M:
    """The inverse of `sealed`. Raises `Invalid` if it is no file of a backup, `SchemaTooNew`, or `Corrupt`."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"{path} was damaged or cut short: it is no JSON: {error}", path=path) from error
    if not isinstance(value, dict):
        raise Invalid(f"{path} is not a file of a backup", argument="location")
    if "format" in kind.model_fields:
        _check_format(value, path)
    stated = value.pop(_SEAL, None)
    if stated != _digest(value):
        raise Corrupt(f"{path} was damaged: it does not have the SHA-256 that it states", path=path)
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        what = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
        raise Corrupt(f"{path} does not say what it should: {what}", path=path) from error


def _check_format(value: dict[str, Any], path: str) -> None:
    if value.get("format") != FORMAT:
        raise Invalid(f"{path} is not a file of a backup by memos-ray", argument="location")
    version = value.get("version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise SchemaTooNew(
            f"{path} has version {version}; this release reads up to {FORMAT_VERSION}: upgrade memos-ray",
            found=version,
            supported=FORMAT_VERSION,
        )


def _digest(value: dict[str, Any]) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
