"""`memos-ray bench …`: runs a benchmark, prints its table, and exits 1 if a correctness figure is missed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.bench_chaos import chaos
from cluster.cli.bench_cluster import cluster
from cluster.cli.bench_curve import curve
from cluster.cli.bench_documents import documents
from cluster.cli.bench_locomo import locomo
from cluster.cli.bench_made import make_dialogues
from cluster.cli.bench_output import command_line, finish, steps
from cluster.cli.bench_peers import peers
from cluster.cli.bench_ranker import ablation, train_ranker
from cluster.cli.bench_scale import scale
from cluster.cli.bench_simulated import simulated
from cluster.cli.session import Session, command
from memos_ray._siblings import load

MaxSeconds = Annotated[float, typer.Option(min=1, help="Stop measuring after this many seconds.")]


def register(app: typer.Typer) -> None:
    """Adds this group's commands to the application."""
    group = typer.Typer(
        no_args_is_help=True, help="Measure speed and retrieval; figures are printed, correctness decides."
    )
    command(group, to_file=True)(core)
    command(group, to_file=True)(cluster)
    command(group, to_file=True)(chaos)
    command(group, to_file=True)(locomo)
    command(group, to_file=True)(curve)
    command(group, to_file=True)(scale)
    command(group, to_file=True)(simulated)
    command(group, to_file=True)(peers)
    command(group, to_file=True)(documents)
    command(group, "make-dialogues", to_file=True)(make_dialogues)
    command(group, "train-ranker", to_file=True)(train_ranker)
    command(group, to_file=True)(ablation)
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

    report = Report("memos-ray bench core", command_line())
    with (
        tempfile.TemporaryDirectory(prefix="memos-ray-bench-", ignore_cleanup_errors=True) as scratch,
        steps(session) as step,
    ):
        load("cluster.cli.bench_core").measure(
            report, data=str(data or scratch), quick=quick, deadline=Deadline(max_seconds), step=step
        )
    return finish(session, report)
