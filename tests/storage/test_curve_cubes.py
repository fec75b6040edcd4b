"""The curve measured on real cubes, without Ray."""

from __future__ import annotations

import pytest
from scripted_chat import locomo_file

from memos_ray.bench import curve
from memos_ray.bench.locomo_data import read_locomo
from memos_ray.bench.report import Deadline, Report
from memos_ray.sync import Cube, _Loop
from memos_ray.testing.local import LocalCubes


class Memory:
    """What the benchmark uses of `MemOS`, over cubes of this process."""

    def __init__(self, cubes):
        self.cubes = cubes

    def cube(self, cube_id):
        return Cube(_Loop.run(self.cubes.cube(cube_id)))

    def add(self, messages, *, cube_id, **more):
        return self.cube(cube_id).add(messages, **more)

    def search(self, query, *, cube_id, **more):
        return self.cube(cube_id).search(query, **more)

    def stats(self, cube_id):
        return self.cube(cube_id).stats()


@pytest.fixture
def memory(tmp_path):
    cubes = LocalCubes(str(tmp_path / "data"))
    yield Memory(cubes)
    _Loop.run(cubes.close())


def measured(memory, tmp_path, **options):
    talks = read_locomo(locomo_file(tmp_path / "talks.json"))
    given = {"recipe": None, "sample": 2, "step": lambda *_: None, "deadline": Deadline(600)} | options
    found, report = curve.measure(memory, talks, **given), Report("t", "c")
    curve.fill_report(report, talks, found)
    return found, report


def test_recall_tokens_and_latency_over_k_and_budgets(memory, tmp_path):
    found, report = measured(memory, tmp_path)
    assert report.passed
    assert (len(found.asked), found.compared, found.exceeded) == (8, 4 * (9 + 6), 0)
    assert {len(seconds) for seconds in found.seconds.values()} == {4}
    figures = {f.name: f.value for f in report.figures}
    assert figures["k=3, categories 1-4, recall"] == figures["k=200, categories 1-4, recall"] == 100.0
    assert figures["k=1, tokens"] < figures["k=2, tokens"] < figures["k=3, tokens"] == figures["k=5, tokens"]
    assert figures["budget=100, hits"] == 3
    assert figures["k=200, p95"] >= figures["k=200, p50"] > 0
    assert figures["searches that give the beginning of the longest list"] == 100.0


def test_no_sample_no_latency_and_a_deadline_ends_it(memory, tmp_path):
    _, report = measured(memory, tmp_path, sample=0)
    assert not any("p50" in f.name for f in report.figures)
    found, report = measured(memory, tmp_path, deadline=Deadline(0))
    assert not found.complete
    assert any("--max-seconds" in note for note in report.notes)
