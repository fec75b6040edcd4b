"""The part of `memos-ray bench locomo` that asks models: estimate, consent, run, tables."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from cluster.cli.bench_output import Step, command_line, finish, fresh_system, steps
from cluster.cli.output import new_table
from cluster.cli.session import Session
from memos_ray import __version__
from memos_ray.bench import locomo as retrieval
from memos_ray.bench.end_to_end.contexts import FULL, MEMORY, full_context
from memos_ray.bench.end_to_end.keys import data_fingerprint, read_keys
from memos_ray.bench.end_to_end.plan import Estimate, Limits, Plan, estimate, make_plan
from memos_ray.bench.end_to_end.prompts import fingerprint
from memos_ray.bench.end_to_end.runner import Job, Runner
from memos_ray.bench.end_to_end.state import State
from memos_ray.bench.end_to_end.summary import Row, fill_report
from memos_ray.bench.locomo_data import Conversation, Question
from memos_ray.bench.report import Deadline, Report, timed
from memos_ray.config import Settings
from memos_ray.errors import Invalid
from memos_ray.models.chat import OpenAIChat
from memos_ray.retrieval.recipe import recipe_named

if TYPE_CHECKING:
    from memos_ray.sync import MemOS

TOP_K = 20


@dataclass(frozen=True, slots=True)
class Options:
    """The command's options, as typed."""

    data: Path
    answer: str
    judge: str
    base_url: str
    judge_base_url: str
    state: Path
    api_key: str | None = field(default=None, repr=False)
    judge_api_key: str | None = field(default=None, repr=False)
    systems: list[str] | None = None
    categories: list[int] | None = None
    limit: int | None = None
    top_k: int | None = None
    budget_tokens: int | None = None
    tokenizer: str | None = None
    recipe: str | None = None
    runs: int = 3
    context_window: int = 128_000
    temperature: float = 0.0
    parallel: int = 8
    timeout_s: float = 120.0
    price_in: float | None = None
    price_out: float | None = None
    max_seconds: float | None = None
    estimate_only: bool = False
    yes: bool = False

    def hits(self) -> int | None:
        """`top_k` of a search; None: as many as the budget takes."""
        return self.top_k if self.top_k is not None or self.budget_tokens is not None else TOP_K

    def settings(self) -> dict[str, Any]:
        """Everything that a figure depends on, beside the questions: what one state file may hold together."""
        ours = Settings()
        return {
            "data": data_fingerprint(self.data),
            "prompts": fingerprint(),
            "answer_model": self.answer,
            "judge_model": self.judge,
            "temperature": self.temperature,
            "top_k": self.hits(),
            "budget_tokens": self.budget_tokens,
            "tokenizer": (self.tokenizer or ours.tokenizer) if self.budget_tokens is not None else None,
            "recipe": recipe_named(self.recipe).name,
            "embedder": ours.embedder,
            "ranker": ours.ranker,
            "memos_ray": __version__,
        }


def run(session: Session, conversations: Sequence[Conversation], options: Options) -> int:
    """Estimates, asks for consent, answers, judges, and reports."""
    limits = Limits(
        tuple(dict.fromkeys(options.categories or Limits().categories)),
        tuple(dict.fromkeys(options.systems or Limits().systems)),
        options.runs,
        options.limit,
        options.context_window,
    )
    plan = make_plan(conversations, read_keys(options.data), limits)
    kept = None if options.estimate_only and not options.state.exists() else options.state
    with State(options.settings(), kept) as state:
        expected = estimate(plan, state, top_k=options.hits() or TOP_K, budget_tokens=options.budget_tokens)
        _show_estimate(session, expected, plan, options, state)
        if options.estimate_only:
            return 0
        if expected.calls.total() and not options.yes and not _consent(session):
            session.note("nothing was asked")
            return 1
        return _measure(session, plan, state, options)


def _consent(session: Session) -> bool:
    if not sys.stdin.isatty():
        raise Invalid("nobody can be asked here whether to start: say --yes", argument="yes")
    session.err.print("Start? (y/N) ", end="")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _show_estimate(session: Session, expected: Estimate, plan: Plan, options: Options, state: State) -> None:
    table = new_table("still to be asked; tokens are approximate")
    for name in ("what", "model", "calls", "tokens in", "tokens out"):
        table.add_column(name, justify="left" if name in ("what", "model") else "right")
    for what, calls in expected.calls.items():
        model = options.judge if what == "verdicts" else options.answer
        table.add_row(
            what, model, f"{calls:,}", f"{expected.tokens_in[what]:,}", f"{expected.tokens_out[what]:,}"
        )
    session.err.print(table)
    if state.answers or state.verdicts:
        session.note(
            f"{options.state} holds {len(state.answers):,} answers and {len(state.verdicts):,} verdicts"
        )
    if options.price_in is not None or options.price_out is not None:
        price = expected.price(options.price_in or 0.0, options.price_out or 0.0)
        session.note(f"about {price:.2f} at the prices given; a model that thinks aloud puts out more")
    for note in plan.notes:
        session.note(note)


