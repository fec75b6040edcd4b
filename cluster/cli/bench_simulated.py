"""`memos-ray bench simulated`: is the simulation of placement like the real thing?"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace
from typing import Annotated

import typer

from cluster.cli.bench_output import command_line, finish, steps
from cluster.cli.session import Session


def simulated(
    session: Session,
    seconds: Annotated[float, typer.Option(min=5, help="How long calls are made.")] = 60.0,
    cubes: Annotated[int, typer.Option(min=1, help="Cubes that are called.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Of the calls.")] = 0,
) -> int:
    """Makes the same seeded calls of a real system and of the simulation, and compares what was counted."""
    from memos_ray.bench import simulated as bench
    from memos_ray.bench.report import Report

    report = Report("memos-ray bench simulated", command_line())
    base = bench.Scenario()
    scenario = replace(base, seconds=seconds, seed=seed, traffic=replace(base.traffic, cubes=cubes))
    with (
        tempfile.TemporaryDirectory(prefix="memos-ray-bench-", ignore_cleanup_errors=True) as scratch,
        steps(session) as step,
    ):
        asyncio.run(bench.compare(report, scenario, scratch, "bench-simulated", step))
    return finish(session, report)
