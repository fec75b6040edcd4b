"""What the answers and verdicts come to: scores by category and system, costs, and what is missing."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from memos_ray.bench.end_to_end.plan import Plan
from memos_ray.bench.end_to_end.scoring import bleu1, set_f1, token_f1
from memos_ray.bench.end_to_end.state import Answer, State, Verdict
from memos_ray.bench.locomo_data import CATEGORIES, Question
from memos_ray.bench.report import Report, quantile

ALL = "all asked"
_CUT = 0.5  # of the tokens sent: a server that counts fewer has not read the whole prompt


@dataclass(frozen=True, slots=True)
class Row:
    """One system on the questions of one set. Shares are in 0 to 1, seconds and tokens per answer; None: there is none.

    `judge`: the share of CORRECT among the verdicts of a run, its mean over the runs; `judge_sd`: the population's
    standard deviation of the runs. `unanswered` and `unjudged` count what failed or was not asked, `unreadable` the
    replies of the judge that are no verdict: none of these count as right or wrong.
    """

    questions: str
    system: str
    asked: int
    answered: int
    judge: float | None
    judge_sd: float | None
    f1: float | None
    bleu1: float | None
    set_f1: float | None
    prompt_tokens: float | None
    output_tokens: float | None
    counted_by: str
    search_s: tuple[float, float] | None  # p50, p95
    answer_s: tuple[float, float] | None
    unanswered: int
    unjudged: int
    unreadable: int


def rows(plan: Plan, state: State) -> list[Row]:
    """For every set of questions ("all asked", then each category) a row a system."""
    sets = {ALL: plan.limits.categories} | {CATEGORIES[c]: (c,) for c in sorted(plan.limits.categories)}
    asked: dict[str, list[Question]] = {system: [] for system in plan.limits.systems}
    for system, question in plan.pairs():
        asked[system].append(question)
    found = []
    for name, categories in sets.items():
        for system, questions in asked.items():
            chosen = [q for q in questions if q.category in categories]
            if chosen:
                found.append(_row(name, system, chosen, plan, state))
    return found


def _row(name: str, system: str, questions: Sequence[Question], plan: Plan, state: State) -> Row:
    pairs = [(q, a) for q in questions if (a := state.answers.get((system, q.id))) is not None]
    answers = [answer for _, answer in pairs]
    by_run = [
        [v for q in questions if (v := state.verdicts.get((system, q.id, run))) is not None]
        for run in range(plan.limits.runs)
    ]
    scores = [score for verdicts in by_run if (score := _score(verdicts)) is not None]
    counted = sorted({answer.counted_by for answer in answers})
    given = sum(map(len, by_run))
    return Row(
        name,
        system,
        len(questions),
        len(answers),
        judge=statistics.mean(scores) if scores else None,
        judge_sd=statistics.pstdev(scores) if scores else None,
        f1=_mean([token_f1(a.text, plan.keys[q.id], q.category) for q, a in pairs]),
        bleu1=_mean([bleu1(a.text, plan.keys[q.id]) for q, a in pairs]),
        set_f1=_mean([set_f1(a.text, plan.keys[q.id]) for q, a in pairs]),
        prompt_tokens=_mean([a.prompt_tokens for a in answers]),
        output_tokens=_mean([a.output_tokens for a in answers]),
        counted_by=" and ".join(counted),
        search_s=_quantiles([a.search_s for a in answers if a.search_s is not None]),
        answer_s=_quantiles([a.answer_s for a in answers]),
        unanswered=len(questions) - len(answers),
        unjudged=len(answers) * plan.limits.runs - given,
        unreadable=sum(v.label is None for verdicts in by_run for v in verdicts),
    )


def _score(verdicts: Sequence[Verdict]) -> float | None:
    labels = [v.label for v in verdicts if v.label is not None]
    return labels.count("CORRECT") / len(labels) if labels else None


def _mean(values: Sequence[float]) -> float | None:
    return statistics.mean(values) if values else None


def _quantiles(values: Sequence[float]) -> tuple[float, float] | None:
    return (quantile(values, 0.5), quantile(values, 0.95)) if values else None


def fill_report(report: Report, plan: Plan, state: State, failures: Sequence[str] = ()) -> list[Row]:
    """Adds figures, checks and notes; returns the rows."""
    found = rows(plan, state)
    for row in found:
        _figures(report, row)
    for row in (row for row in found if row.questions == ALL):
        report.check(
            f"{row.system}: every question answered", row.unanswered == 0, _of(row.answered, row.asked)
        )
        wanted = row.answered * plan.limits.runs
        report.check(
            f"{row.system}: every answer judged {plan.limits.runs} times",
            row.unjudged == 0,
            _of(wanted - row.unjudged, wanted),
        )
        if row.unreadable:
            report.notes.append(
                f"{row.system}: {row.unreadable} of {wanted} replies of the judge are no verdict; they count "
                "neither as right nor as wrong"
            )
    asked = {(system, question.id) for system, question in plan.pairs()}
    cut = [a for key, a in state.answers.items() if key in asked and _is_cut(a)]
    counted = sum(a.counted_by == "server" for key, a in state.answers.items() if key in asked)
    if counted:
        report.check(
            "the server read whole prompts",
            not cut,
            f"by its count of tokens, {_of(counted - len(cut), counted)}",
        )
    report.notes.extend(plan.notes)
    report.notes.extend(f"failed: {failure}" for failure in failures[:5])
    if len(failures) > 5:
        report.notes.append(f"and {len(failures) - 5} more failed")
    if any(not check.holds and ": every" in check.name for check in report.checks):
        report.notes.append("incomplete: the same command goes on where this one ended")
    return found


def _is_cut(answer: Answer) -> bool:
    return answer.counted_by == "server" and answer.prompt_tokens < _CUT * answer.approximate_tokens


def _figures(report: Report, row: Row) -> None:
    name, note = f"{row.questions}, {row.system}", f"n={row.answered} of {row.asked}"
    for metric, value, unit in (
        ("judge", row.judge, "%"),
        ("judge sd over runs", row.judge_sd, "%"),
        ("F1", row.f1, "%"),
        ("BLEU-1", row.bleu1, "%"),
        ("set F1", row.set_f1, "%"),
    ):
        if value is not None:
            report.figure(f"{name}: {metric}", 100 * value, unit, note=note)
    for metric, value in (("prompt tokens", row.prompt_tokens), ("output tokens", row.output_tokens)):
        if value is not None:
            report.figure(f"{name}: {metric}", value, "tokens", note=f"mean; counted: {row.counted_by}")
    for metric, pair in (("search", row.search_s), ("answer", row.answer_s)):
        for q, seconds in zip(("p50", "p95"), pair or (), strict=False):
            report.figure(f"{name}: {metric} {q}", 1000 * seconds, "ms")
    for metric, count in (
        ("unanswered", row.unanswered),
        ("unjudged", row.unjudged),
        ("unreadable verdicts", row.unreadable),
    ):
        report.figure(f"{name}: {metric}", count, "")


def _of(some: int, whole: int) -> str:
    return f"{some:,} of {whole:,}"
