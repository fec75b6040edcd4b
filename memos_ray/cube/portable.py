"""The `.memcube` file, version 1: one cube in one file, every row and version kept.

A ZIP archive with `manifest.json` and `journal.arrow` (Arrow IPC stream of `rows.SCHEMA`, LZ4-compressed,
sorted by seq). The manifest holds the format version, the cube's id, row counts, the size of the rows once they
are decompressed, and the SHA-256 of each other member. Knows files and tables; not where a cube lives.

A file from outside can take no more memory than a fixed multiple of its own size: what it states of sizes is
bounded by that, and what it holds by what it states, before anything is decompressed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from memos_ray.cube.arrow_sizes import decoded_bytes
from memos_ray.cube.row_checks import check_rows
from memos_ray.cube.rows import SCHEMA, SCHEMA_VERSION, SCHEMA_VERSION_KEY, Op
from memos_ray.errors import Corrupt, Invalid, SchemaTooNew

__all__ = [
    "check_rows",
    "memcube_bytes",
    "parse_memcube",
    "read_memcube",
    "without_ownership",
    "write_memcube",
]

FORMAT = "memcube"
FORMAT_VERSION = 1
_JOURNAL = "journal.arrow"
_MANIFEST = "manifest.json"


_MAX_MANIFEST_BYTES = 1 << 20
_ENCRYPTED = 0x1  # of a member's flags
_MOST_TIMES, _ANY_BYTES = (
    32,
    64 << 20,
)  # rows may take this many times the file's size, or this much, in memory


class _Manifest(BaseModel):
    """`manifest.json`. What a later release of the same version adds is ignored."""

    model_config = ConfigDict(strict=True, frozen=True)

    format: Literal["memcube"]
    version: int = Field(ge=1)
    schema_version: int = Field(ge=1)
    cube_id: str = Field(min_length=1)
    created_at: str = ""
    rows: int = Field(ge=0)
    memories: int | None = None
    decoded_bytes: int = Field(ge=0)
    sha256: dict[str, str]

    @field_validator("sha256")
    @classmethod
    def _of_the_journal(cls, value: dict[str, str]) -> dict[str, str]:
        if _JOURNAL not in value:
            raise ValueError(f"names no checksum of {_JOURNAL}")
        return value


def write_memcube(path: Path, cube_id: str, table: pa.Table) -> dict[str, Any]:
    """Returns the manifest. Writes beside the final name and renames, so that a crash leaves no half file."""
    manifest, data = memcube_bytes(cube_id, table)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise Invalid(f"{path} cannot be written: {error}", argument="path") from error
    return manifest


def memcube_bytes(cube_id: str, table: pa.Table) -> tuple[dict[str, Any], bytes]:
    """(manifest, what the file holds)."""
    data, decoded = _to_ipc(table)
    manifest = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "schema_version": SCHEMA_VERSION,
        "cube_id": cube_id,
        "created_at": datetime.now(UTC).isoformat(),
        "rows": table.num_rows,
        "memories": len(pc.unique(table["memory_id"].drop_null())),
        "decoded_bytes": decoded,
        "sha256": {_JOURNAL: hashlib.sha256(data).hexdigest()},
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1))
        archive.writestr(_JOURNAL, data)
    return manifest, file.getvalue()


def read_memcube(path: Path) -> tuple[dict[str, Any], pa.Table]:
    """(manifest, table). Raises `Invalid` if there is no such file or it is none, `Corrupt` if it was damaged or
    holds rows that no cube could be made of (see `check_rows`), `SchemaTooNew` if a newer release wrote it."""
    try:
        with path.open("rb") as file:
            return _read(file, str(path), path.stat().st_size)
    except FileNotFoundError:
        raise Invalid(f"there is no file {path}", argument="path") from None
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error}", argument="path") from error


def parse_memcube(data: bytes, name: str) -> tuple[dict[str, Any], pa.Table]:
    """`read_memcube` of what such a file holds. `name` says in errors where it came from."""
    return _read(io.BytesIO(data), name, len(data))


def _read(file: BinaryIO, name: str, size: int) -> tuple[dict[str, Any], pa.Table]:
    try:
        with zipfile.ZipFile(file) as archive:
            manifest = _manifest(name, _member(name, archive, _MANIFEST, min(size, _MAX_MANIFEST_BYTES)))
            data = _member(name, archive, _JOURNAL, size)
    except zipfile.BadZipFile as error:
        raise Corrupt(f"{name} is not a .memcube file, or was cut short: {error}", path=name) from error
    if hashlib.sha256(data).hexdigest() != manifest.sha256[_JOURNAL]:
        raise Corrupt(f"{name}: {_JOURNAL} does not have the SHA-256 that the manifest states", path=name)
    table = _from_ipc(name, data, manifest.decoded_bytes)
    if table.num_rows != manifest.rows:
        raise Corrupt(f"{name} holds {table.num_rows} rows, its manifest says {manifest.rows}", path=name)
    check_rows(table, name)
    return manifest.model_dump(), table


def without_ownership(table: pa.Table) -> pa.Table:
    """The rows as a new incarnation begins with them: no claims, epoch 0, everything else as it was."""
    mine = pc.invert(pc.is_in(table["op"], pa.array([Op.CLAIM.value, Op.OPEN.value])))
    kept = table.filter(mine)
    zeros = pa.array([0] * kept.num_rows, pa.int64())
    return kept.set_column(kept.schema.get_field_index("epoch"), "epoch", zeros).cast(SCHEMA)


def _member(path: str, archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A member as it is stored: uncompressed, so that it is no larger than the archive."""
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise Invalid(f"{path} is not a .memcube file: it has no {name}", argument="path") from None
    if info.flag_bits & _ENCRYPTED or info.compress_type != zipfile.ZIP_STORED:
        raise Invalid(
            f"{path}: {name} is compressed or encrypted, which the members of a .memcube file are not",
            argument="path",
        )
    if info.file_size > most or info.file_size != info.compress_size:
        raise Corrupt(f"{path}: {name} states a size of {info.file_size} bytes", path=path)
    return archive.read(info)


