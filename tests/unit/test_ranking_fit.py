import json

import numpy as np
import pytest

from memos_ray.bench.ranking.fit import Lists, fit
from memos_ray.errors import Invalid
from memos_ray.retrieval.ranker import (
    FAMILIES,
    WEIGHTS,
    Family,
    Linear,
    Ranker,
    load_ranker,
    ranker_from,
    ranker_to,
)
from memos_ray.retrieval.signals.agreement import best_of_session
from memos_ray.retrieval.signals.ranks import reciprocal


def questions(rng, n=40):
    """Evidence is where `good` is highest; `noise` says nothing."""
    made = []
    for _ in range(n):
        good, noise = rng.normal(size=20).astype(np.float32), rng.normal(size=20).astype(np.float32)
        evidence = np.zeros(20, bool)
        evidence[np.argsort(-good)[:2]] = True
        made.append(({"good": good, "noise": noise}, evidence))
    return made


def test_the_fit_finds_the_signal_that_tells():
    linear = fit(Lists.join(questions(np.random.default_rng(1))))
    assert linear.weights["good"] > 10 * abs(linear.weights["noise"])
    found, evidence = questions(np.random.default_rng(2), 1)[0]
    scores = linear.score(found, 20)
    assert set(np.argsort(-scores)[:2]) == set(np.flatnonzero(evidence))


def test_chances_are_calibrated():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(100, 30)).astype(np.float32)
    evidence = rng.random(x.shape) < 1 / (1 + np.exp(-(2 * x - 2)))
    linear = fit(Lists.join([({"x": row}, gold) for row, gold in zip(x, evidence, strict=True)]))
    chances = linear.chance(linear.score({"x": x.ravel()}, x.size))
    for low, high in ((0.0, 0.1), (0.1, 0.4), (0.4, 1.0)):
        inside = (chances >= low) & (chances < high)
        assert evidence.ravel()[inside].mean() == pytest.approx(chances[inside].mean(), abs=0.05)


def test_questions_without_evidence_teach_nothing():
    rng = np.random.default_rng(4)
    some = questions(rng, 5)
    nothing = ({"good": np.ones(3, np.float32), "noise": np.ones(3, np.float32)}, np.zeros(3, bool))
    assert fit(Lists.join([*some, nothing])).weights == fit(Lists.join(some)).weights


def test_the_weights_that_are_shipped_hold_every_family():
    for name in WEIGHTS:
        ranker = load_ranker(name)
        assert set(ranker.families) == set(FAMILIES)
        assert ranker.about["data"]
        for family in ranker.families.values():
            for linear in filter(None, (family.first, family.second)):
                assert linear.slope > 0
                assert all(np.isfinite(w) for w in linear.weights.values())
        late = ranker.families["late"].first.weights
        assert "late" in late
        assert not [n for n in ranker.families["words"].first.weights if "late" in n or "dense" in n]
        assert [name for name, family in ranker.families.items() if family.second is not None] == ["late"]
    with pytest.raises(Invalid, match="dialogue"):
        load_ranker("other")


def test_weights_survive_json():
    family = Family(Linear({"a": 0.123456789}, 2.0, -1.0), Linear({"a": 1.0, "b": -2.0}))
    ranker = Ranker("x", {"late": family}, {"data": "d"})
    again = ranker_from("x", json.loads(json.dumps(ranker_to(ranker))))
    assert again.families["late"].second == family.second
    assert again.families["late"].first.weights["a"] == pytest.approx(0.123456789, rel=1e-4)


def test_a_session_is_as_good_as_its_best_three():
    values = np.array([4, 1, 2, 3, 0, 5], np.float32)
    session = np.array([7, 7, 7, 7, 8, -1])
    found = best_of_session(values, session)
    assert found.tolist() == [3, 3, 3, 3, 0, 5]
    assert best_of_session(np.array([], np.float32), np.array([], np.int64)).tolist() == []


def test_reciprocal_ranks():
    assert reciprocal(np.array([1, 3, 2], np.float32)).tolist() == pytest.approx([10 / 12, 1, 10 / 11])
