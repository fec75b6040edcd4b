"""`memos-ray plan`: what a system of so many cubes needs, and what it depends on most."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from cluster.cli.output import new_table, size
from cluster.cli.session import Session, command

if TYPE_CHECKING:
    from memos_ray.placement.plan import SystemPlan

_LOAD, _MACHINES, _PRICES = "Load", "Machines and settings", "Prices"
_SHOWN = 6  # savings


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    command(app, rich_help_panel="System")(plan)


def plan(
    session: Session,
    cubes: Annotated[
        int, typer.Option(help="Registered cubes: users, agents, bases.", rich_help_panel=_LOAD)
    ] = 1_000_000,
    active: Annotated[
        int | None,
        typer.Option(help="Active at the same time; default: 2 % of the cubes.", rich_help_panel=_LOAD),
    ] = None,
    items: Annotated[
        int, typer.Option(help="Memories of a cube, in the mean.", rich_help_panel=_LOAD)
    ] = 1_000,
    qps: Annotated[
        float | None,
        typer.Option(
            help="Searches a second; default: 1 a minute of each active cube.", rich_help_panel=_LOAD
        ),
    ] = None,
    adds_per_s: Annotated[
        float | None,
        typer.Option(help="Memories added a second; default: as many as searches.", rich_help_panel=_LOAD),
    ] = None,
    session_s: Annotated[
        float, typer.Option(help="How long a cube is in use when it is.", rich_help_panel=_LOAD)
    ] = 240.0,
    root: Annotated[str, typer.Option(help="s3 or folder.", rich_help_panel=_MACHINES)] = "s3",
    node_memory: Annotated[float, typer.Option(help="Of a node, in GB.", rich_help_panel=_MACHINES)] = 64.0,
    node_cpus: Annotated[float, typer.Option(help="Cores of a node.", rich_help_panel=_MACHINES)] = 16.0,
    cubes_per_actor: Annotated[
        int, typer.Option(help="Cubes that share a process.", rich_help_panel=_MACHINES)
    ] = 100,
    idle_s: Annotated[
        float,
        typer.Option(help="After so long without a call a cube is passivated.", rich_help_panel=_MACHINES),
    ] = 900.0,
    tick_s: Annotated[
        float, typer.Option(help="How often the directory looks at hosts.", rich_help_panel=_MACHINES)
    ] = 1.0,
    embedder_turns_per_s: Annotated[
        float | None,
        typer.Option(help="Texts that one core (or its GPU) embeds a second.", rich_help_panel=_MACHINES),
    ] = None,
    constants: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="JSON with other constants, by name, or a report of `bench core --json`.",
            rich_help_panel=_MACHINES,
        ),
    ] = None,
    show_constants: Annotated[
        bool, typer.Option("--show-constants", help="List all constants with their sources, and stop.")
    ] = False,
    node_price: Annotated[float, typer.Option(help="Of a node, an hour.", rich_help_panel=_PRICES)] = 0.5,
    put_price: Annotated[
        float, typer.Option(help="Of 1,000 writes or listings.", rich_help_panel=_PRICES)
    ] = 0.005,
    get_price: Annotated[float, typer.Option(help="Of 1,000 reads.", rich_help_panel=_PRICES)] = 0.0004,
    storage_price: Annotated[float, typer.Option(help="Of a GB and month.", rich_help_panel=_PRICES)] = 0.023,
) -> None:
    """Compute nodes, memory, storage, requests and cost from measured constants, and name the bottleneck.

    Prices are round numbers to compute with, nobody's offer: give your own.
    """
    from memos_ray.placement import constants as table
    from memos_ray.placement.plan import Demand
    from memos_ray.placement.plan import plan as make_plan

    overrides = table.read_overrides(constants) if constants is not None else {}
    if embedder_turns_per_s is not None:
        overrides["embed_texts_per_core_s"] = embedder_turns_per_s
    if show_constants:
        return _constants(session, overrides)
    active = active if active is not None else max(1, cubes // 50)
    qps = qps if qps is not None else active / 60
    made = make_plan(
        Demand(
            cubes=cubes,
            active=active,
            items=items,
            qps=qps,
            adds_per_s=adds_per_s if adds_per_s is not None else qps,
            root=root,
            cubes_per_actor=cubes_per_actor,
            session_s=session_s,
            idle_s=idle_s,
            tick_s=tick_s,
            node_memory=node_memory * 1e9,
            node_cpus=node_cpus,
            node_price=node_price,
            put_price=put_price,
            get_price=get_price,
            storage_price=storage_price,
        ),
        overrides,
    )
    if session.as_json:
        session.emit({**asdict(made), "cost": made.cost, "constants": table.values(overrides)})
    else:
        show(session, made)
    return None


def show(session: Session, made: SystemPlan) -> None:
    """The plan as tables."""
    d = made.demand
    packed = f"{d.cubes_per_actor} in a process" if d.cubes_per_actor > 1 else "each in a process of its own"
    session.out.print(
        f"[bold]{d.cubes:,} cubes[/bold] of {d.items:,} memories, {d.active:,} active, {packed}; "
        f"{_number(d.qps)} searches/s, {_number(d.adds_per_s)} adds/s\n"
        f"nodes of {_number(d.node_cpus)} cores and {size(d.node_memory)}, storage on {d.root}",
        soft_wrap=True,
    )
    needs = new_table("what asks for nodes")
    for name in ("resource", "amount", "nodes if alone", "follows from"):
        needs.add_column(name, justify="right" if name in ("amount", "nodes if alone") else "left")
    for need in made.needs:
        amount = size(need.amount) if need.unit == "B" else f"{_number(need.amount)} {need.unit}"
        style = "bold" if need.resource == made.bottleneck else ""
        needs.add_row(
            Text(need.resource, style=style),
            amount,
            _number(need.nodes),
            Text(", ".join(need.by), style="dim"),
        )
    session.out.print(needs)
    bounds = new_table("what one cluster, or prefix, can do")
    for name in ("bound", "asked for", "at most", "needed", "from"):
        bounds.add_column(name, justify="right" if name in ("asked for", "at most", "needed") else "left")
    for bound in made.bounds:
        bounds.add_row(
            bound.what,
            f"{_number(bound.amount)} {bound.unit}",
            _number(bound.most),
            str(bound.needed),
            Text(bound.source, style="dim"),
        )
    session.out.print(bounds)
    _answer(session, made)
    savings = new_table("bottleneck: what a constant twice as good would save, a month")
    for name in ("constant", "nodes", "cost", "share"):
        savings.add_column(name, justify="left" if name == "constant" else "right")
    for saving in made.savings[:_SHOWN]:
        savings.add_row(
            saving.constant, f"{saving.nodes:,}", f"{saving.cost:,.0f}", f"{saving.cost / made.cost:.0%}"
        )
    if made.savings:
        session.out.print(savings)
    session.out.print(f"[bold]bottlenecks[/bold]  {bottlenecks(made)}", soft_wrap=True)


def bottlenecks(made: SystemPlan) -> str:
    """One line: what nodes, clusters and cost follow from."""
    first = next(need for need in made.needs if need.resource == made.bottleneck)
    parts = [f"nodes: {first.resource} ({first.by[0]})"]
    if made.cells > 1:
        bound = made.cells_by
        parts.append(f"clusters: {bound.what}" + (f" ({bound.by})" if bound.by else ""))
    if made.savings:
        parts.append(f"cost: {made.savings[0].constant}")
    return "; ".join(parts)


def _answer(session: Session, made: SystemPlan) -> None:
    table = new_table("the system", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim")
    cells = f"in {made.cells:,} cluster{'s' if made.cells > 1 else ''}, a head each where there are several"
    rows = [
        ("nodes", f"{made.nodes:,}", cells),
        ("host processes", f"{made.hosts:,}", f"{made.warm:,} of them blank, for activations"),
        ("activations", f"{_number(made.activations_per_s)} /s", "active cubes / (session + idle time)"),
        ("directory", f"{_number(made.directory_busy)} cores", "one core in each cluster can do it"),
        ("setting changes_per_tick", f"{made.changes_per_tick:,}", "in each cluster: passivations keep up"),
        ("storage", size(made.storage_bytes), f"{_number(made.files)} files or objects"),
        (
            "registry",
            size(made.registry_bytes),
            f"{_number(made.registry_rows_per_table)} rows in each table of a cluster's",
        ),
        (
            "requests",
            f"{_number(made.puts_per_s)} + {_number(made.gets_per_s)} /s",
            "writes and listings + reads of the store",
        ),
        (
            "an add takes",
            f"{1000 * made.commit_s:.0f} ms",
            "at least: the commit; calls that wait meanwhile share the next one",
        ),
        (
            "registrations",
            f"{_number(made.registrations_per_s)} /s",
            "at most, one by one: a compare-and-set in each table of the registry",
        ),
        ("cost, nodes", f"{made.node_cost:,.0f}", "a month"),
        ("cost, requests", f"{made.request_cost:,.0f}", ""),
        ("cost, storage", f"{made.storage_cost:,.0f}", ""),
        ("cost", f"{made.cost:,.0f}", "at the prices given"),
    ]
    for row in rows:
        table.add_row(*row)
    session.out.print(table)


def _constants(session: Session, overrides: dict[str, float]) -> None:
    from memos_ray.placement.constants import CONSTANTS, values

    known = values(overrides)
    if session.as_json:
        session.emit(
            {n: {"value": known[n], "unit": c.unit, "source": c.source} for n, c in CONSTANTS.items()}
        )
        return
    table = new_table()
    for name in ("constant", "value", "unit", "measured, or from"):
        table.add_column(name, justify="right" if name == "value" else "left", no_wrap=name == "constant")
    for name, constant in CONSTANTS.items():
        source = "given with --constants" if name in overrides else constant.source
        table.add_row(name, f"{known[name]:,.10g}", constant.unit, Text(source, style="dim"))
    session.out.print(table)


def _number(value: float) -> str:
    if value == 0 or value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
