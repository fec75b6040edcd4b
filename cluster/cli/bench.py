"""`memos-ray bench …`: runs a benchmark, prints its table, and exits 1 if a correctness figure is missed."""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from cluster.cli.output import new_table, progress_bar
from cluster.cli.session import Session, command
from memos_ray._siblings import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memos_ray.bench.report import Report
    from memos_ray.sync import MemOS

MaxSeconds = Annotated[float, typer.Option(min=1, help="Stop measuring after this many seconds.")]
Step = Callable[[str, int, int], None]


def register(app: typer.Typer) -> None:
    """Adds this group's commands to the application."""
    group = typer.Typer(
        no_args_is_help=True, help="Measure speed and retrieval; figures are printed, correctness decides."
    )
    command(group, to_file=True)(core)
    command(group, to_file=True)(locomo)
    app.add_typer(group, name="bench", rich_help_panel="System")


def core(
    session: Session,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            file_okay=False,
            help="Make the measured cubes in this folder (default: a temporary one).",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Up to 10k items and fewer repetitions: under a minute.")
    ] = False,
    max_seconds: MaxSeconds = 900.0,
) -> int:
    """Search, adds, activation and embedding, on a system of its own in a temporary folder."""
    from memos_ray.bench.report import Deadline, Report

    report = Report("memos-ray bench core", _command_line())
    with (
        tempfile.TemporaryDirectory(prefix="memos-ray-bench-", ignore_cleanup_errors=True) as scratch,
        _steps(session) as step,
    ):
        load("cluster.cli.bench_core").measure(
            report, data=str(data or scratch), quick=quick, deadline=Deadline(max_seconds), step=step
        )
    return finish(session, report)


def locomo(
    session: Session,
    data: Annotated[
        Path, typer.Option("--data", exists=True, dir_okay=False, help="A file of LoCoMo's shape.")
    ],
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write the result file here (.json or .json.gz).")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this conversation; may be repeated.")] = None,
    budget_tokens: Annotated[
        int | None, typer.Option(min=1, help="Pack results to this many tokens.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only the first conversation.")] = False,
    max_seconds: MaxSeconds = 1800.0,
) -> int:
    """Retrieval on LoCoMo conversations: recall of the evidence turns, by question category."""
    from memos_ray.bench import locomo as bench
    from memos_ray.bench.locomo_data import read_locomo
    from memos_ray.bench.report import Deadline, Report

    conversations = [c for c in read_locomo(data) if not only or c.id in only]
    conversations = conversations[:1] if quick else conversations
    report = Report("memos-ray bench locomo", _command_line())
    with (
        tempfile.TemporaryDirectory(prefix="memos-ray-bench-", ignore_cleanup_errors=True) as scratch,
        _steps(session) as step,
    ):
        session.data = scratch
        step("starting", 0, 1)
        with session.memos(hint=False, address="local") as memory:
            result = bench.run(
                memory,
                conversations,
                cube_prefix="locomo",
                pids=lambda cube_id: _pids(memory, cube_id),
                step=step,
                deadline=Deadline(max_seconds),
                budget_tokens=budget_tokens,
            )
    if out is not None:
        bench.write_result(out, result, system="memos_ray", split=str(data.resolve()))
        session.note(f"result file: {out}")
    bench.fill_report(report, conversations, result)
    _recall_table(session, report)
    return finish(session, report, hide="recall|all|ndcg|mrr")


def finish(session: Session, report: Report, *, hide: str = "") -> int:
    """Prints and writes a report; returns the exit code. `hide`: figures that another table shows."""
    whole = report.to_dict()
    table = new_table(report.title)
    for name in ("figure", "value", "unit", "design asks for", "note"):
        table.add_column(name, justify="right" if name == "value" else "left", no_wrap=name == "figure")
    hidden = tuple(hide.split("|")) if hide else ()
    for figure in report.figures:
        if not any(word in figure.name for word in hidden):
            table.add_row(
                figure.name, _number(figure.value), figure.unit, figure.aim, Text(figure.note, style="dim")
            )
    session.out.print(table)
    for check in report.checks:
        mark = "[green]✓[/green]" if check.holds else "[bold red]✗[/bold red]"
        session.out.print(f"{mark} {check.name}", Text(check.detail, style="dim"))
    for note in report.notes:
        session.out.print(Text(note, style="yellow"))
    machine, numbers = whole["machine"], whole["versions"]
    facts = (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB",
        f"{machine['system']}, load {machine['load']}, Python {machine['python']}",
        ", ".join(f"{name} {number}" for name, number in numbers.items()),
        f"took {whole['seconds']} s",
    )
    session.out.print(Text("; ".join(facts), style="dim"), soft_wrap=True)
    if session.json_file is not None:
        session.json_file.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0 if report.passed else 1


def _recall_table(session: Session, report: Report) -> None:
    """One row a question category, one column a metric."""
    rows: dict[str, dict[str, float]] = {}
    notes: dict[str, str] = {}
    for figure in report.figures:
        name, _, metric = figure.name.rpartition(" ")
        if "@" in metric or metric == "mrr":
            rows.setdefault(name, {})[metric] = figure.value
            notes[name] = figure.note
    table = new_table("evidence found, % of what the questions need")
    table.add_column("questions")
    table.add_column("", style="dim")
    columns = list(next(iter(rows.values()), {}))
    for metric in columns:
        table.add_column(metric, justify="right")
    for name, row in rows.items():
        table.add_row(name, notes[name], *(f"{row[m]:.1f}" if m in row else "" for m in columns))
    session.out.print(table)


@contextmanager
def _steps(session: Session) -> Iterator[Step]:
    """A progress bar on stderr that shows what is going on."""
    with progress_bar(session.err, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda what, done, of: bar.update(task, description=what, completed=done, total=of)


def _pids(memory: MemOS, cube_id: str) -> Sequence[int]:
    """The processes that work on a search of this cube: its own and the embedder's."""
    import ray

    from memos_ray.errors import Unavailable

    options = load("actors.options")
    namespace = memory.asynchronous.connect().settings.namespace
    try:
        handle: Any = ray.get_actor(options.EMBEDDER_NAME, namespace=namespace)
        embedder: int = ray.get(handle.pid.remote(), timeout=60.0)
    except ray.exceptions.RayError as error:
        raise Unavailable(f"the embedder does not answer: {error}", what="embedder") from error
    return [int(memory.stats(cube_id)["pid"]), embedder]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"


def _command_line() -> str:
    return shlex.join(["memos-ray", *sys.argv[1:]])
