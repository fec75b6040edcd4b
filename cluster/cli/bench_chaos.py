"""`memos-ray bench chaos`: kills and stops parts of a small cluster under load, and audits what became of the data."""

from __future__ import annotations

import asyncio
import tempfile
from statistics import median
from typing import Annotated

import typer

from cluster.cli.bench_output import command_line, finish, steps
from cluster.cli.session import Session
from memos_ray._siblings import load

_NEVER = (
    "acknowledged writes lost",
    "duplicates",
    "resurrected deletes",
    "deleted memories served",
    "stale writes accepted",
    "reads older than 1 s",
)
_AIMS = {"cube actor killed": "at most 3 s", "raylet killed": "at most 15 s"}


def chaos(
    session: Session,
    faults: Annotated[int, typer.Option(min=1, help="How many faults.")] = 50,
    seed: Annotated[int, typer.Option(help="Which faults, and when.")] = 20_261_122,
    nodes: Annotated[int, typer.Option(min=2, help="Nodes of the cluster; the first is spared.")] = 3,
    cubes: Annotated[int, typer.Option(min=1, help="Cubes that are used.")] = 6,
    cubes_per_actor: Annotated[int, typer.Option(min=1, help="Cubes that share a process.")] = 2,
    writers: Annotated[int, typer.Option(min=1, help="Callers that write.")] = 8,
    readers: Annotated[int, typer.Option(min=0, help="Callers that read.")] = 8,
    max_seconds: Annotated[float, typer.Option(min=1, help="Begin no fault after so long.")] = 1_500.0,
) -> int:
    """Kill and stop actors, nodes, directory and embedder under load; nothing acknowledged may be lost.

    Runs a Ray cluster of several nodes on this machine, with storage in a temporary folder.
    """
    from memos_ray.bench.chaos.plan import Fault, plan
    from memos_ray.bench.report import Deadline, Report
    from memos_ray.memos import AsyncMemOS

    report = Report("memos-ray bench chaos", command_line())
    deadline = Deadline(max_seconds)
    with (
        tempfile.TemporaryDirectory(prefix="memos-ray-bench-", ignore_cleanup_errors=True) as scratch,
        steps(session) as step,
    ):
        step("starting a cluster", 0, 1)
        cluster = load("cluster.faulty").FaultyCluster(nodes=nodes)
        try:
            memory = AsyncMemOS(
                data=scratch,
                address=cluster.address,
                embedder="hash",
                cubes_per_actor=cubes_per_actor,
                warm_actors=2,
            )
            memory.connect()
            found = asyncio.run(
                load("cluster.chaos").run(
                    cluster,
                    memory,
                    plan(faults, seed),
                    cubes=cubes,
                    writers=writers,
                    readers=readers,
                    seed=seed,
                    until=deadline.expired,
                    step=step,
                )
            )
            memory.close()
        finally:
            cluster.close()
    books = found.books
    for fault in Fault:
        waits = found.waits(fault)
        if waits:
            note = f"{len(waits)} times, median {median(waits):.2f} s; the longest that a caller of that cube waited"
            report.figure(f"{fault}, unavailable", max(waits), "s", note=note, aim=_AIMS.get(fault, ""))
    report.figure(
        "acknowledged writes", books.writes, "", note=f"by {writers} writers in {found.seconds:.0f} s"
    )
    report.figure(
        "memories read", books.reads, "", note=f"by {readers} readers, each compared with what was known"
    )
    report.figure(
        "oldest read", books.oldest_read_s, "s", note="how long a change had been known that it did not show"
    )
    report.figure("calls that failed after all retries", len(found.errors), "")
    report.figure("stopped owners that woke up", found.woken, "", note="each was asked to write")
    for kind in _NEVER:
        report.check(f"0 {kind}", books.wrong[kind] == 0, f"{books.wrong[kind]}")
    if Fault.STALL in {o.fault for o in found.outcomes}:
        report.check("a stopped owner woke up and was asked to write", found.woken > 0, f"{found.woken}")
    report.check(
        "every fault was got over", all(o.recovered for o in found.outcomes), f"{len(found.outcomes)} faults"
    )
    report.notes += books.examples + [f"a caller was told: {e}" for e in found.errors[:5]]
    return finish(session, report)
