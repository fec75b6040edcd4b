"""Commands on the system as a whole: up, down, doctor, version."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Annotated, Any

import typer
from rich.text import Text

from cluster.cli.output import new_table
from cluster.cli.session import Session, command
from memos_ray import __version__
from memos_ray._siblings import load
from memos_ray.errors import Invalid

_PANEL = "System"


def register(app: typer.Typer) -> None:
    """Adds this group's commands to the application."""
    for body in (up, down, doctor, version):
        command(app, rich_help_panel=_PANEL)(body)


def _settings(session: Session, **overrides: Any) -> Any:
    from memos_ray.memos import make_settings

    return make_settings(None, {"data": session.data, **overrides})


def up(
    session: Session,
    address: Annotated[str | None, typer.Option(help="A Ray cluster to start the system on.")] = None,
    embedder: Annotated[
        str | None,
        typer.Option(help="minilm, a path or hub id, openai:<model>, or hash.", envvar="MEMOS_RAY_EMBEDDER"),
    ] = None,
) -> None:
    """Start a system that keeps running, and say where it is."""
    system = load("cluster.launch").up(_settings(session, address=address, embedder=embedder))
    answer = {
        "data": system.settings.data,
        "namespace": system.settings.namespace,
        "embedder": system.settings.embedder,
        **load("cluster.launch").how_to_join(),
    }
    if session.as_json:
        session.emit(answer)
    else:
        session.out.print(f"[bold green]up[/bold green]  data in {answer['data']}", soft_wrap=True)
        session.out.print(f"    Ray at {answer['address']}", soft_wrap=True)
        session.note(
            "[dim]Commands and `MemOS()` on this machine join it from now on; `memos-ray down` ends it.\n"
            f"Another machine, with the same token in ~/.ray/auth_token, joins with: {answer['join']}[/dim]"
        )


def down(session: Session) -> None:
    """End the running system. What was acknowledged is in storage already."""
    ended = load("cluster.launch").down(_settings(session))
    if session.as_json:
        session.emit({"ended": ended})
    elif ended:
        session.out.print("[bold]down[/bold]")
    else:
        session.note("nothing was running")


def doctor(
    session: Session,
    cube: Annotated[str | None, typer.Option("--cube", "-c", help="Look at this cube only.")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Bring a damaged cube back to its newest readable version.")
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Look at every cube, however many there are, not at 200 of them.")
    ] = False,
) -> int:
    """Find and explain what is wrong: machine, token, storage, cluster, actors, cubes; exit 7 if something is.

    Says for each finding what to do. Needs no running system, but looks at the one there is.
    """
    examiner = load("cluster.cli.doctor")
    settings = _settings(session)
    if not repair:
        findings = list(examiner.examine_all(settings, cube_id=cube, every=every))
    elif cube is None:
        raise Invalid("--repair works on one cube: name it with --cube", argument="cube")
    else:
        findings = [examiner.repair(settings, cube)]
    if session.as_json:
        session.emit({"findings": findings})
    else:
        table = new_table()
        table.add_column("", no_wrap=True)
        table.add_column("what", no_wrap=True)
        table.add_column("finding", ratio=1)
        marks = {
            "ok": "[green]✓[/green]",
            "note": "[yellow]![/yellow]",
            "repaired": "[yellow]✓[/yellow]",
            "bad": "[bold red]✗[/bold red]",
        }
        for finding in findings:
            text = Text(finding.text)
            if finding.do:
                text.append(f"\n→ {finding.do}", style="bold")
            table.add_row(marks[finding.state], Text(finding.what), text)
        session.out.print(table)
    return 7 if any(finding.state == "bad" for finding in findings) else 0


def version(session: Session) -> None:
    """Show the versions of this program and of what it stands on."""
    packages = {name: metadata.version(name) for name in ("ray", "pylance", "pyarrow", "torch", "numpy")}
    found = {"memos-ray": __version__, "python": platform.python_version(), **packages}
    if session.as_json:
        session.emit(found)
    else:
        for name, number in found.items():
            session.out.print(f"{name:<10} {number}")
