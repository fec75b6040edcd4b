"""`memos-ray bench train-ranker` and `bench ablation`: the weights of the ranker, and what each signal is worth."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.bench_output import Step, command_line, finish, recall_table, steps
from cluster.cli.output import new_table
from cluster.cli.session import Session

if TYPE_CHECKING:
    from memos_ray.bench.locomo_data import Conversation
    from memos_ray.bench.ranking.material import Asked
    from memos_ray.bench.report import Report

Data = Annotated[Path, typer.Option("--data", exists=True, dir_okay=False, help="A file of LoCoMo's shape.")]


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
    from memos_ray.bench.ranking.evaluate import asked_of, fit_family, leave_one_out, stability, summary
    from memos_ray.bench.report import Report
    from memos_ray.retrieval.ranker import FAMILIES, Family, Ranker, ranker_to

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
            fitted = fit_family(mine)
            families[name] = fitted if name == "late" else Family(fitted.first)
            if other and tried_on is not None:
                unseen = asked_of([asked.of_family(name) for asked in other], families[name], second=False)
                _figures(report, f"{name}, on {tried_on.name}", summary(unseen))
    if out is not None:
        made = Ranker(
            out.stem,
            families,
            {
                "data": about or data.name,
                "command": f"memos-ray bench train-ranker --data {data.name}",
                "questions": len(material),
                "conversations": len(conversations),
            },
        )
        out.write_text(json.dumps(ranker_to(made), indent=1) + "\n", encoding="utf-8")
    recall_table(session, report)
    return finish(session, report, hide="@|mrr")


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
            _figures(report, label, summary(rows[False]))
            if name == "all":
                _figures(report, "with a second ranking", summary(rows[True]))
    recall_table(session, report)
    return finish(session, report, hide="@|mrr")


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


def _figures(report: Report, name: str, found: dict[str, float]) -> None:
    for metric, value in found.items():
        report.figure(f"{name} {metric}", 100 * value, "%")


def _weights_table(session: Session, weights: dict[str, tuple[float, float]]) -> None:
    table = new_table("weights of the first ranking: mean and deviation over the conversations left out")
    table.add_column("signal")
    table.add_column("weight", justify="right")
    table.add_column("deviation", justify="right")
    for name, (mean, deviation) in sorted(weights.items(), key=lambda item: -abs(item[1][0])):
        table.add_row(name, f"{mean:+.3f}", f"{deviation:.3f}")
    session.out.print(table)
