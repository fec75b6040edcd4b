"""Commands that keep cubes safe: backup, verify-backup, restore, rewind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from cluster.cli.output import new_table, progress_bar, size
from cluster.cli.session import Session, command
from memos_ray._siblings import load
from memos_ray.config import Settings
from memos_ray.errors import Invalid

_PANEL = "Backups"
_DAMAGED = 7

_Cubes = Annotated[
    list[str] | None, typer.Option("--cube", "-c", help="A cube's id; may be repeated. All if not given.")
]
_Workers = Annotated[int, typer.Option(min=1, help="Cubes worked on at once; each is held in memory.")]


def register(app: typer.Typer) -> None:
    """Adds this group's commands to the application."""
    command(app, rich_help_panel=_PANEL)(backup)
    command(app, "verify-backup", rich_help_panel=_PANEL)(verify_backup)
    command(app, rich_help_panel=_PANEL)(restore)
    command(app, rich_help_panel=_PANEL)(rewind)


def backup(
    session: Session,
    to: Annotated[str, typer.Argument(help="A new folder or URI such as s3://…, or an unfinished backup.")],
    cube: _Cubes = None,
    at: Annotated[
        str | None, typer.Option(help="As of this time (ISO 8601) instead of now, by what was recorded.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="An older backup: what did not change since is read from there.")
    ] = None,
    workers: _Workers = 4,
    skew: Annotated[
        float, typer.Option(min=0, help="Seconds by which the clocks of hosts may differ.")
    ] = 0.5,
) -> int:
    """Back up cubes as of one instant, beside a running system. Repeat it to continue what was interrupted."""
    from memos_ray.backup import calls

    settings = _settings(session)
    with _progress(session, "backing up") as progress:
        answer = calls.backup(settings, to, cube, at, since, workers=workers, skew_s=skew, progress=progress)
    if session.as_json:
        session.emit(answer)
    else:
        session.out.print(
            f"{answer['cubes']:,} cubes, {answer['rows']:,} rows → {answer['backup']} ({size(answer['bytes'])}), "
            f"as of {answer['at']}",
            soft_wrap=True,
        )
        for older in answer["bases"]:
            if older["cubes"]:
                session.note(f"{older['cubes']:,} cubes did not change since {older['location']}: keep it")
        for damaged in answer["damaged"]:
            session.note(f"[bold red]not in it:[/bold red] {damaged['cube_id']}: {damaged['error']}")
    return _DAMAGED if answer["damaged"] else 0


def verify_backup(
    session: Session,
    backup: Annotated[str, typer.Argument(help="The backup's folder or URI.")],
    checksums_only: Annotated[
        bool, typer.Option("--checksums-only", help="Do not also make each cube of its rows: much faster.")
    ] = False,
) -> int:
    """Read a backup as a restore would; exit 7 if anything in it is damaged or missing."""
    from memos_ray.backup import calls

    with _progress(session, "verifying") as progress:
        answer = calls.verify_backup(backup, fold=not checksums_only, progress=progress)
    if session.as_json:
        session.emit(answer)
    else:
        for problem in answer["problems"]:
            where = f"cube {problem['cube_id']}: " if problem["cube_id"] is not None else ""
            session.out.print(f"[bold red]✗[/bold red] {where}{problem['text']}", soft_wrap=True)
        mark = "[green]✓[/green]" if not answer["problems"] else "sound in it:"
        session.out.print(
            f"{mark} {answer['cubes']:,} cubes, {answer['rows']:,} rows, {size(answer['bytes'])}"
        )
    return _DAMAGED if answer["problems"] else 0


def restore(
    session: Session,
    backup: Annotated[str, typer.Argument(help="The backup's folder or URI.")],
    cube: _Cubes = None,
    as_cube: Annotated[str | None, typer.Option("--as", help="Restore the one cube under this id.")] = None,
    at: Annotated[str | None, typer.Option(help="As of a time (ISO 8601) before the backup's own.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="In place of cubes that exist; what they were stays in storage.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Also what this restore brought back before, if written to since.")
    ] = False,
    workers: _Workers = 4,
) -> None:
    """Bring cubes back from a backup. Repeating it changes nothing."""
    with session.memos() as memory, _progress(session, "restoring") as progress:
        answer = memory.restore_backup(
            backup,
            cubes=cube,
            as_cube=as_cube,
            at=at,
            replace=replace,
            again=again,
            workers=workers,
            progress=progress,
        )
    _show(session, answer)


def rewind(
    session: Session,
    cube: Annotated[str | None, typer.Option("--cube", "-c", help="The cube's id.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every cube.")] = False,
    at: Annotated[str | None, typer.Option(help="The time to go back to (ISO 8601).")] = None,
    incarnation: Annotated[
        str | None, typer.Option(help="Go back to this earlier incarnation: undoes a rewind or a restore.")
    ] = None,
    as_cube: Annotated[
        str | None, typer.Option("--as", help="Make a new cube of it; leave the old one.")
    ] = None,
    workers: _Workers = 4,
) -> None:
    """Put a cube back to what its own journal held at a time. What it was stays in storage and is named."""
    if every == (cube is not None):
        raise Invalid("name a cube with --cube, or say --all", argument="cube")
    with session.memos() as memory, _progress(session, "going back") as progress:
        answer = memory.restore_to(
            cube, at=at, incarnation=incarnation, as_cube=as_cube, workers=workers, progress=progress
        )
    _show(session, {"results": [answer]} if cube is not None and not session.as_json else answer)


def _settings(session: Session) -> Settings:
    """The running system's; else those of the environment: a backup needs storage only."""
    from memos_ray.memos import make_settings

    settings = make_settings(None, {"data": session.data})
    if not load("cluster.launch").running(settings):
        return settings
    with session.memos(hint=False) as memory:
        return memory.asynchronous.connect().settings


def _show(session: Session, answer: Mapping[str, Any]) -> None:
    if session.as_json:
        session.emit(answer)
        return
    table = new_table()
    for name in ("cube", "outcome", "rows", "was, and can be gone back to"):
        table.add_column(name, justify="right" if name == "rows" else "left")
    for one in answer["results"]:
        table.add_row(one["cube_id"], one["outcome"], f"{one['rows']:,}", one["previous"] or "")
    session.out.print(table)
    shown, every = len(answer["results"]), sum(answer.get(k, 0) for k in ("restored", "unchanged", "left"))
    if every > shown:
        session.note(f"… and {every - shown:,} more")


@contextmanager
def _progress(session: Session, doing: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar that counts cubes; how many there will be is not known. None where nobody looks at it."""
    if not session.err.is_terminal:
        yield None
        return
    with progress_bar(session.err, transient=True) as bar:
        task = bar.add_task(doing, total=None)
        yield lambda cubes, _: bar.update(task, completed=cubes)
