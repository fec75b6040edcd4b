"""LoCoMo: does what a search returns hold the evidence turns? No LLM, no judge.

Every conversation goes into a cube of its own through the public client, every question through the public
`search`. An item's sources are the turn ids that the system itself carried; its text is what a reader gets.
"""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memos_ray.bench import metrics
from memos_ray.bench.locomo_data import CATEGORIES, Conversation, Question
from memos_ray.bench.packed import Packing, fill_packed
from memos_ray.bench.report import Deadline, Report, cpu_seconds, quantile, timed
from memos_ray.retrieval.bm25 import TextIndex
from memos_ray.retrieval.render import render
from memos_ray.types import MemoryItem, SearchHit

if TYPE_CHECKING:
    from memos_ray.sync import MemOS

K = 200
Step = Callable[[str, int, int], None]  # (what is going on, done, of)


@dataclass(slots=True)
class Result:
    """What a run found, in the shape of a result file, and what it checked."""

    ingest: list[dict[str, Any]] = field(default_factory=list)
    queries: list[dict[str, Any]] = field(default_factory=list)
    memories: dict[str, int] = field(default_factory=dict)  # conversation -> memories held
    complete: bool = True


def run(
    memory: MemOS,
    conversations: Sequence[Conversation],
    *,
    cube_prefix: str,
    pids: Callable[[str], Sequence[int]],
    step: Step,
    deadline: Deadline,
    packing: Packing | None = None,
) -> Result:
    """Ingests and asks everything. `pids(cube_id)` names the processes whose CPU time counts.

    Items are hits, the first 200; with a `packing`, the passages of a prompt of that budget.
    """
    result = Result()
    for conversation in conversations:
        cube_id = f"{cube_prefix}:{conversation.id}"
        ingest(memory, conversation, cube_id, step, result)
        workers = [*pids(cube_id), os.getpid()]
        for n, question in enumerate(conversation.questions):
            if deadline.expired():
                result.complete = False
                return result
            step(f"{conversation.id}: questions", n + 1, len(conversation.questions))
            result.queries.append(_ask(memory, cube_id, question, workers, packing))
    return result


def ingest(
    memory: MemOS,
    conversation: Conversation,
    cube_id: str,
    step: Step,
    result: Result,
) -> None:
    """Adds a conversation to a cube, session by session, and returns once all of it can be found."""
    with timed() as lap:
        for n, session in enumerate(conversation.sessions):
            step(f"{conversation.id}: sessions", n + 1, len(conversation.sessions))
            memory.add(
                [
                    {"role": "user", "content": t.text, "speaker": t.speaker, "turn": t.id}
                    for t in session.turns
                ],
                timestamp=session.when,
                conversation=conversation.id,
                session=session.name,
                cube_id=cube_id,
            )
        memory.search("hello", cube_id=cube_id, top_k=1)  # waits until all of it can be found
    result.memories[conversation.id] = int(memory.stats(cube_id)["memories"])
    result.ingest.append({"conv": conversation.id, "turns": conversation.n_turns, "seconds": lap.seconds})


def _ask(
    memory: MemOS, cube_id: str, question: Question, pids: Sequence[int], packing: Packing | None
) -> dict[str, Any]:
    cube = memory.cube(cube_id)
    before, begun = cpu_seconds(pids), time.perf_counter()
    if packing is None:
        hits = cube.search(question.text, top_k=K)
    else:
        hits = cube.search(
            question.text,
            budget_tokens=packing.budget_tokens,
            tokenizer=packing.tokenizer,
            render="prompt",
        )
    seconds, after = time.perf_counter() - begun, cpu_seconds(pids)
    return {
        "qid": question.id,
        "seconds": seconds,
        "cpu": after - before if before is not None and after is not None else None,
        **(_listed(hits) if packing is None else packing.shown(hits)),
    }


def _listed(hits: Sequence[SearchHit]) -> dict[str, Any]:
    return {"items": [{"text": render(hit.item), "sources": turns_of(hit.item)} for hit in hits]}


