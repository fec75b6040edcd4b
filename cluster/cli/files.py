"""Commands that move many memories: ingest, export, import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.output import new_table, progress_bar, size
from cluster.cli.reading import read_file
from cluster.cli.session import Agent, Cube, Session, User, command, scope
from memos_ray.ids import new_op_id, resolve_cube_id

_PANEL = "Files"


def register(app: typer.Typer) -> None:
    """Adds this group's commands to the application."""
    command(app, rich_help_panel=_PANEL)(ingest)
    command(app, "export", rich_help_panel=_PANEL)(export_cube)
    command(app, "import", rich_help_panel=_PANEL)(import_cube)


def ingest(
    session: Session,
    files: Annotated[
        list[Path],
        typer.Argument(exists=True, dir_okay=False, readable=True, help="JSON, JSONL, Markdown or text."),
    ],
    cube: Cube = None,
    user: User = None,
    agent: Agent = None,
    again: Annotated[
        bool, typer.Option("--again", help="Add even what was ingested before (deleted memories come back).")
    ] = False,
) -> None:
    """Add conversations and documents. Ingesting the same file twice changes nothing.

    JSON: a conversation {"sessions": [{"date", "turns": [{"speaker", "text"}]}]}, a list of messages,
    {"messages": […]} or {"triples": […]}. JSONL: one message a line. Everything else: one document.
    """
    target = scope(cube, user, agent)
    plan = [(path, read_file(path)) for path in files]
    counts: dict[str, dict[str, int]] = {}
    with session.memos() as memory, progress_bar(session.err) as bar:
        for path, requests in plan:
            task = bar.add_task(path.name, total=sum(r.units for r in requests))
            events = counts.setdefault(str(path), {"memories": 0})
            for request in requests:
                op_id = new_op_id() if again else request.op_id(target)
                answer = getattr(memory, request.verb)(**request.arguments, op_id=op_id, **target)
                events["memories"] += len(answer["results"])
                bar.advance(task, request.units)
    if session.as_json:
        session.emit({"files": [{"file": name, **events} for name, events in counts.items()], **target})
        return
    table = new_table()
    table.add_column("file")
    table.add_column("memories", justify="right")
    for name, events in counts.items():
        table.add_row(name, str(events["memories"]))
    session.out.print(table)


def export_cube(
    session: Session,
    file: Annotated[Path, typer.Argument(dir_okay=False, help="The .memcube file to write.")],
    cube: Cube = None,
    user: User = None,
    agent: Agent = None,
) -> None:
    """Write a cube, with every version it ever had, to one file."""
    which = scope(cube, user, agent)
    with session.memos() as memory:
        cube_id, _ = resolve_cube_id(**which)
        memory.export_cube(cube_id, str(file.resolve()))
    written = {"cube_id": cube_id, "file": str(file), "bytes": file.stat().st_size}
    if session.as_json:
        session.emit(written)
    else:
        session.out.print(f"{cube_id} → {file} ({size(file.stat().st_size)})", soft_wrap=True)


def import_cube(
    session: Session,
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="A .memcube file.")
    ],
    cube: Annotated[
        str | None, typer.Option("--cube", "-c", help="Id of the new cube; the exported one's if not given.")
    ] = None,
) -> None:
    """Make a cube from an exported file. Its checksum is verified first."""
    with session.memos() as memory:
        answer = memory.import_cube(str(file.resolve()), cube_id=cube)
    if session.as_json:
        session.emit(answer)
    else:
        session.out.print(f"{file} → {answer['cube_id']}", soft_wrap=True)
