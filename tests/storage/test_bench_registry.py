"""The benchmark of the registry, at a small size: every figure is there and every check holds."""

from memos_ray.bench.registry import made_cubes, measure
from memos_ray.bench.report import Report
from memos_ray.cube.registry import Registry


def test_a_small_registry_is_measured(tmp_path):
    report = Report("registry", "test")
    ids = measure(report, str(tmp_path), 300, seed=1)
    assert report.passed, report.checks
    names = {figure.name for figure in report.figures}
    assert {
        "bulk registration",
        "single registration",
        "index: load from storage",
        "storage: look-up p99",
    } <= names
    assert {
        "index: memory a cube",
        "index: look-up p50",
        "index: page of 100 p99",
        "index: count p50",
    } <= names
    assert all(figure.value >= 0 for figure in report.figures)
    assert all(Registry(str(tmp_path)).lookup(i) for i in ids[:3])


def test_the_same_seed_makes_the_same_cubes():
    assert list(made_cubes(20, 3, 40)) == list(made_cubes(20, 3, 40))
    assert len({c.cube_id for c in [*made_cubes(20, 3), *made_cubes(20, 3, 20)]}) == 40