def turns_of(item: MemoryItem) -> list[str]:
    """The turns that a memory says it comes from."""
    return [source.turn for source in item.sources if source.turn]


def write_result(path: Path, result: Result, *, system: str, split: str) -> None:
    """The result file that a scorer reads; gzip if the name ends in .gz."""
    value = {
        "system": system,
        "split": split,
        "ingest": result.ingest,
        "queries": result.queries,
        "load": os.getloadavg()[0],
    }
    data = json.dumps(value, ensure_ascii=False).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def score(
    conversations: Sequence[Conversation], queries: Sequence[dict[str, Any]]
) -> dict[str, dict[str, float]]:
    """Mean metrics by set: "categories 1-4", then each category; `n` questions. Unanswered ones score 0."""
    answered = {q["qid"]: [item["sources"] for item in q["items"]] for q in queries}
    rows: dict[int, list[dict[str, float]]] = {category: [] for category in CATEGORIES}
    for question in (q for c in conversations for q in c.questions if q.gold):
        rows[question.category].append(metrics.scores(answered.get(question.id, []), question.gold))
    main = [row for category in (1, 2, 3, 4) for row in rows[category]]
    sets = {"categories 1-4": main} | {CATEGORIES[c]: rows[c] for c in CATEGORIES}
    return {name: {"n": len(found), **metrics.means(found)} for name, found in sets.items()}


def bm25_floor(conversations: Sequence[Conversation]) -> list[dict[str, Any]]:
    """The same questions answered by plain BM25 over single turns: what any memory system must beat."""
    queries = []
    for conversation in conversations:
        turns = [turn for session in conversation.sessions for turn in session.turns]
        index = TextIndex()
        index.add_many(range(len(turns)), [f"{turn.speaker}: {turn.text}" for turn in turns])
        everything = np.ones(len(turns), np.bool_)
        for question in conversation.questions:
            slots, _ = index.score(index.query_terms(question.text), everything, K)
            queries.append({"qid": question.id, "items": [{"sources": [turns[int(s)].id]} for s in slots]})
    return queries


def fill_report(
    report: Report,
    conversations: Sequence[Conversation],
    result: Result,
    packing: Packing | None = None,
) -> None:
    """Figures and checks of a run."""
    if packing is None:
        _fill_ranked(report, conversations, result)
    else:
        fill_packed(report, conversations, result.queries, packing)
    seconds = [1000 * q["seconds"] for q in result.queries]
    if seconds:
        report.figure(
            "search p50", quantile(seconds, 0.5), "ms", note="client to client, query embedded each time"
        )
        report.figure("search p95", quantile(seconds, 0.95), "ms")
    cpu = [1000 * q["cpu"] for q in result.queries if q["cpu"] is not None]
    if cpu:
        report.figure(
            "search CPU p50", quantile(cpu, 0.5), "ms", note="client, cube and embedder processes together"
        )
    spent = sum(entry["seconds"] for entry in result.ingest)
    report.figure(
        "ingest", sum(e["turns"] for e in result.ingest) / spent, "turns/s", note="until searchable"
    )
    for conversation in conversations:
        if conversation.id in result.memories:
            held = result.memories[conversation.id]
            report.check(
                f"{conversation.id}: no turn lost",
                held >= conversation.n_turns,
                f"{held}/{conversation.n_turns}",
            )
    if not result.complete:
        report.notes.append("stopped by --max-seconds: questions not asked score 0, recall was not checked")


def _fill_ranked(report: Report, conversations: Sequence[Conversation], result: Result) -> None:
    found = score(conversations, result.queries)
    for name, means in found.items():
        for metric, value in means.items():
            if metric != "n":
                report.figure(f"{name} {metric}", 100 * value, "%", note=f"n={means['n']:.0f}")
    if result.complete:
        floor = score(conversations, bm25_floor(conversations))
        mine, least = (s["categories 1-4"]["recall@10"] for s in (found, floor))
        report.check(
            "recall@10 is not below plain BM25",
            mine >= least,
            f"{100 * mine:.1f} % against {100 * least:.1f} %",
        )
