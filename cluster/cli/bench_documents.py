"""`memos-ray bench documents`: retrieval on what is not a dialogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cluster.cli.bench_output import command_line, finish, fresh_system, processes, steps
from cluster.cli.output import new_table
from cluster.cli.session import Session

if TYPE_CHECKING:
    from memos_ray.bench.documents import Run, TestSet


def documents(
    session: Session,
    only: Annotated[
        Literal["documents", "chinese"] | None, typer.Option(help="Only this set (default: both).")
    ] = None,
    questions: Annotated[int, typer.Option(min=10, help="At most so many questions of a set.")] = 300,
    seed: Annotated[int, typer.Option(help="The same seed asks the same.")] = 0,
    half: Annotated[
        Literal["test", "train", "both"],
        typer.Option(help="Which half of the documents to ask about. Nothing may be tuned on test."),
    ] = "test",
    max_seconds: Annotated[float, typer.Option(min=1, help="Stop measuring after so many seconds.")] = 600.0,
) -> int:
    """Retrieval on documents of the Python installation, and on Chinese notes made by rule."""
    from memos_ray.bench import documents as bench
    from memos_ray.bench.documents_corpus import standard_library
    from memos_ray.bench.documents_questions import questions as ask
    from memos_ray.bench.embedding import load_bare
    from memos_ray.bench.made_chinese import chinese_set, make_diary
    from memos_ray.bench.report import Deadline, Report

    report, deadline = Report("memos-ray bench documents", command_line()), Deadline(max_seconds)
    runs = []
    with steps(session) as step:
        step("reading documents", 0, 1)
        sets = []
        if only != "chinese":
            texts = standard_library()
            asked = ask(texts, wanted=questions, seed=seed)
            wanted = [q for q in asked if half == "both" or q.test is (half == "test")]
            sets.append(bench.document_set(texts, wanted))
        if only != "documents":
            sets.append(chinese_set(make_diary(seed, questions=questions)))
        with fresh_system(session, step) as memory:
            for one in sets:
                run = bench.measure(
                    memory,
                    one,
                    pids=lambda cube_id: processes(memory, cube_id),
                    load_model=load_bare,
                    step=step,
                    deadline=deadline,
                )
                bench.fill_report(report, one, run)
                runs.append((one, run))
    for one, run in runs:
        _table(session, one, run)
    return finish(session, report, hide="@")


def _table(session: Session, what: TestSet, run: Run) -> None:
    from memos_ray.bench.documents import BM25, DENSE, OURS, SHOWN, means

    table = new_table(f"{what.name}: {len(what.units):,} texts, {len(what.questions)} questions, %")
    table.add_column("questions")
    table.add_column("system")
    for metric in SHOWN:
        table.add_column(metric, justify="right")
    names = {OURS: OURS, BM25: what.bm25_name, DENSE: "dense, MiniLM"}
    halves = sorted({q.test for q in what.questions}, reverse=True)
    for test in halves:
        for kind in (None, *dict.fromkeys(q.kind for q in what.questions)):
            for system in run.rows:
                found = means(run, system, test=test, kind=kind)
                label = f"{kind or 'all'} ({found['n']:.0f}{'' if test else ', train half'})"
                if found["n"]:
                    table.add_row(label, names[system], *(f"{100 * found[m]:.1f}" for m in SHOWN))
    session.out.print(table)
