"""`memos-ray cubes`: what is registered."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.text import Text

from cluster.cli.output import new_table, when
from cluster.cli.session import Session, command

_PANEL = "System"


def register(app: typer.Typer) -> None:
    """Adds this command to the application."""
    command(app, rich_help_panel=_PANEL)(cubes)


def cubes(
    session: Session,
    prefix: Annotated[str, typer.Option(help="Ids that start with this.")] = "",
    owner: Annotated[str | None, typer.Option(help="Cubes of this owner.")] = None,
    embedder: Annotated[str | None, typer.Option(help="Cubes whose vectors this embedder makes.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    after: Annotated[str, typer.Option(help="The last id of the page before.")] = "",
) -> None:
    """List registered cubes by id, in pages."""
    with session.memos() as memory:
        found = memory.cubes(prefix, limit=limit, after=after, owner=owner, embedder=embedder)
    if session.as_json:
        session.emit(found)
        return
    table = new_table()
    for name in ("cube", "owner", "created", "embedder", "state", "grants"):
        table.add_column(name, overflow="fold")
    for cube in found:
        table.add_row(
            Text(cube["cube_id"]),
            Text(cube["owner"]),
            when(cube["created_at"], minutes=True),
            Text(cube["embedder"]),
            cube["state"],
            Text(_granted(cube["grants"])),
        )
    session.out.print(table)
    if len(found) == limit:
        session.note(f"[dim]There may be more: --after {escape(found[-1]['cube_id'])}[/dim]")


def _granted(grants: list[dict[str, Any]]) -> str:
    return ", ".join(f"{grant['principal']} ({grant['role']})" for grant in grants)
