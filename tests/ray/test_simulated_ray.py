"""The simulation of placement against real Ray: the same calls, the same counts within a tolerance."""

import asyncio
from pathlib import Path

import pytest

from memos_ray.bench.report import Report
from memos_ray.bench.simulated import Scenario, compare
from memos_ray.placement.traffic import Traffic

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


def test_the_simulation_agrees_with_the_real_thing(tmp_path: Path):
    traffic = Traffic(cubes=10, sessions_per_s=1.5, calls=4.0, gap_s=1.0, items=5, skew=0.5)
    scenario = Scenario(traffic=traffic, seconds=12.0, cubes_per_actor=4, idle_s=2.0)
    report = Report("simulated", "pytest")
    asyncio.run(compare(report, scenario, str(tmp_path), "test-simulated", lambda *_: None))
    assert report.passed, [check for check in report.checks if not check.holds]
    figures = {figure.name: figure.value for figure in report.figures}
    assert figures["activations"] >= 5
    assert figures["passivations"] > 0
