"""The dashboard and the alerts speak of the metrics that there are, and of all of them."""

import json
import re
from pathlib import Path

import yaml

from memos_ray.telemetry import METRICS

FOLDER = Path(__file__).parents[2] / "cluster" / "grafana"
NAME = re.compile(r"\bray_memos_[a-z_]+\b")


def exported() -> dict[str, set[str]]:
    """Metric -> the names of its series."""
    return {
        metric.name: {f"{metric.exported}_{end}" for end in ("bucket", "sum", "count")}
        if metric.kind == "histogram"
        else {metric.exported}
        for metric in METRICS.values()
    }


def expressions() -> list[str]:
    board = json.loads((FOLDER / "memos_ray.json").read_text())
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]


def labels_of(expression: str) -> set[tuple[str, str]]:
    """(series, label) for what is written in braces behind a series."""
    found = re.findall(r"(ray_memos_[a-z_]+)\{([^}]*)\}", expression)
    return {(name, label) for name, inside in found for label in re.findall(r"([A-Za-z_]+)\s*[=!]", inside)}


def test_the_dashboard_shows_every_metric_and_no_other():
    named = {name for expression in expressions() for name in NAME.findall(expression)}
    series = exported()
    assert named <= set().union(*series.values())
    assert [name for name, ends in series.items() if not named & ends] == []


def test_its_labels_exist():
    tags = {end: METRICS[name].tags for name, ends in exported().items() for end in ends}
    for expression in expressions():
        for name, label in labels_of(expression):
            assert label == "SessionName" or label in tags[name], expression
        used = {tag for name in NAME.findall(expression) for tag in tags[name]} | {"le"}
        for by in re.findall(r"by \(([^)]*)\)", expression):
            assert {label.strip() for label in by.split(",")} <= used, expression


def test_panels_do_not_overlap_and_have_their_own_ids():
    panels = json.loads((FOLDER / "memos_ray.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & own, panel["title"]
        assert all(x < 24 for x, _ in own)
        cells |= own


def test_alerts_are_rules_on_metrics_that_exist():
    rules = [r for g in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"] for r in g["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 5
    tags = {end: METRICS[name].tags for name, ends in exported().items() for end in ends}
    for rule in rules:
        assert {"alert", "expr", "labels", "annotations"} <= set(rule)
        assert {"summary", "description"} == set(rule["annotations"])
        assert NAME.findall(rule["expr"]), rule
        assert set(NAME.findall(rule["expr"])) <= set(tags)
        assert all(label in tags[name] for name, label in labels_of(rule["expr"])), rule
        assert rule["expr"].count("(") == rule["expr"].count(")")
