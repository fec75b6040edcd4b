"""`memos-ray bench locomo`: retrieval, or with `--answer` the whole way to judged answers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli.bench_output import command_line, finish, fresh_system, processes, recall_table, steps
from cluster.cli.session import Session
from memos_ray._siblings import load
from memos_ray.errors import Invalid

if TYPE_CHECKING:
    from memos_ray.bench.locomo_data import Conversation

_PANEL = "End to end, with --answer MODEL --judge MODEL"


def _option(*names: str, help: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=_PANEL, **more)


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
    max_seconds: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="Stop measuring after this many seconds (default: 1800, with --answer none).",
            show_default=False,
        ),
    ] = None,
    answer: Annotated[str | None, _option(help="The model that answers.")] = None,
    judge: Annotated[str | None, _option(help="The model that judges; may be the same.")] = None,
    base_url: Annotated[
        str, _option(help="OpenAI-compatible server.", envvar="MEMOS_RAY_LLM_URL")
    ] = "http://localhost:11434/v1",
    api_key_env: Annotated[
        str, _option(help="The environment variable with its bearer token, which is written nowhere.")
    ] = "MEMOS_RAY_LLM_API_KEY",
    judge_base_url: Annotated[str | None, _option(help="Another server for the judge.")] = None,
    judge_api_key_env: Annotated[
        str, _option(help="The variable with the token of --judge-base-url.")
    ] = "MEMOS_RAY_JUDGE_API_KEY",
    systems: Annotated[
        list[str] | None,
        _option(
            help="memos_ray, full-context or none (what the model guesses); may be repeated "
            "(default: memos_ray and full-context).",
            show_default=False,
        ),
    ] = None,
    categories: Annotated[
        list[int] | None,
        _option(help="1 to 4; may be repeated (default: all).", show_default=False),
    ] = None,
    limit: Annotated[int | None, _option(min=1, help="Only the first so many questions.")] = None,
    top_k: Annotated[
        int | None,
        _option(
            min=1,
            help="Memories in a prompt (default: 20; under --budget-tokens as many as fit).",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[str | None, _option(help="How to search: plain, fast, default, best.")] = None,
    runs: Annotated[int, _option(min=1, help="Verdicts on every answer.")] = 3,
    context_window: Annotated[
        int, _option(min=1, help="Tokens the answering model takes; longer full contexts are left out.")
    ] = 128_000,
    temperature: Annotated[float, _option(min=0, help="Of both models.")] = 0.0,
    parallel: Annotated[int, _option(min=1, max=256, help="Calls at once.")] = 8,
    timeout: Annotated[float, _option(min=1, help="Seconds for one call.")] = 120.0,
    state: Annotated[
        Path,
        _option(dir_okay=False, help="Keeps what is answered and judged; the same command goes on from it."),
    ] = Path("locomo-answers.jsonl"),
    price_in: Annotated[float | None, _option(min=0, help="Price of a million input tokens.")] = None,
    price_out: Annotated[float | None, _option(min=0, help="Price of a million output tokens.")] = None,
    estimate_only: Annotated[
        bool, _option("--estimate-only", help="Say what it would cost, and stop.")
    ] = False,
    yes: Annotated[bool, _option("--yes", help="Start without asking.")] = False,
) -> int:
    """Retrieval on LoCoMo conversations: recall of the evidence turns, by question category.

    With --answer and --judge, the whole way: a model answers, a judge compares with the key (docs/bench-locomo.md).
    """
    from memos_ray.bench.locomo_data import read_locomo

    conversations = [c for c in read_locomo(data) if not only or c.id in only]
    conversations = conversations[:1] if quick else conversations
    if tokenizer is not None and budget_tokens is None:
        raise Invalid("--tokenizer counts a budget: give --budget-tokens too", argument="tokenizer")
    if (answer is None) != (judge is None):
        named, other = ("--answer", "--judge") if judge is None else ("--judge", "--answer")
        raise Invalid(f"{named} needs {other} too (it may be the same model)", argument=other.strip("-"))
    if answer is None or judge is None:
        if estimate_only or any(given is not None for given in (top_k, recipe, systems, categories, limit)):
            raise Invalid(f"there is an option of “{_PANEL}” without these two", argument="answer")
        return _retrieval(session, data, conversations, out, budget_tokens, tokenizer, max_seconds or 1800.0)
    if out is not None:
        raise Invalid("--out holds what searches returned; the answers are in --state", argument="out")
    options = load("cluster.cli.bench_answers").Options(
        data=data,
        answer=answer,
        judge=judge,
        base_url=base_url,
        api_key=os.environ.get(api_key_env),
        judge_base_url=judge_base_url or base_url,
        judge_api_key=os.environ.get(judge_api_key_env if judge_base_url else api_key_env),
        systems=systems,
        categories=categories,
        limit=limit,
        top_k=top_k,
        budget_tokens=budget_tokens,
        tokenizer=tokenizer,
        recipe=recipe,
        runs=runs,
        context_window=context_window,
        temperature=temperature,
        parallel=parallel,
        timeout_s=timeout,
        state=state,
        price_in=price_in,
        price_out=price_out,
        max_seconds=max_seconds,
        estimate_only=estimate_only,
        yes=yes,
    )
    code: int = load("cluster.cli.bench_answers").run(session, conversations, options)
    return code


def _retrieval(
    session: Session,
    data: Path,
    conversations: list[Conversation],
    out: Path | None,
    budget_tokens: int | None,
    tokenizer: str | None,
    max_seconds: float,
) -> int:
    from memos_ray.bench import locomo as bench
    from memos_ray.bench.packed import Packing
    from memos_ray.bench.report import Deadline, Report

    packing = None if budget_tokens is None else Packing.read(budget_tokens, tokenizer)
    report = Report("memos-ray bench locomo", command_line())
    with steps(session) as step, fresh_system(session, step) as memory:
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
