"""`memos-ray bench scale`: a cube of a hundred thousand memories against ranking every one of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from statistics import fmean
from typing import Annotated

import typer

from cluster.cli.bench_output import command_line, finish, steps
from cluster.cli.session import Session


def scale(
    session: Session,
    data: Annotated[
        Path, typer.Option("--data", exists=True, dir_okay=False, help="A file of LoCoMo's shape.")
    ],
    memories: Annotated[int, typer.Option(min=1, help="Fill the cube up to so many.")] = 100_000,
    questions: Annotated[int, typer.Option(min=1, help="Ask so many, spread over all.")] = 100,
    recipe: Annotated[str | None, typer.Option(help="How to search: fast, default, best.")] = None,
    max_seconds: Annotated[float, typer.Option(min=1, help="Stop asking after so many seconds.")] = 3600.0,
) -> int:
    """Does a search of a large cube find what ranking every memory would find? In this process, without Ray."""
    from memos_ray.bench import scale as bench
    from memos_ray.bench.locomo_data import read_locomo
    from memos_ray.bench.report import Deadline, Report, quantile
    from memos_ray.models.minilm import MiniLM
    from memos_ray.retrieval.recipe import recipe_named

    report = Report("memos-ray bench scale", command_line())
    chosen = recipe_named(recipe)
    with steps(session) as step:
        found = asyncio.run(
            bench.measure(
                read_locomo(data),
                memories=memories,
                questions=questions,
                recipe=chosen,
                embedder=MiniLM(threads=0),
                step=step,
                deadline=Deadline(max_seconds),
            )
        )
    asked = len(found.recall)
    report.figure("memories", found.memories, "")
    report.figure("questions", asked, "")
    if not asked:
        report.check("questions were asked", False, "--max-seconds was over before the first")
        return finish(session, report)
    recall, exhaustive = 100 * fmean(found.recall), 100 * fmean(found.exhaustive)
    report.figure("R@10", recall, "%", note=f"recipe {chosen.name}")
    report.figure("R@10 of ranking every memory", exhaustive, "%", note="the same signals and weights")
    report.figure("of its first 10 in ours", 100 * fmean(found.same), "%")
    for name, taken in (("search", found.seconds), ("search, CPU", found.cpu)):
        for q in (0.5, 0.95):
            report.figure(
                f"{name}, p{100 * q:.0f}",
                1000 * quantile(taken, q),
                "ms",
                note="with the question's embedding",
            )
    report.check(
        "R@10 is within a point of ranking every memory",
        recall >= exhaustive - 1,
        f"{recall:.1f} % against {exhaustive:.1f} %",
    )
    return finish(session, report)