def _measure(session: Session, plan: Plan, state: State, options: Options) -> int:
    report = Report("memos-ray bench locomo, end to end", command_line())
    deadline = Deadline(options.max_seconds or float("inf"))
    total = sum(plan.missing(state))
    with _chats(options) as (answering, judging), steps(session) as step:
        done = 0

        def one_more() -> None:
            nonlocal done
            done += 1
            step("answers and verdicts", done, total)

        runner = Runner(
            answering, judging, plan.keys, state, options.runs, options.parallel, deadline, one_more
        )
        try:
            with _Memory(session, report, step, options) as memory:
                for conversation, questions, systems in plan.asked:
                    if deadline.expired():
                        break
                    jobs = _jobs(conversation, questions, systems, state, memory)
                    step("answers and verdicts", done, total)
                    runner.run(jobs)
        except BaseException:
            if state.answers:
                session.note(
                    f"{len(state.answers):,} answers and {len(state.verdicts):,} verdicts are in {options.state}; "
                    "the same command goes on from there"
                )
            raise
    rows = fill_report(report, plan, state, runner.failures)
    _table(session, rows)
    return finish(session, report, hide=", ")


@contextmanager
def _chats(options: Options) -> Iterator[tuple[OpenAIChat, OpenAIChat]]:
    more: dict[str, Any] = {
        "timeout_s": options.timeout_s,
        "deadline_s": 4 * options.timeout_s,
        "temperature": options.temperature,
    }
    yield (
        OpenAIChat(options.answer, base_url=options.base_url, api_key=options.api_key, **more),
        OpenAIChat(options.judge, base_url=options.judge_base_url, api_key=options.judge_api_key, **more),
    )


def _jobs(
    conversation: Conversation,
    questions: Sequence[Question],
    systems: Sequence[str],
    state: State,
    memory: _Memory,
) -> list[Job]:
    """The questions with their contexts. Searches are made here, one at a time, and nothing else runs meanwhile."""
    jobs = []
    search = None
    whole = full_context(conversation)
    for system in systems:
        for question in questions:
            if (system, question.id) in state.answers:
                jobs.append(Job(system, question))
            elif system == MEMORY:
                search = search or memory.of(conversation)
                jobs.append(Job(system, question, *search(question)))
            else:
                jobs.append(Job(system, question, whole if system == FULL else ""))
    return jobs


class _Memory:
    """A system of its own for this run, on storage that goes with it. It starts when the first search needs it."""

    def __init__(self, session: Session, report: Report, step: Step, options: Options) -> None:
        self._session, self._report, self._step, self._options = session, report, step, options
        self._stack = ExitStack()
        self._memory: MemOS | None = None

    def __enter__(self) -> _Memory:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def of(self, conversation: Conversation) -> Callable[[Question], tuple[str, float]]:
        """Ingests a conversation; gives what finds a question's context, and in how many seconds."""
        memory = self._memory or self._start()
        cube_id, result = f"locomo:{conversation.id}", retrieval.Result()
        retrieval.ingest(memory, conversation, cube_id, self._step, result)
        held = result.memories[conversation.id]
        self._report.check(
            f"{conversation.id}: no turn lost",
            held >= conversation.n_turns,
            f"{held}/{conversation.n_turns}",
        )
        cube, options = memory.cube(cube_id), self._options

        def search(question: Question) -> tuple[str, float]:
            self._step(f"{conversation.id}: searching", 0, 1)
            with timed() as lap:
                hits = cube.search(
                    question.text,
                    top_k=options.hits(),
                    budget_tokens=options.budget_tokens,
                    tokenizer=options.tokenizer,
                    recipe=options.recipe,
                    render="prompt",
                )
            return hits.prompt or "", lap.seconds

        return search

    def _start(self) -> MemOS:
        self._memory = self._stack.enter_context(fresh_system(self._session, self._step))
        return self._memory


def _table(session: Session, rows: Sequence[Row]) -> None:
    table = new_table("what was answered, by the judge and by its words")
    words_of = ("judge, %", "F1", "BLEU-1", "set F1")
    costs = ("prompt tokens", "search p50/p95, ms", "answer p50/p95, ms", "failed")
    for name in ("questions", "system", *words_of, *costs):
        left = name in ("questions", "system")
        table.add_column(name, justify="left" if left else "right", no_wrap=left)
    for row in rows:
        judged = "" if row.judge is None else f"{100 * row.judge:.1f} ± {100 * (row.judge_sd or 0):.1f}"
        words = ("" if share is None else f"{100 * share:.1f}" for share in (row.f1, row.bleu1, row.set_f1))
        counted = "" if row.counted_by in ("server", "") else " ≈"
        tokens = "" if row.prompt_tokens is None else f"{row.prompt_tokens:,.0f}{counted}"
        times = (
            "" if t is None else f"{1000 * t[0]:,.0f}/{1000 * t[1]:,.0f}"
            for t in (row.search_s, row.answer_s)
        )
        failed = row.unanswered + row.unjudged + row.unreadable
        table.add_row(
            f"{row.questions} ({row.asked})", row.system, judged, *words, tokens, *times, str(failed or "")
        )
    session.out.print(table)
    if any("approximate" in row.counted_by for row in rows):
        session.out.print(Text("≈: the server did not count (all) tokens", style="dim"))
