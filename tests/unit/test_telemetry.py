"""The table of metrics, and that nothing is labelled by what there can be millions of."""

import re
import time

import pytest

from memos_ray import telemetry
from memos_ray.telemetry import METRICS, SEARCH_SECONDS, Stages, misuse

FORBIDDEN = {
    "cube",
    "cube_id",
    "user",
    "user_id",
    "agent",
    "agent_id",
    "run_id",
    "memory_id",
    "query",
    "text",
}
FORBIDDEN |= {"request_id", "op_id", "host", "pid", "error_message"}


def test_no_metric_is_labelled_by_cube_user_or_text():
    for metric in METRICS.values():
        assert not FORBIDDEN & set(metric.tags), metric.name
        assert not any("id" in tag.split("_") for tag in metric.tags), metric.name
        assert bool(metric.tags) == bool(metric.values), f"{metric.name} does not say what its tags may be"


def test_every_metric_has_a_name_a_unit_and_sensible_buckets():
    named = {value for key, value in vars(telemetry).items() if key.isupper() and isinstance(value, str)}
    assert named == set(METRICS)
    for metric in METRICS.values():
        assert re.fullmatch(r"memos_[a-z_]+", metric.name)
        assert metric.unit
        assert metric.help.endswith(".")
        assert (metric.kind == "histogram") == bool(metric.boundaries)
        assert list(metric.boundaries) == sorted(set(metric.boundaries))
        assert all(bound > 0 for bound in metric.boundaries)


def test_what_prometheus_sees():
    assert METRICS["memos_calls"].exported == "ray_memos_calls_total"
    assert METRICS["memos_cubes"].exported == "ray_memos_cubes"
    assert METRICS["memos_call_seconds"].exported == "ray_memos_call_seconds"


@pytest.mark.parametrize(
    ("name", "kind", "tags", "said"),
    [
        ("memos_nonsense", "counter", {}, "no metric"),
        ("memos_calls", "gauge", {"verb": "search", "outcome": "ok"}, "is a counter"),
        ("memos_calls", "counter", {"verb": "search"}, "has the tags"),
        ("memos_calls", "counter", {"verb": "search", "outcome": "ok", "cube": "c"}, "has the tags"),
    ],
)
def test_what_is_not_in_the_table_is_told(name, kind, tags, said):
    assert said in misuse(name, kind, tags)


def test_what_is_in_the_table_is_right():
    assert misuse("memos_calls", "counter", {"outcome": "ok", "verb": "search"}) is None


class Recorder:
    def __init__(self):
        self.figures = []

    def count(self, name, n=1, **tags):
        self.figures.append(("counter", name, n, tags))

    def observe(self, name, value, **tags):
        self.figures.append(("histogram", name, value, tags))

    def gauge(self, name, value, **tags):
        self.figures.append(("gauge", name, value, tags))


def test_stages_follow_each_other():
    recorder = Recorder()
    before = telemetry.use(recorder)
    try:
        began = time.perf_counter()
        stages = Stages()
        stages.done("dense")
        stages.done("text")
        passed = time.perf_counter() - began
    finally:
        assert telemetry.use(before) is recorder
    assert [(kind, name, tags) for kind, name, _, tags in recorder.figures] == [
        ("histogram", SEARCH_SECONDS, {"stage": "dense"}),
        ("histogram", SEARCH_SECONDS, {"stage": "text"}),
    ]
    assert 0 <= sum(value for _, _, value, _ in recorder.figures) <= passed
