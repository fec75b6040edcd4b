"""`memos-ray bench peers`: other memory systems on the same data, in the same run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli.bench_output import Step, command_line, finish, fresh_system, processes, steps
from cluster.cli.output import new_table
from cluster.cli.session import Session
from memos_ray.errors import Invalid

if TYPE_CHECKING:
    from memos_ray.bench.locomo_data import Conversation
    from memos_ray.bench.report import Deadline


def peers(
    session: Session,
    data: Annotated[
        Path, typer.Option("--data", exists=True, dir_okay=False, help="A file of LoCoMo's shape.")
    ],
    out: Annotated[
        Path | None, typer.Option(file_okay=False, help="Write every system's result file into this folder.")
    ] = None,
    peer: Annotated[
        list[str] | None, typer.Option(help="Only this peer (mem0, langgraph); may be repeated.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this conversation; may be repeated.")] = None,
    ours: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="Our result file, instead of a run (bench locomo --out)."
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, help="Keep the peers' environments here (default: ~/.cache/memos-ray/peers)."
        ),
    ] = None,
    by_category: Annotated[
        bool, typer.Option("--by-category", help="A row for every kind of question.")
    ] = False,
    max_seconds: Annotated[float, typer.Option(min=1, help="Stop measuring after so many seconds.")] = 3600.0,
) -> int:
    """mem0 and LangGraph's store beside this system: same turns, questions, embedder and scorer; no LLM."""
    from memos_ray.bench import peers as bench
    from memos_ray.bench.locomo_data import read_locomo
    from memos_ray.bench.peers_env import REQUIREMENTS, default_cache, environment
    from memos_ray.bench.report import Deadline, Report

    wanted = peer or list(REQUIREMENTS)
    if unknown := set(wanted) - set(REQUIREMENTS):
        raise Invalid(f"no peer {sorted(unknown)}; there are {', '.join(REQUIREMENTS)}", argument="peer")
    conversations = [c for c in read_locomo(data) if not only or c.id in only]
    if not conversations:
        raise Invalid(f"{data} has no conversation {only}", argument="only")
    report, deadline = Report("memos-ray bench peers", command_line()), Deadline(max_seconds)
    results: dict[str, Any] = {}
    with steps(session) as step:
        places = {name: environment(name, cache or default_cache(), step) for name in wanted}
        results[bench.OURS] = (
            bench.read_result(ours) if ours is not None else _run_ours(session, conversations, step, deadline)
        )
        for name, place in places.items():
            found = bench.run_peer(name, place, conversations, step, deadline)
            if found is None:
                report.notes.append(f"{name}: stopped by --max-seconds, left out")
            else:
                results[name] = found
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for name, result in results.items():
            bench.write_result(out / f"{name}.json.gz", result, split=str(data.resolve()))
        session.note(f"result files: {out}")
    bench.fill_report(report, conversations, results)
    _table(session, conversations, results, by_category)
    return finish(session, report, hide="@| p50|: ingest")


def _run_ours(
    session: Session, conversations: list[Conversation], step: Step, deadline: Deadline
) -> Mapping[str, Any]:
    """This system through its public client and real actors, on storage of its own."""
    from memos_ray.bench import locomo
    from memos_ray.bench.peers import OURS

    def ours(what: str, done: int, of: int) -> None:
        step(f"memos_ray: {what}", done, of)

    with fresh_system(session, ours) as memory:
        result = locomo.run(
            memory,
            conversations,
            cube_prefix="peers",
            pids=lambda cube_id: processes(memory, cube_id),
            step=ours,
            deadline=deadline,
        )
    return {"system": OURS, "ingest": result.ingest, "queries": result.queries, "held": result.memories}


def _table(
    session: Session, conversations: list[Conversation], results: Mapping[str, Any], by_category: bool
) -> None:
    from memos_ray.bench.peers import ALL, SHOWN, costs, score

    scored = {system: score(conversations, result) for system, result in results.items()}
    table = new_table("evidence found, % of what the questions need")
    for name in ("questions", "system"):
        table.add_column(name, no_wrap=True)
    for metric in SHOWN:
        short = metric.replace("recall", "R").replace("tokens", "tok").replace("rec@", "R@")
        table.add_column(short, justify="right")
    for name in next(iter(scored.values())) if by_category else [ALL]:
        for system, sets in scored.items():
            row = sets[name]
            if row["n"]:
                cells = (f"{row[m]:.0f}" if m == "tokens@10" else f"{100 * row[m]:.1f}" for m in SHOWN)
                table.add_row(f"{name} ({row['n']:.0f})", system, *cells)
    session.out.print(table)
    speed = new_table("cost")
    for name in ("system", "search CPU p50, ms", "search p50, ms", "ingest, turns/s"):
        speed.add_column(name, justify="left" if name == "system" else "right")
    for system, result in results.items():
        cost = costs(result)
        keys = ("search CPU p50", "search p50", "ingest")
        speed.add_row(system, *(f"{cost[k]:.1f}" if k in cost else "" for k in keys))
    session.out.print(speed)