def _manifest(name: str, data: bytes) -> _Manifest:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Invalid(
            f"{name} is not a .memcube file: its manifest is no JSON: {error}", argument="path"
        ) from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise Invalid(f"{name} is not a .memcube file", argument="path")
    for key, supported in (("version", FORMAT_VERSION), ("schema_version", SCHEMA_VERSION)):
        if isinstance(found.get(key), int) and found[key] > supported:
            raise SchemaTooNew(
                f"{name} has {key} {found[key]}; this release reads up to {supported}: upgrade memos-ray",
                found=found[key],
                supported=supported,
            )
    try:
        return _Manifest.model_validate(found)
    except ValidationError as error:
        what = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
        raise Invalid(
            f"{name} has a manifest that is not one of a .memcube file: {what}", argument="path"
        ) from error


def _to_ipc(table: pa.Table) -> tuple[bytes, int]:
    """(the stream, its size once decompressed). What packs too well to be read back is left as it is."""
    data = _stream(table, pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False))
    decoded = decoded_bytes(data)
    if decoded > _most(len(data)):
        data = _stream(table, pa.ipc.IpcWriteOptions())
        decoded = decoded_bytes(data)
    return data, decoded


def _stream(table: pa.Table, options: pa.ipc.IpcWriteOptions) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _most(file_bytes: int) -> int:
    """How much memory the rows of a file of this size may take."""
    return max(_ANY_BYTES, _MOST_TIMES * file_bytes)


def _from_ipc(name: str, data: bytes, stated: int) -> pa.Table:
    if stated > _most(len(data)):
        raise Corrupt(
            f"{name} states that its {len(data)} bytes become {stated}, which is more than such a file may take",
            path=name,
        )
    try:
        found = decoded_bytes(data)
        if found != stated:
            raise Corrupt(f"{name}: its rows take {found} bytes, its manifest says {stated}", path=name)
        with pa.ipc.open_stream(data) as reader:
            table = reader.read_all()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Corrupt(f"{name}: {_JOURNAL} is not readable: {error}", path=name) from error
    if not table.schema.equals(SCHEMA, check_metadata=False):
        raise Corrupt(f"{name}: {_JOURNAL} does not have the journal's columns", path=name)
    return table.replace_schema_metadata({SCHEMA_VERSION_KEY: str(SCHEMA_VERSION).encode()})
