"""Retrieval where nobody talks: passages of documents, and memories in Chinese, against the plain methods.

Two sets. **documents**: docstrings and language reference of this Python (`documents_corpus`), questions by the
protocol of `documents_questions`. **chinese**: notes made by rule (`made_chinese`). Each is ingested into a cube of
its own and asked through the public client; BM25 and dense search are computed exactly over the same texts in the
same run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from memos_ray.bench import budgets, metrics
from memos_ray.bench.baselines import Bm25, Dense, Terms
from memos_ray.bench.documents_corpus import Document
from memos_ray.bench.documents_questions import Asked, passage_id, passages
from memos_ray.bench.report import Deadline, Report, cpu_seconds, quantile, timed
from memos_ray.retrieval.render import render
from memos_ray.retrieval.tokens import query_terms, tokenize
from memos_ray.types import MemoryItem

if TYPE_CHECKING:
    from memos_ray.sync import MemOS

K = 50
OURS, BM25, DENSE = "memos_ray", "BM25", "dense"
SHOWN = ("recall@5", "recall@10", "recall@20", "ndcg@10", "rec@1000t")
Step = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class TestSet:
    """Texts with ids, questions about them, and how they get into a cube and are known again."""

    name: str
    units: tuple[tuple[str, str], ...]  # (id, text)
    questions: tuple[Asked, ...]
    ingest: Callable[[MemOS, str], None]
    ids_of: Callable[[MemoryItem], list[str]]
    terms: Terms  # of a text, in the BM25 to beat
    query_terms: Terms
    bm25_name: str
    must_beat: tuple[str, ...]


@dataclass(slots=True)
class Run:
    """Rows of metrics by system and kind of question, and what else was measured."""

    rows: dict[str, list[tuple[str, bool, dict[str, float]]]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    ingest_seconds: float = 0.0
    held: int = 0
    complete: bool = True


def document_set(documents: Sequence[Document], questions: Sequence[Asked]) -> TestSet:
    """Documents, ingested one by one as Markdown."""

    def ingest(memory: MemOS, cube_id: str) -> None:
        for document in documents:
            memory.add_document(document.text, document=document.name, format="markdown", cube_id=cube_id)

    def ids_of(item: MemoryItem) -> list[str]:
        return [
            passage_id(s.document, s.span_start, s.span_end)
            for s in item.sources
            if s.document is not None and s.span_start is not None and s.span_end is not None
        ]

    units = tuple((p.id, p.text) for p in passages(documents))
    return TestSet(
        name="documents",
        units=units,
        questions=tuple(questions),
        ingest=ingest,
        ids_of=ids_of,
        terms=tokenize,
        query_terms=query_terms,  # stemmed, without stop words
        bm25_name="BM25, stemmed",
        must_beat=(BM25, DENSE),
    )


def measure(
    memory: MemOS,
    what: TestSet,
    *,
    pids: Callable[[str], Sequence[int]],
    load_model: Callable[[], Any],
    step: Step,
    deadline: Deadline,
) -> Run:
    """Ingests, asks every system every question."""
    run, cube_id = Run(), f"bench:{what.name}"
    step(f"{what.name}: ingesting", 0, 1)
    with timed() as lap:
        what.ingest(memory, cube_id)
        memory.search("hello", cube_id=cube_id, top_k=1)  # waits until all of it can be found
    run.ingest_seconds = lap.seconds
    cube = memory.cube(cube_id)
    held = {i for item in cube.get_all() for i in what.ids_of(item)}
    run.held = sum(unit in held for unit, _ in what.units)
    workers = [*pids(cube_id), os.getpid()]
    for n, question in enumerate(what.questions):
        if deadline.expired():
            run.complete = False
            return run
        step(f"{what.name}: questions", n, len(what.questions))
        before, begun = cpu_seconds(workers), time.perf_counter()
        hits = cube.search(question.text, top_k=K)
        run.seconds.append(time.perf_counter() - begun)
        after = cpu_seconds(workers)
        if before is not None and after is not None:
            run.cpu.append(after - before)
        found = [what.ids_of(hit.item) for hit in hits]
        _score(run, OURS, question, found, [render(hit.item) for hit in hits])
    texts = [text for _, text in what.units]
    for name, make in (
        (BM25, lambda: Bm25(texts, what.terms, what.query_terms)),
        (DENSE, lambda: Dense(texts, load_model())),
    ):
        step(f"{what.name}: {name}", 0, 1)
        if deadline.expired():
            run.complete = False
            return run
        orders = make().ranks([q.text for q in what.questions], K)
        for question, order in zip(what.questions, orders, strict=True):
            _score(run, name, question, [[what.units[i][0]] for i in order], [texts[i] for i in order])
    return run


def _score(
    run: Run, system: str, question: Asked, items: Sequence[Sequence[str]], texts: Sequence[str]
) -> None:
    row = metrics.scores(items, question.gold)
    row |= budgets.scores(texts, items, question.gold, budgets.token_counter())
    run.rows.setdefault(system, []).append((question.kind, question.test, row))


def means(run: Run, system: str, *, test: bool = True, kind: str | None = None) -> dict[str, float]:
    """Mean metrics of a system over the test half (or the other), of one kind or all."""
    rows = [r for k, t, r in run.rows.get(system, ()) if t is test and kind in (None, k)]
    return {"n": float(len(rows)), **metrics.means(rows)}


def fill_report(report: Report, what: TestSet, run: Run) -> None:
    """Figures and checks of a set."""
    named = {OURS: OURS, BM25: what.bm25_name, DENSE: "dense, MiniLM"}
    kinds = dict.fromkeys(q.kind for q in what.questions)
    halves = [(True, "")] + ([(False, " (train half)")] if any(not q.test for q in what.questions) else [])
    for test, half in halves:
        for kind in (None, *kinds):
            for system in run.rows:
                found = means(run, system, test=test, kind=kind)
                for metric in SHOWN if found["n"] else ():
                    report.figure(
                        f"{what.name}{half}, {kind or 'all'}: {named[system]} {metric}",
                        100 * found[metric],
                        "%",
                        note=f"n={found['n']:.0f}",
                    )
    if run.seconds:
        report.figure(f"{what.name}: search p50", 1000 * quantile(run.seconds, 0.5), "ms")
    if run.cpu:
        report.figure(f"{what.name}: search CPU p50", 1000 * quantile(run.cpu, 0.5), "ms")
    report.figure(f"{what.name}: ingest", len(what.units) / run.ingest_seconds, "passages/s")
    report.check(
        f"{what.name}: nothing lost", run.held == len(what.units), f"{run.held} of {len(what.units)}"
    )
    if not run.complete:
        report.notes.append(f"{what.name}: stopped by --max-seconds; recall was not checked")
        return
    mine = means(run, OURS)["recall@10"]
    for system in what.must_beat:
        other = means(run, system)["recall@10"]
        report.check(
            f"{what.name}: recall@10 is above that of {named[system]}",
            mine > other,
            f"{100 * mine:.1f} % against {100 * other:.1f} %",
        )
