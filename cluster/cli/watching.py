"""`memos-ray status`: what runs, as tables; once, or again and again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from cluster.cli.output import new_table, size
from cluster.cli.session import Session, command
from memos_ray._siblings import load

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_PANEL = "System"
_HOSTS = 30  # shown, the largest first; `--json` has all


def register(app: typer.Typer) -> None:
    """Adds this group's commands to the application."""
    command(app, rich_help_panel=_PANEL)(status)


def status(
    session: Session,
    watch: Annotated[
        float | None,
        typer.Option(
            "--watch", "-w", min=0.2, help="Show it again every so many seconds, until interrupted."
        ),
    ] = None,
    cubes: Annotated[int, typer.Option(min=0, help="So many of the busiest and largest cubes.")] = 10,
) -> None:
    """Show the running system: nodes, processes, cubes, rates, memory."""
    from memos_ray.memos import make_settings

    if not load("cluster.launch").running(make_settings(None, {"data": session.data})):
        if session.as_json:
            session.emit({"running": False})
        else:
            session.note("nothing is running; `memos-ray up` starts a system")
        raise typer.Exit(5)
    with session.memos(hint=False) as memory:
        if session.as_json or watch is None:
            answer = {"running": True, **memory.status(cubes=cubes)}
            if session.as_json:
                session.emit(answer)
            else:
                session.out.print(view(answer))
            return
        from rich.live import Live

        with Live(view(memory.status(cubes=cubes)), console=session.out, auto_refresh=False) as live:
            while True:
                time.sleep(watch)
                live.update(view(memory.status(cubes=cubes)), refresh=True)


def view(answer: Mapping[str, Any]) -> Group:
    """All of it, one table below the other."""
    from rich.console import Group

    parts: list[Any] = [_about(answer), nodes_table(answer["nodes"]), hosts_table(answer["hosts"])]
    if answer["busiest"]:
        parts.append(cubes_table(answer["busiest"]))
    parts += [f"[yellow]given up: {escape(why)}[/yellow]" for why in answer["directory"]["given_up"]]
    return Group(*parts)


def _about(answer: Mapping[str, Any]) -> Table:
    directory, embedding = answer["directory"], answer["embedding"]
    table = new_table(show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("data", escape(f"{answer['data']}, namespace {answer['namespace']}"))
    restarts = f", {directory['restarts']} restarts" if directory["restarts"] else ""
    table.add_row("directory", f"up {duration(directory['uptime_s'])}{restarts}; logs in {directory['logs']}")
    table.add_row(
        "cubes",
        f"{directory['registered']:,} registered, {answer['active_cubes']:,} active; "
        f"{directory['calls_per_s']:.1f} calls, "
        f"{directory['activations_per_s']:.1f} activations, {directory['passivations_per_s']:.1f} passivations, "
        f"{directory['moves_per_s']:.1f} moves a second",
    )
    table.add_row(
        "pool", f"{directory['blank']} blank, {directory['starting']} starting, {directory['wanted']} wanted"
    )
    if embedding is None:
        load = "[bold red]does not answer[/bold red]"
    elif not embedding["loaded"]:
        load = "no model loaded yet"
    else:
        load = f"{embedding['waiting']:,} texts waiting, {embedding['texts_per_s']:.1f} texts a second"
    table.add_row("embedder", f"{answer['embedder']}: {load}")
    return table


def nodes_table(nodes: list[Mapping[str, Any]]) -> Table:
    """A line for each node."""
    table = new_table()
    table.add_column("node", no_wrap=True)
    for name in ("memory", "of", "cores busy", "of", "processes", "cubes"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for node in sorted(nodes, key=lambda n: str(n["node_id"])):
        marks = [name for name in ("draining", "suspect") if node[name]]
        table.add_row(
            node["node_id"][:12],
            size(node["used_bytes"]),
            size(node["limit_bytes"]),
            f"{node['busy']:.2f}",
            f"{node['cpus']:g}",
            str(node["hosts"]),
            f"{node['cubes']:,}",
            f"[yellow]{', '.join(marks)}[/yellow]",
        )
    return table


def hosts_table(hosts: list[Mapping[str, Any]]) -> Table:
    """A line for each process that holds cubes or may, the largest first."""
    table = new_table()
    table.add_column("process", justify="right", no_wrap=True)
    table.add_column("node", no_wrap=True)
    table.add_column("cubes", overflow="ellipsis", no_wrap=True)
    for name in ("memory", "waiting", "late"):
        table.add_column(name, justify="right", no_wrap=True)
    ordered = sorted(hosts, key=lambda h: (-len(h["cubes"]), -h["uss_bytes"], h["pid"]))
    for host in ordered[:_HOSTS]:
        held = [cube["cube_id"] for cube in host["cubes"]]
        names = ", ".join(held[:3]) + (f" and {len(held) - 3:,} more" if len(held) > 3 else "")
        late = f"{1e3 * host['lag_s']:.0f} ms" if host["lag_s"] >= 0.01 else ""
        table.add_row(
            str(host["pid"]),
            host["node_id"][:12],
            escape(names) or "[dim]blank, ready for the next one[/dim]",
            size(host["uss_bytes"]),
            str(host["waiting"] or ""),
            late,
        )
    if len(ordered) > _HOSTS:
        table.caption = f"and {len(ordered) - _HOSTS} more processes"
    return table


def cubes_table(cubes: list[Mapping[str, Any]]) -> Table:
    """A line for each of the busiest cubes."""
    table = new_table()
    table.add_column("cube", overflow="ellipsis", no_wrap=True)
    table.add_column("node", no_wrap=True)
    for name in ("items", "core", "memory", "idle"):
        table.add_column(name, justify="right", no_wrap=True)
    for cube in cubes:
        table.add_row(
            escape(cube["cube_id"]),
            cube["node_id"][:12],
            f"{cube['items']:,}",
            f"{cube['busy']:.0%}",
            size(cube["memory_bytes"]),
            duration(cube["idle_s"]),
        )
    return table


def duration(seconds: float) -> str:
    """Seconds for people: "12 s", "3 min", "5 h", "9 d"."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
