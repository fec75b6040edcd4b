"""How many memories are enough? Recall of the evidence, tokens and latency over k, and recall over a token budget.

Every conversation is ingested once. Every question is searched once for the longest list: recall and tokens for a
smaller k are those of its beginning, and for a budget those of what packing takes from it. Latency is measured by
really searching with each k, on a sample of the questions, the ks in turn so that the machine's moods fall on all
alike. In that sample it is counted how often a real search for k, or for a budget, gives just that.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from memos_ray.bench import locomo, metrics
from memos_ray.bench.locomo_data import CATEGORIES, Conversation, Question
from memos_ray.bench.report import Deadline, Report, quantile
from memos_ray.retrieval.budget import approximate_tokens
from memos_ray.retrieval.packing import pack_hits
from memos_ray.retrieval.render import render
from memos_ray.types import SearchHit

if TYPE_CHECKING:
    from memos_ray.sync import Cube, MemOS

KS = (1, 2, 3, 5, 10, 20, 50, 100, 200)
BUDGETS = (100, 200, 500, 1000, 2000, 4000)  # tokens, as `budget_tokens` counts them
MAIN = "categories 1-4"


@dataclass(frozen=True, slots=True)
class Asked:
    """One question: recall and tokens for every k, recall and hits for every budget."""

    category: int
    recall: tuple[float, ...]
    tokens: tuple[int, ...]
    budget_recall: tuple[float, ...]
    budget_hits: tuple[int, ...]


@dataclass(slots=True)
class Curve:
    """What was measured. `seconds`: real searches by k. `same` of `compared` real searches gave what was expected."""

    asked: list[Asked] = field(default_factory=list)
    seconds: dict[int, list[float]] = field(default_factory=lambda: {k: [] for k in KS})
    same: int = 0
    compared: int = 0
    exceeded: int = 0  # real searches that gave more tokens than their budget
    memories: dict[str, int] = field(default_factory=dict)
    complete: bool = True


def measure(
    memory: MemOS,
    conversations: Sequence[Conversation],
    *,
    recipe: str | None,
    sample: int,
    step: Callable[[str, int, int], None],
    deadline: Deadline,
) -> Curve:
    """`sample`: questions of each conversation whose searches are timed."""
    curve, result = Curve(), locomo.Result()
    for conversation in conversations:
        cube_id = f"curve:{conversation.id}"
        locomo.ingest(memory, conversation, cube_id, step, result)
        curve.memories = result.memories
        cube = memory.cube(cube_id)
        scored = [q for q in conversation.questions if q.gold and q.category in (1, 2, 3, 4)]
        found: dict[str, list[SearchHit]] = {}
        for n, question in enumerate(scored):
            if deadline.expired():
                curve.complete = False
                return curve
            step(f"{conversation.id}: questions", n + 1, len(scored))
            found[question.id] = cube.search(question.text, top_k=KS[-1], recipe=recipe)
            curve.asked.append(_asked(question, found[question.id]))
        timed = scored[:: max(1, len(scored) // sample)][:sample] if sample else []
        for n, question in enumerate(timed):
            if deadline.expired():
                curve.complete = False
                return curve
            step(f"{conversation.id}: latency", n + 1, len(timed))
            _really(curve, cube, question, found[question.id], recipe)
    return curve


def _asked(question: Question, hits: Sequence[SearchHit]) -> Asked:
    sources = [locomo.turns_of(hit.item) for hit in hits]
    texts = [render(hit.item) for hit in hits]
    lengths = [approximate_tokens(text) for text in texts]
    packed = [pack_hits(hits, budget_tokens=budget) for budget in BUDGETS]
    shown = [[[s.turn for s in passage.sources if s.turn] for passage in p.passages] for p in packed]
    return Asked(
        question.category,
        recall=tuple(metrics.recall(sources, question.gold, k) for k in KS),
        tokens=tuple(sum(lengths[:k]) for k in KS),
        budget_recall=tuple(metrics.recall(items, question.gold, len(items)) for items in shown),
        budget_hits=tuple(len(p.hits) for p in packed),
    )


def _really(
    curve: Curve, cube: Cube, question: Question, hits: Sequence[SearchHit], recipe: str | None
) -> None:
    ids = [hit.item.id for hit in hits]
    for k in KS:
        begun = time.perf_counter()
        given = cube.search(question.text, top_k=k, recipe=recipe)
        curve.seconds[k].append(time.perf_counter() - begun)
        curve.same += [hit.item.id for hit in given] == ids[:k]
        curve.compared += 1
    for budget in BUDGETS:
        packed = pack_hits(hits, budget_tokens=budget)
        given = cube.search(question.text, budget_tokens=budget, recipe=recipe, render="prompt")
        curve.same += given.prompt == packed.text
        curve.exceeded += approximate_tokens(given.prompt or "") > budget
        curve.compared += 1


def sets(curve: Curve) -> dict[str, list[Asked]]:
    """ "categories 1-4", then each category that was asked."""
    by = {name: [a for a in curve.asked if a.category == c] for c, name in CATEGORIES.items()}
    return {MAIN: list(curve.asked)} | {name: rows for name, rows in by.items() if rows}


def over_k(curve: Curve) -> list[dict[str, float]]:
    """A row a k: mean recall of every set, mean tokens, and p50 and p95 of a search in ms (where measured)."""
    rows = []
    for n, k in enumerate(KS):
        row = {"k": float(k)} | {
            name: _mean(a.recall[n] for a in asked) for name, asked in sets(curve).items()
        }
        row["tokens"] = _mean(a.tokens[n] for a in curve.asked)
        if curve.seconds[k]:
            row["p50 ms"] = 1000 * quantile(curve.seconds[k], 0.5)
            row["p95 ms"] = 1000 * quantile(curve.seconds[k], 0.95)
        rows.append(row)
    return rows


def over_budgets(curve: Curve) -> list[dict[str, float]]:
    """A row a budget: mean recall of every set, and mean hits."""
    return [
        {"budget": float(budget)}
        | {name: _mean(a.budget_recall[n] for a in asked) for name, asked in sets(curve).items()}
        | {"hits": _mean(a.budget_hits[n] for a in curve.asked)}
        for n, budget in enumerate(BUDGETS)
    ]


def _mean(values: Any) -> float:
    held = list(values)
    return statistics.fmean(held) if held else 0.0


def fill_report(report: Report, conversations: Sequence[Conversation], curve: Curve) -> None:
    """Figures and checks."""
    for row in over_k(curve):
        for name, value in row.items():
            if name in ("tokens", "p50 ms", "p95 ms"):
                unit = "tokens" if name == "tokens" else "ms"
                report.figure(f"k={row['k']:.0f}, {name.removesuffix(' ms')}", value, unit)
            elif name != "k":
                report.figure(f"k={row['k']:.0f}, {name}, recall", 100 * value, "%")
    for row in over_budgets(curve):
        for name, value in row.items():
            if name != "budget":
                kind, factor, unit = ("hits", 1, "") if name == "hits" else (f"{name}, recall", 100, "%")
                report.figure(f"budget={row['budget']:.0f}, {kind}", factor * value, unit)
    if curve.compared:
        report.figure(
            "searches that give the beginning of the longest list",
            100 * curve.same / curve.compared,
            "%",
            note=f"{curve.same:,} of {curve.compared:,}, for every k and budget",
        )
    for conversation in conversations:
        held = curve.memories.get(conversation.id)
        if held is not None:
            report.check(
                f"{conversation.id}: no turn lost",
                held >= conversation.n_turns,
                f"{held}/{conversation.n_turns}",
            )
    if curve.compared:
        report.check("no search exceeds its budget", not curve.exceeded, "of the sampled questions")
    if not curve.complete:
        report.notes.append("stopped by --max-seconds: the means are of what was asked")
