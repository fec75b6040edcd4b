"""`memos-ray bench curve`: recall, tokens and latency over k, and recall over a token budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.bench_output import command_line, finish, fresh_system, steps
from cluster.cli.output import new_table
from cluster.cli.session import Session

if TYPE_CHECKING:
    from memos_ray.bench.curve import Curve


def curve(
    session: Session,
    data: Annotated[
        Path, typer.Option("--data", exists=True, dir_okay=False, help="A file of LoCoMo's shape.")
    ],
    svg: Annotated[Path | None, typer.Option(dir_okay=False, help="Draw the curves into this file.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this conversation; may be repeated.")] = None,
    recipe: Annotated[str | None, typer.Option(help="How to search: plain, fast, default, best.")] = None,
    sample: Annotated[
        int, typer.Option(min=0, help="Questions of each conversation whose searches are timed.")
    ] = 20,
    max_seconds: Annotated[float, typer.Option(min=1, help="Stop measuring after so many seconds.")] = 1800.0,
) -> int:
    """How many memories are enough: recall, tokens and latency over k, and recall over a token budget."""
    from memos_ray.bench import curve as bench
    from memos_ray.bench.locomo_data import read_locomo
    from memos_ray.bench.report import Deadline, Report
    from memos_ray.config import Settings
    from memos_ray.errors import Invalid
    from memos_ray.retrieval.recipe import recipe_named

    recipe_named(recipe)
    if Settings().tokenizer is not None:
        raise Invalid(
            "the curves count by the approximation: unset MEMOS_RAY_TOKENIZER", argument="tokenizer"
        )
    conversations = [c for c in read_locomo(data) if not only or c.id in only]
    if not conversations:
        raise Invalid(f"{data} has no conversation {only}", argument="only")
    report = Report("memos-ray bench curve", command_line())
    with steps(session) as step, fresh_system(session, step) as memory:
        found = bench.measure(
            memory,
            conversations,
            recipe=recipe,
            sample=sample,
            step=step,
            deadline=Deadline(max_seconds),
        )
    bench.fill_report(report, conversations, found)
    _tables(session, found)
    if svg is not None:
        svg.write_text(draw(found), encoding="utf-8")
        session.note(f"curves: {svg}")
    return finish(session, report, hide="k=|budget=")


def _tables(session: Session, found: Curve) -> None:
    from memos_ray.bench import curve as bench

    asked = f"{len(found.asked)} questions"
    for title, rows, first in (
        (f"by number of hits, {asked}", bench.over_k(found), "k"),
        (f"by token budget, {asked}", bench.over_budgets(found), "budget"),
    ):
        table = new_table(f"evidence found, %, {title}")
        for name in rows[0]:
            table.add_column(name, justify="right")
        for row in rows:
            cells = []
            for name, value in row.items():
                share = name not in (first, "tokens", "hits", "p50 ms", "p95 ms")
                cells.append(
                    f"{100 * value:.1f}" if share else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
                )
            table.add_row(*cells)
        session.out.print(table)


def draw(found: Curve) -> str:
    """The SVG: recall over k and over a budget, tokens and latency over k."""
    from memos_ray.bench import curve as bench
    from memos_ray.bench.svg import Line, Panel, chart

    by_k, by_budget, names = bench.over_k(found), bench.over_budgets(found), list(bench.sets(found))
    ks = [row["k"] for row in by_k]

    def recall(rows: list[dict[str, float]], x: str) -> list[Line]:
        return [Line(name, [(row[x], 100 * row[name]) for row in rows]) for name in names]

    panels = [
        Panel("Recall over hits", "hits (k)", "evidence found, %", recall(by_k, "k"), ks, top=100),
        Panel(
            "Recall over a token budget",
            "budget, tokens",
            "evidence found, %",
            recall(by_budget, "budget"),
            bench.BUDGETS,
            top=100,
        ),
        Panel(
            "Tokens over hits",
            "hits (k)",
            "tokens, mean",
            [Line("categories 1-4", [(row["k"], row["tokens"]) for row in by_k])],
            ks,
            log_y=True,
        ),
    ]
    timed = [row for row in by_k if "p50 ms" in row]
    if timed:
        lines = [
            Line("search p50" if q == "p50 ms" else "search p95", [(row["k"], row[q]) for row in timed])
            for q in ("p50 ms", "p95 ms")
        ]
        panels.append(Panel("Latency over hits", "hits (k)", "one search, ms", lines, ks))
    return chart("Recall, tokens and latency of searches on LoCoMo", panels)
