"""Backup and restore as `AsyncMemOS` and the command line offer them: plain arguments in, plain dicts out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from memos_ray.arguments import check_flag, check_number, check_whole
from memos_ray.backup.restoring import Adopt, Restored, restore_cubes, rewind_all, rewind_cube
from memos_ray.backup.stored import Backup
from memos_ray.backup.taking import SKEW_S, Options, take_backup
from memos_ray.backup.verifying import verify
from memos_ray.config import Settings
from memos_ray.cube.registry import Grant
from memos_ray.errors import Invalid
from memos_ray.ids import check_id
from memos_ray.ingest.timestamps import parse_utc
from memos_ray.types import to_jsonable

_LISTED = 1_000  # results that an answer holds one by one
Progress = Callable[[int, int], None]


class System(Protocol):
    """What a restore needs of a running system: `client.Connection`."""

    settings: Settings

    async def ask_directory(self, method: str, *args: Any) -> Any:
        """One call to the directory."""
        ...

    def forget(self, cube_id: str) -> None:
        """Drops the cached handle of a cube."""
        ...


def backup(
    settings: Settings,
    to: str | Path,
    cubes: Sequence[str] | None = None,
    at: Any = None,
    since: str | Path | None = None,
    *,
    workers: int = 4,
    skew_s: float = SKEW_S,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """See `AsyncMemOS.backup_to`. Blocks. Needs no running system."""
    if check_number(skew_s, "skew_s") < 0:
        raise Invalid(f"skew_s must not be negative: {skew_s}", argument="skew_s")
    manifest = take_backup(
        settings,
        str(to),
        cubes=_ids(cubes),
        at=_time(at),
        since=None if since is None else str(since),
        options=Options(workers=check_whole(workers, "workers", 1), skew_s=skew_s),
        progress=progress,
    )
    answer = manifest.model_dump(include={"id", "at", "data", "cubes", "rows", "bytes", "damaged", "bases"})
    return {"backup": Backup(str(to)).files.uri, **to_jsonable(answer)}


def verify_backup(
    backup: str | Path, *, fold: bool = True, progress: Progress | None = None
) -> dict[str, Any]:
    """See `AsyncMemOS.verify_backup`. Blocks."""
    found = verify(str(backup), fold=check_flag(fold, "fold"), progress=progress)
    answer: dict[str, Any] = to_jsonable(found)
    return {"backup": answer.pop("location"), **answer}


async def restore_backup(
    system: System,
    backup: str | Path,
    cubes: Sequence[str] | None,
    *,
    as_cube: str | None,
    at: Any,
    replace: bool,
    again: bool,
    workers: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """See `AsyncMemOS.restore_backup`."""
    restored = restore_cubes(
        system.settings,
        Backup(str(backup)),
        _adopt(system),
        cubes=_ids(cubes),
        as_cube=as_cube,
        at=_time(at),
        replace=check_flag(replace, "replace"),
        again=check_flag(again, "again"),
        workers=check_whole(workers, "workers", 1),
    )
    return await _collected(restored, progress)


async def restore_to(
    system: System,
    cube_id: str | None,
    *,
    at: Any,
    incarnation: str | None,
    as_cube: str | None,
    workers: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """See `AsyncMemOS.restore_to`."""
    moment = _time(at)
    if cube_id is not None:
        check_id(cube_id, "cube_id")
        one = await rewind_cube(
            system.settings, _adopt(system), cube_id, at=moment, incarnation=incarnation, as_cube=as_cube
        )
        return _listed(one)
    if as_cube is not None or incarnation is not None:
        raise Invalid(
            "as_cube and incarnation concern one cube: name it",
            argument="as_cube" if as_cube is not None else "incarnation",
        )
    if moment is None:
        raise Invalid("say to which time all cubes go back", argument="at")
    rewound = rewind_all(
        system.settings, _adopt(system), at=moment, workers=check_whole(workers, "workers", 1)
    )
    return await _collected(rewound, progress)


def _adopt(system: System) -> Adopt:
    async def adopt(
        cube_id: str, incarnation: str, replace: bool, owner: str, grants: tuple[Grant, ...] = ()
    ) -> object:
        system.forget(cube_id)
        return await system.ask_directory("restore_cube", cube_id, incarnation, replace, owner, grants)

    return adopt


async def _collected(results: AsyncIterator[Restored], progress: Progress | None) -> dict[str, Any]:
    """Counts by outcome, and the first results one by one."""
    counts = {"restored": 0, "unchanged": 0, "left": 0}
    listed: list[dict[str, Any]] = []
    rows = 0
    async for one in results:
        counts[one.outcome] += 1
        rows += one.rows
        if len(listed) < _LISTED:
            listed.append(_listed(one))
        if progress is not None:
            progress(sum(counts.values()), rows)
    return {**counts, "rows": rows, "results": sorted(listed, key=lambda r: str(r["cube_id"]))}


def _listed(one: Restored) -> dict[str, Any]:
    return {f.name: getattr(one, f.name) for f in fields(one)}


def _ids(cubes: Sequence[str] | None) -> list[str] | None:
    if cubes is None:
        return None
    if isinstance(cubes, str) or not cubes:
        raise Invalid(f"cubes must be a list of cube ids, or None for all, not {cubes!r}", argument="cubes")
    return [check_id(cube_id, "cubes") for cube_id in cubes]


def _time(at: Any) -> datetime | None:
    return None if at is None else parse_utc(at, "at", "at")
