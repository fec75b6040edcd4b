"""`memos-ray bench …`: runs a benchmark, prints its table, and exits 1 if a correctness figure is missed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.bench_documents import documents
from cluster.cli.bench_made import make_dialogues
from cluster.cli.bench_output import command_line, finish, processes, recall_table, steps
from cluster.cli.bench_peers import peers
from cluster.cli.bench_ranker import ablation, train_ranker
from cluster.cli.session import Session, command
from memos_ray._siblings import load

MaxSeconds = Annotated[float, typer.Option(min=1, help="Stop measuring after this many seconds.")]


def register(app: typer.Typer) -> None:
    """Adds this group's commands to the application."""
    group = typer.Typer(
        no_args_is_help=True, help="Measure speed and retrieval; figures are printed, correctness decides."
    )
    command(group, to_file=True)(core)
    command(group, to_file=True)(locomo)
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
        int | None, typer.Option(min=1, help="Items are the passages of prompts of this many tokens.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Count them with this tokenizer: see `memos-ray search`.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only the first conversation.")] = False,
    max_seconds: MaxSeconds = 1800.0,
) -> int:
    """Retrieval on LoCoMo conversations: recall of the evidence turns, by question category."""
    from memos_ray.bench import locomo as bench
    from memos_ray.bench.locomo_data import read_locomo
    from memos_ray.bench.packed import Packing
    from memos_ray.bench.report import Deadline, Report

    conversations = [c for c in read_locomo(data) if not only or c.id in only]
    conversations = conversations[:1] if quick else conversations
    packing = None if budget_tokens is None else Packing.read(budget_tokens, tokenizer)
    report = Report("memos-ray bench locomo", command_line())
    with (
        tempfile.TemporaryDirectory(prefix="memos-ray-bench-", ignore_cleanup_errors=True) as scratch,
        steps(session) as step,
    ):
        session.data = scratch
        step("starting", 0, 1)
        with session.memos(hint=False, address="local") as memory:
            result = bench.run(
                memory,
                conversations,
                cube_prefix="locomo",
                pids=lambda cube_id: processes(memory, cube_id),
                step=step,
                deadline=Deadline(max_seconds),
                packing=packing,
            )
    if out is not None:
        bench.write_result(out, result, system="memos_ray", split=str(data.resolve()))
        session.note(f"result file: {out}")
    bench.fill_report(report, conversations, result, packing)
    recall_table(session, report)
    return finish(session, report, hide="recall|all|ndcg|mrr")
