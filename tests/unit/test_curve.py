"""The curve over k and budgets from given hits, and the chart that it becomes."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from cluster.cli.bench_curve import draw
from memos_ray.bench import curve
from memos_ray.bench.locomo_data import Question
from memos_ray.bench.svg import Line, Panel, chart
from memos_ray.types import Kind, MemoryItem, SearchHit, Source

SVG = "{http://www.w3.org/2000/svg}"


def _hit(turn, text):
    from datetime import UTC, datetime

    when = datetime(2023, 5, 8, tzinfo=UTC)
    source = Source(turn=turn, speaker="Ann", said_at=when)
    return SearchHit(
        "c", MemoryItem(turn, text, Kind.MESSAGE, when, None, when, when, sources=(source,)), 1.0
    )


def _asked(category=4):
    # Rendered, "2023-05-08 Ann: " costs 12 tokens: 4 words 16, 100 words 112.
    hits = [_hit("D1:1", "one two ten six"), _hit("D1:2", "word " * 100), _hit("D1:3", "one two ten six too")]
    return curve._asked(Question("q", "?", category, ("D1:1", "D1:3")), hits)


def test_recall_and_tokens_are_those_of_the_beginning_and_of_what_a_budget_takes():
    asked = _asked()
    by_k = dict(zip(curve.KS, zip(asked.recall, asked.tokens, strict=True), strict=True))
    one, two, three = (by_k[k] for k in (1, 2, 3))
    assert (one[0], two[0], three[0], by_k[200][0]) == (0.5, 0.5, 1.0, 1.0)
    assert two[1] - one[1] > 100
    assert three[1] == by_k[200][1]
    by_budget = dict(
        zip(curve.BUDGETS, zip(asked.budget_recall, asked.budget_hits, strict=True), strict=True)
    )
    assert by_budget[100] == (1.0, 2)  # the long one in the middle does not fit, the one behind it does
    assert by_budget[200] == (1.0, 3)


def test_rows_are_means_of_every_set():
    found = curve.Curve(asked=[_asked(4), _asked(1)])
    found.asked[1] = curve.Asked(1, (0.0,) * 9, (10,) * 9, (0.0,) * 6, (0,) * 6)
    found.seconds[1] = [0.010, 0.030]
    row = curve.over_k(found)[0]
    assert (row["categories 1-4"], row["multi-hop"], row["single-hop"]) == (0.25, 0.0, 0.5)
    assert row["p50 ms"] == pytest.approx(20.0)
    assert "temporal" not in row
    assert "p50 ms" not in curve.over_k(found)[1]
    assert curve.over_budgets(found)[0]["hits"] == 1.0


def test_the_drawing_has_every_point_and_its_words():
    found = curve.Curve(asked=[_asked()], seconds={k: [0.01 * k] for k in curve.KS})
    root = ElementTree.fromstring(draw(found))
    words = {text.text for text in root.iter(f"{SVG}text")}
    assert words >= {
        "hits (k)",
        "budget, tokens",
        "evidence found, %",
        "tokens, mean",
        "one search, ms",
        "search p95",
    }
    lines = [path.get("d") for path in root.iter(f"{SVG}path") if path.get("class") == "line"]
    points = sorted(len(d.split("L")) for d in lines if "L" in d)
    assert points == [6, 6] + [9] * 5  # two sets over k and over budgets, tokens, p50, p95
    assert "prefers-color-scheme:dark" in next(root.iter(f"{SVG}style")).text


def test_places_on_the_axes_are_right_and_text_is_escaped():
    panel = Panel("a < b", "x", "y", [Line("one & two", [(1, 0), (10, 50), (100, 100)])], (1, 10, 100))
    root = ElementTree.fromstring(chart("t", [panel], columns=1))
    assert "a < b" in {text.text for text in root.iter(f"{SVG}text")}
    (path,) = [
        p.get("d") for p in root.iter(f"{SVG}path") if "L" in (p.get("d") or "") and p.get("class") == "line"
    ]
    places = [tuple(map(float, place.split(","))) for place in path.removeprefix("M").split("L")]
    (x0, y0), (x1, y1), (x2, y2) = places
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.11)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.11)
    assert y2 < y0
    with pytest.raises(ValueError, match="points"):
        chart("t", [Panel("", "", "", [], ())])
