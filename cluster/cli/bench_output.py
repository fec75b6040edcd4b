"""How every benchmark is shown: progress, tables, the report, the exit code."""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.text import Text

from cluster.cli.output import new_table, progress_bar
from memos_ray._siblings import load

if TYPE_CHECKING:
    from cluster.cli.session import Session
    from memos_ray.bench.report import Report
    from memos_ray.sync import MemOS

Step = Callable[[str, int, int], None]


@contextmanager
def fresh_system(session: Session, step: Step) -> Iterator[MemOS]:
    """A system of the benchmark's own, whose data goes when it ends."""
    with tempfile.TemporaryDirectory(prefix="memos-ray-bench-", ignore_cleanup_errors=True) as scratch:
        session.data = scratch
        step("starting", 0, 1)
        with session.memos(hint=False, address="local") as memory:
            yield memory


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
    if table.row_count:
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


def recall_table(session: Session, report: Report) -> None:
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
def steps(session: Session) -> Iterator[Step]:
    """A progress bar on stderr that shows what is going on."""
    with progress_bar(session.err, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda what, done, of: bar.update(task, description=what, completed=done, total=of)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"


def command_line() -> str:
    """What was typed."""
    return shlex.join(["memos-ray", *sys.argv[1:]])


def processes(memory: MemOS, cube_id: str) -> Sequence[int]:
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
