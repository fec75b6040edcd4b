"""Looks at a cube's log without owning it: which versions are readable, what the newest of them lacks.

Reads only. Knows the files of a Lance dataset as far as their version numbers; not owners, and not what the
rows mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lance
import pyarrow as pa

from memos_ray.cube.storage_errors import is_storage_failure
from memos_ray.errors import Corrupt
from memos_ray.storage.files import Files

_MANIFEST = re.compile(r"^(\d+)\.manifest$")
_NEWEST_FIRST = (
    2**64 - 1
)  # Lance names manifests by this minus the version, 20 digits, so that they list newest first
_ROW_KEY = ("epoch", "seq", "op", "op_id", "memory_id", "recorded_at")


@dataclass(frozen=True, slots=True)
class Health:
    """What can be read of a log.

    `readable` is the newest version that is readable as a whole, None if there is none. `unreadable` are the
    newer ones, newest first, with the reason. `missing` are rows that newer versions hold and `readable` does
    not, as far as they can be read; `lost_rows` counts those that cannot.
    """

    path: str
    newest: int
    readable: int | None
    rows: int
    unreadable: tuple[tuple[int, str], ...] = ()
    missing: tuple[Mapping[str, Any], ...] = ()
    lost_rows: int = 0

    @property
    def sound(self) -> bool:
        """Whether the newest version is the readable one."""
        return self.readable == self.newest


def examine(path: str, storage_options: Mapping[str, str] | None = None) -> Health:
    """Tries versions from the newest down. Raises `Corrupt` if there is no version at all."""
    versions = list_versions(path)
    if not versions:
        raise Corrupt(f"there is no log at {path}: no manifest in its _versions folder", path=path)
    unreadable: list[tuple[int, str]] = []
    for version in versions:
        table, reason = _read(path, version, storage_options)
        if table is not None:
            missing, lost = _beyond(path, [v for v, _ in unreadable], table, storage_options)
            return Health(path, versions[0], version, table.num_rows, tuple(unreadable), missing, lost)
        unreadable.append((version, reason))
    return Health(path, versions[0], None, 0, tuple(unreadable))


def read_version(path: str, version: int, storage_options: Mapping[str, str] | None = None) -> pa.Table:
    """All rows of one version. Raises `Corrupt`."""
    table, reason = _read(path, version, storage_options)
    if table is None:
        raise Corrupt(f"version {version} of {path} cannot be read: {reason}", path=path)
    return table


def list_versions(path: str) -> list[int]:
    """Versions by the names of their manifests, newest first. Opens none of them."""
    listed = (info.name.rpartition("/")[2] for info in Files(path).list("_versions"))
    names = [match[1] for name in listed if (match := _MANIFEST.match(name))]
    return sorted((_NEWEST_FIRST - int(n) if len(n) == 20 else int(n) for n in names), reverse=True)


def _read(path: str, version: int, options: Mapping[str, str] | None) -> tuple[pa.Table | None, str]:
    try:
        table = lance.dataset(path, version=version, storage_options=_given(options)).to_table()
        table.validate()
    except BaseException as error:
        if not is_storage_failure(error):
            raise
        return None, " ".join(str(error).split())[:200]
    return table, ""


def _beyond(
    path: str, versions: list[int], kept: pa.Table, options: Mapping[str, str] | None
) -> tuple[tuple[Mapping[str, Any], ...], int]:
    """(rows beyond `kept` in the newest of `versions` that opens, how many more are unreadable)."""
    known = set(zip(kept["epoch"].to_pylist(), kept["seq"].to_pylist(), strict=True))
    for version in versions:
        try:
            fragments = lance.dataset(path, version=version, storage_options=_given(options)).get_fragments()
        except BaseException as error:
            if not is_storage_failure(error):
                raise
            continue  # its manifest is gone: an older one may still say what there was
        found: list[Mapping[str, Any]] = []
        lost = 0
        for fragment in fragments:
            try:
                found += fragment.to_table(columns=list(_ROW_KEY)).to_pylist()
            except BaseException as error:
                if not is_storage_failure(error):
                    raise
                lost += fragment.metadata.num_rows
        return tuple(row for row in found if (row["epoch"], row["seq"]) not in known), lost
    return (), 0


def _given(options: Mapping[str, str] | None) -> dict[str, str] | None:
    return dict(options) if options else None
