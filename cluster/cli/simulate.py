"""`memos-ray simulate`: an hour of a system that is not there, by its own decisions."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from cluster.cli.output import new_table, size
from cluster.cli.session import Session, command

if TYPE_CHECKING:
    from memos_ray.placement.outcome import Outcome
    from memos_ray.placement.simulation import Plan

_LOAD, _MACHINES, _EVENTS = "Load", "Machines and settings", "What happens"


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    command(app, rich_help_panel="System")(simulate)


def simulate(
    session: Session,
    cubes: Annotated[int, typer.Option(help="Registered cubes.", rich_help_panel=_LOAD)] = 1_000_000,
    sessions_per_s: Annotated[
        float, typer.Option(help="Sessions that begin a second.", rich_help_panel=_LOAD)
    ] = 20.0,
    calls: Annotated[float, typer.Option(help="Of a session, in the mean.", rich_help_panel=_LOAD)] = 12.0,
    gap_s: Annotated[
        float, typer.Option(help="Between two calls of a session, in the mean.", rich_help_panel=_LOAD)
    ] = 20.0,
    skew: Annotated[
        float, typer.Option(help="Zipf's exponent of who comes how often.", rich_help_panel=_LOAD)
    ] = 0.8,
    items: Annotated[
        int, typer.Option(help="Memories of a cube, the median.", rich_help_panel=_LOAD)
    ] = 1_000,
    hours: Annotated[float, typer.Option(min=0.001, help="Simulated time.", rich_help_panel=_LOAD)] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed, the same run.", rich_help_panel=_LOAD)] = 0,
    nodes: Annotated[int, typer.Option(min=1, rich_help_panel=_MACHINES)] = 8,
    node_memory: Annotated[float, typer.Option(help="Of a node, in GB.", rich_help_panel=_MACHINES)] = 64.0,
    node_cpus: Annotated[float, typer.Option(help="Cores of a node.", rich_help_panel=_MACHINES)] = 16.0,
    cubes_per_actor: Annotated[
        int, typer.Option(min=1, help="Cubes that share a process.", rich_help_panel=_MACHINES)
    ] = 100,
    idle_s: Annotated[float, typer.Option(help="As the setting.", rich_help_panel=_MACHINES)] = 900.0,
    tick_s: Annotated[float, typer.Option(min=0.05, help="As the setting.", rich_help_panel=_MACHINES)] = 1.0,
    changes_per_tick: Annotated[
        int, typer.Option(min=1, help="As the setting.", rich_help_panel=_MACHINES)
    ] = 64,
    warm: Annotated[int, typer.Option(min=0, help="warm_actors.", rich_help_panel=_MACHINES)] = 1,
    warm_max: Annotated[int, typer.Option(min=0, help="warm_actors_max.", rich_help_panel=_MACHINES)] = 32,
    fail_at_s: Annotated[
        float | None, typer.Option(help="A node fails then.", rich_help_panel=_EVENTS)
    ] = None,
    add_at_s: Annotated[
        float | None, typer.Option(help="A node comes then.", rich_help_panel=_EVENTS)
    ] = None,
    drain_at_s: Annotated[
        float | None,
        typer.Option(
            help="From then on one node after another is drained, as for an upgrade.", rich_help_panel=_EVENTS
        ),
    ] = None,
    drain_each_s: Annotated[
        float, typer.Option(min=1, help="For so long each.", rich_help_panel=_EVENTS)
    ] = 120.0,
    constants: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="As for `memos-ray plan`.", rich_help_panel=_MACHINES),
    ] = None,
    svg: Annotated[Path | None, typer.Option(dir_okay=False, help="Draw the run into this file.")] = None,
) -> None:
    """Simulate placement, passivation and rebalance under seeded traffic; the decisions are the directory's own.

    What takes time is drawn from the measured constants (`memos-ray plan --show-constants`). An hour of the defaults
    takes about a minute.
    """
    from memos_ray.placement import constants as table
    from memos_ray.placement.policy import Policy
    from memos_ray.placement.simulation import Cluster, Simulation
    from memos_ray.placement.traffic import Traffic

    overrides = table.read_overrides(constants) if constants is not None else {}
    costs = table.costs(overrides)
    policy = Policy(
        cubes_per_actor=cubes_per_actor,
        warm_min=warm,
        warm_max=max(warm, warm_max),
        idle_s=idle_s,
        changes=changes_per_tick,
    )
    simulation = Simulation(
        Cluster(nodes=nodes, cpus=node_cpus, memory_bytes=node_memory * 1e9, tick_s=tick_s),
        policy,
        Traffic(cubes, sessions_per_s, calls, gap_s, skew=skew, items=items),
        costs,
        seed=seed,
        plans=_plans(nodes, fail_at_s, add_at_s, drain_at_s, drain_each_s),
    )
    began = time.process_time()
    working = session.err.status("simulating …") if session.err.is_terminal else None
    if working is not None:
        working.start()
    try:
        outcome = simulation.run(hours * 3600)
    finally:
        if working is not None:
            working.stop()
    taken = time.process_time() - began
    if svg is not None:
        svg.write_text(draw(outcome), encoding="utf-8")
    if session.as_json:
        session.emit({**asdict(outcome), "samples": len(outcome.samples), "cpu_s": round(taken, 1)})
    else:
        show(session, outcome, taken)


def _plans(
    nodes: int, fail_at: float | None, add_at: float | None, drain_at: float | None, drain_each: float
) -> list[Plan]:
    from memos_ray.placement.simulation import Plan

    plans = []
    if fail_at is not None:
        plans.append(Plan(fail_at, "fail", f"node-{nodes - 1}"))
    if add_at is not None:
        plans.append(Plan(add_at, "add", f"node-{nodes}"))
    if drain_at is not None:
        for i in range(nodes):
            begins = drain_at + i * drain_each
            plans.append(Plan(begins, "drain", f"node-{i}"))
            plans.append(Plan(begins + drain_each, "undrain", f"node-{i}"))
    return plans


def show(session: Session, outcome: Outcome, taken_s: float) -> None:
    """The outcome as a table."""
    table = new_table(f"{outcome.seconds / 3600:.3g} h simulated in {taken_s:.3g} s of one core")
    table.add_column("figure", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("note", style="dim")
    for row in rows(outcome):
        table.add_row(row[0], row[1], Text(row[2]))
    session.out.print(table)


def rows(o: Outcome) -> list[tuple[str, str, str]]:
    """(figure, value, note)."""
    hits = o.hits / o.calls if o.calls else 0.0
    warm = o.from_warm / o.activations if o.activations else 0.0
    found = [
        ("calls", f"{o.calls:,}", f"{o.calls / o.seconds:,.0f} /s"),
        ("of an active cube", f"{hits:.2%}", "no wait, and nothing asked of the directory"),
        (
            "activations",
            f"{o.activations:,}",
            f"{o.activations / o.seconds:.1f} /s, {warm:.2%} on a host that was up",
        ),
        ("wait for an activation, p50", _ms(o.waits.p50), "as its callers see it"),
        ("wait for an activation, p99", _ms(o.waits.p99), f"longest {_ms(o.waits.longest)}"),
        ("active cubes", f"{o.active_mean:,.0f}", f"at most {o.active_max:,}, in the second half"),
        ("hosts", f"{o.hosts_mean:,.0f}", f"at most {o.hosts_max:,}"),
        ("memory of hosts", size(o.bytes_mean), f"at most {size(o.bytes_max)}"),
        ("passivations", f"{sum(o.passivations.values()):,}", _by(o.passivations, o.seconds)),
        ("moves", f"{sum(o.moves.values()):,}", _by(o.moves, o.seconds)),
        ("pause of a move, p50", _ms(o.move_pauses.p50), f"p99 {_ms(o.move_pauses.p99)}"),
        (
            "asked of the directory",
            f"{o.directory_asks / o.seconds:.1f} /s",
            f"its core is {o.directory_busy:.1%} busy",
        ),
        ("told to come back later", f"{o.refused:,}", "no room, or too many hosts starting"),
        ("calls that failed", f"{o.failed:,}", "nobody served them within their time"),
    ]
    for i, failure in enumerate(o.failures):
        note = f"{failure.cubes:,} cubes were on it; the longest wait of a call"
        found.append((f"node failure {i + 1}", _ms(failure.longest_wait_s), note))
    if o.drains_s:
        note = f"{len(o.drains_s)} nodes, the longest"
        found.append(("emptying a node that drains", _ms(max(o.drains_s)), note))
    return found


def draw(outcome: Outcome, points: int = 240) -> str:
    """An SVG document of four panels over time."""
    from memos_ray.bench.svg import Line, Panel, chart

    step = max(1, len(outcome.samples) // points)
    groups = [outcome.samples[i : i + step] for i in range(0, len(outcome.samples), step)]
    hours = outcome.seconds / 3600

    def line(name: str, of: str, scale: float = 1.0) -> Line:
        mean = [sum(getattr(s, of) for s in g) / len(g) / scale for g in groups]
        return Line(name, [(g[0].at_s / 60, value) for g, value in zip(groups, mean, strict=True)])

    def panel(title: str, unit: str, *lines: Line) -> Panel:
        ticks = [round(hours * 60 * i / 6) for i in range(7)]
        return Panel(title, "minutes", unit, lines, ticks, log_x=False, markers=False)

    panels = [
        panel("active cubes", "cubes", line("active", "active")),
        panel("host processes", "processes", line("hosts", "hosts")),
        panel("memory of hosts", "GB", line("memory", "bytes_used", 1e9)),
        panel(
            "changes",
            "a second",
            line("activations", "activations"),
            line("passivations", "passivations"),
            line("moves", "moves"),
        ),
    ]
    return chart("A simulated run", panels)


def _ms(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def _by(counts: dict[str, int], seconds: float) -> str:
    each = ", ".join(f"{why} {n:,}" for why, n in sorted(counts.items(), key=lambda x: -x[1]))
    return f"{sum(counts.values()) / seconds:.2f} /s" + (f": {each}" if each else "")
