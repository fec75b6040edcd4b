"""`memos-ray bench make-dialogues`: writes conversations made by rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.bench_output import command_line, finish
from cluster.cli.session import Session


def make_dialogues(
    session: Session,
    out: Annotated[
        Path, typer.Option("--out", dir_okay=False, help="Write the file of LoCoMo's shape here.")
    ],
    seed: Annotated[int, typer.Option(help="The same seed makes the same file.")] = 0,
    conversations: Annotated[int, typer.Option(min=1, help="How many conversations.")] = 10,
    questions: Annotated[int, typer.Option(min=1, help="At most so many questions each.")] = 100,
) -> int:
    """Make conversations with questions by rule, to train and try rankers on: no data set, no model."""
    from memos_ray.bench import locomo
    from memos_ray.bench import made_dialogues as made
    from memos_ray.bench.locomo_data import read_locomo
    from memos_ray.bench.report import Report

    report = Report("memos-ray bench make-dialogues", command_line())
    samples = made.make_dialogues(seed, conversations, questions=questions)
    out.write_text(json.dumps(samples, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    read = read_locomo(out)
    report.figure("conversations", len(read), "")
    report.figure("turns", sum(c.n_turns for c in read), "")
    asked = [q for c in read for q in c.questions]
    report.figure("questions", len(asked), "")
    for name, means in locomo.score(read, locomo.bm25_floor(read)).items():
        if means["n"]:
            report.figure(f"BM25 R@10, {name}", 100 * means["recall@10"], "%", note=f"n={means['n']:.0f}")
    report.check("every question has evidence", all(q.gold for q in asked))
    session.note(f"made: {out}")
    return finish(session, report)
