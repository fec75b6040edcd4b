"""A short run of `memos-ray bench chaos`: every kind of fault once, on a cluster of three nodes, under load."""

import asyncio
from pathlib import Path

import pytest

from cluster import chaos
from cluster.faulty import FaultyCluster
from memos_ray import AsyncMemOS
from memos_ray.bench.chaos.plan import Fault, plan

pytestmark = [pytest.mark.ray, pytest.mark.fault, pytest.mark.timeout(280)]


def test_every_kind_of_fault_is_got_over_and_nothing_acknowledged_is_lost(tmp_path: Path):
    cluster = FaultyCluster(nodes=3)
    try:
        memory = AsyncMemOS(
            data=str(tmp_path), address=cluster.address, embedder="hash", cubes_per_actor=2, warm_actors=2
        )
        memory.connect()
        faults = plan(len(Fault), seed=5, pause_s=0.5)
        found = asyncio.run(
            chaos.run(
                cluster,
                memory,
                faults,
                cubes=4,
                writers=4,
                readers=4,
                seed=5,
                until=lambda: False,
                step=lambda what, done, of: None,
            )
        )
        memory.close()
    finally:
        cluster.close()
    assert not found.books.wrong, found.books.examples
    assert {o.fault for o in found.outcomes} == set(Fault)
    assert all(o.recovered for o in found.outcomes), found.outcomes
    assert found.books.writes > 4
    assert found.books.reads > 4
