"""`memos-ray bench train-ranker` and `bench ablation`: the weights of the ranker, and what each signal is worth."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.bench_output import Step, command_line, finish, steps
from cluster.cli.output import new_table
from cluster.cli.session import Session

if TYPE_CHECKING:
    from memos_ray.bench.locomo_data import Conversation
    from memos_ray.bench.ranking.material import Asked
    from memos_ray.bench.report import Report
    from memos_ray.retrieval.ranker import Family

Data = Annotated[Path, typer.Option("--data", exists=True, dir_okay=False, help="A file of LoCoMo's shape.")]
_METRICS = ("recall@5", "recall@10", "recall@20", "recall@50", "all@10", "ndcg@10")
_CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop"}


def train_ranker(
    session: Session,
    data: Data,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write the weights here (JSON); else only figures.")
    ] = None,
    tried_on: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="Also try the weights on this file, unseen in training."
        ),
    ] = None,
    about: Annotated[str, typer.Option(help="What the data is, for whoever reads the weights.")] = "",
) -> int:
    """Fit the ranker's weights on conversations with evidence; figures are of conversations left out."""
    from memos_ray.bench.locomo_data import read_locomo
    from memos_ray.bench.ranking.evaluate import fit_family, leave_one_out, stability, summary
    from memos_ray.bench.report import Report
    from memos_ray.retrieval.ranker import FAMILIES, Ranker, ranker_to

    report = Report("memos-ray bench train-ranker", command_line())
    families: dict[str, Family] = {}
    conversations = read_locomo(data)
    with steps(session) as step:
        material = _collect(conversations, step)
        other = _collect(read_locomo(tried_on), step) if tried_on is not None else []
        for name in FAMILIES:
            mine = [asked.of_family(name) for asked in material]
            if len(conversations) > 1:
                rows, folds = leave_one_out(
                    mine,
                    step=lambda n, of, name=name: step(f"{name}: conversations left out", n, of),  # type: ignore[misc]
                )
                for second, found in rows.items():
                    _figures(report, f"{name}, {'second' if second else 'first'} ranking", summary(found))
                if name == "late":
                    _weights_table(session, stability([f.first for f in folds]))
            step(f"{name}: the weights", 0, 1)
            families[name] = fit_family(mine)
            if other:
                _figures(
                    report,
                    f"{name}, on {tried_on.name if tried_on else ''}",
                    _tried(other, name, families[name]),
                )
    if out is not None:
        made = Ranker(
            out.stem,
            families,
            {
                "data": about or data.name,
                "command": command_line(),
                "questions": len(material),
                "conversations": len(conversations),
            },
        )
        out.write_text(json.dumps(ranker_to(made), indent=1) + "\n", encoding="utf-8")
    _table(session, report)
    return finish(session, report, hide="recall|@")


def ablation(session: Session, data: Data) -> int:
    """What each group of signals is worth: figures without it, on conversations left out of the fit."""
    from memos_ray.bench.locomo_data import read_locomo
    from memos_ray.bench.ranking.ablation import GROUPS
    from memos_ray.bench.ranking.evaluate import leave_one_out, summary
    from memos_ray.bench.report import Report

    report = Report("memos-ray bench ablation", command_line())
    with steps(session) as step:
        material = _collect(read_locomo(data), step)
        for n, (name, drop) in enumerate({"all": (), **GROUPS}.items()):
            step(f"without {name}", n, len(GROUPS) + 1)
            rows, _ = leave_one_out(material, drop=drop)
            label = "all signals" if name == "all" else f"without {name}"
            if name == "all":
                _figures(report, "first ranking only", summary(rows[False]))
            _figures(report, label, summary(rows[True]))
    _table(session, report)
    return finish(session, report, hide="recall|@")


def _collect(conversations: Sequence[Conversation], step: Step) -> list[Asked]:
    from memos_ray.bench.ranking.material import collect
    from memos_ray.models.minilm import MiniLM
    from memos_ray.retrieval.recipe import DEFAULT_RECIPE
    from memos_ray.testing.local import LocalCubes

    async def run() -> list[Asked]:
        with tempfile.TemporaryDirectory(prefix="memos-ray-bench-", ignore_cleanup_errors=True) as scratch:
            async with LocalCubes(scratch, embedder=MiniLM(threads=0)) as cubes:
                return await collect(cubes, conversations, DEFAULT_RECIPE, step)

    return asyncio.run(run())


def _tried(material: Sequence[Asked], name: str, family: Family) -> dict[str, float]:
    from memos_ray.bench import metrics
    from memos_ray.bench.ranking.evaluate import ranked, summary

    mine = [asked.of_family(name) for asked in material]
    return summary(
        [(a, metrics.scores([[t] for t in ranked(a, family, second=True)], a.question.gold)) for a in mine]
    )


def _figures(report: Report, name: str, found: dict[str, float]) -> None:
    for metric, value in found.items():
        report.figure(f"{name} {metric}", 100 * value, "%")


def _table(session: Session, report: Report) -> None:
    rows: dict[str, dict[str, float]] = {}
    for figure in report.figures:
        name, at, metric = (
            figure.name.partition(" recall@") if " recall@" in figure.name else (figure.name, "", "")
        )
        if not at:
            name, _, metric = figure.name.rpartition(" ")
        else:
            metric = f"recall@{metric}"
        rows.setdefault(name, {})[metric] = figure.value
    table = new_table("conversations left out, %")
    table.add_column("ranking")
    columns = [*_METRICS, *(f"recall@10 of category {c}" for c in _CATEGORIES)]
    for column in columns:
        category = _CATEGORIES.get(int(column[-1])) if "category" in column else None
        table.add_column(category or column, justify="right")
    for name, row in rows.items():
        table.add_row(name, *(f"{row[c]:.1f}" if c in row else "" for c in columns))
    session.out.print(table)


def _weights_table(session: Session, weights: dict[str, tuple[float, float]]) -> None:
    table = new_table("weights of the first ranking: mean and deviation over the conversations left out")
    table.add_column("signal")
    table.add_column("weight", justify="right")
    table.add_column("deviation", justify="right")
    for name, (mean, deviation) in sorted(weights.items(), key=lambda item: -abs(item[1][0])):
        table.add_row(name, f"{mean:+.3f}", f"{deviation:.3f}")
    session.out.print(table)
