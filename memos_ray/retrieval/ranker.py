"""A linear listwise ranker: named signals -> one score, and a chance that the candidate is evidence.

    score  = sum of weight x signal
    chance = 1 / (1 + exp(-(slope x score + offset)))

The weights maximise, over training questions, the mean log of softmax(score) of every piece of evidence against
all that is none (ListNet's top-one loss: Cao et al., 2007), with an L2 penalty on standardised weights; slope and
offset are fitted afterwards (Platt, 1999), so that a threshold means the same for every question and cube. They are
made by `memos-ray bench train-ranker` and lie in `weights/` as JSON that people can read.

Two rankings in a row, where there are token vectors: `first` from the signals of the query and the memory, `second`
from these and what the first found (`signals.hop`). A `family` is fitted for each set of signals there may be: with
token vectors, with one vector a memory, and with words alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from memos_ray.errors import Invalid
from memos_ray.retrieval.signals import Signal, Signals

FAMILIES = ("late", "dense", "words")
WEIGHTS = ("dialogue", "made")
"""`dialogue` was fitted on LoCoMo (CC BY-NC 4.0), `made` on conversations that this project makes by rule."""


@dataclass(frozen=True, slots=True)
class Linear:
    """Weights by signal; a signal that is missing counts as 0."""

    weights: Mapping[str, float]
    slope: float = 1.0
    offset: float = 0.0

    def score(self, found: Signals, n: int) -> Signal:
        """(n,) scores."""
        total = np.zeros(n, np.float32)
        for name, weight in self.weights.items():
            if (values := found.get(name)) is not None:
                total += np.float32(weight) * values
        return total

    def chance(self, scores: Signal) -> Signal:
        """(n,) in 0..1, rising with the scores."""
        chances: Signal = 1 / (1 + np.exp(-np.clip(self.slope * scores + self.offset, -30, 30)))
        return chances


@dataclass(frozen=True, slots=True)
class Family:
    """The rankings of one set of signals. Only `late` has a second: what the others find first is not sure enough to
    lean on. On LoCoMo it cost `dense` 0.6 points of recall in the first 10 and gave `words` 1.2; but there it also put
    the neighbours of a single good hit before other sessions' answers."""

    first: Linear
    second: Linear | None = None


@dataclass(frozen=True, slots=True)
class Ranker:
    """All families of one fit."""

    name: str
    families: Mapping[str, Family]
    about: Mapping[str, Any]

    def family(self, found: Signals) -> Family:
        """The one for what signals there are."""
        name = "late" if "late" in found else "dense" if "dense" in found else "words"
        return self.families[name]


@cache
def load_ranker(name: str) -> Ranker:
    """One of `WEIGHTS`, read once. Raises `Invalid` for another name."""
    if name not in WEIGHTS:
        raise Invalid(f"there are no weights {name!r}; known: {', '.join(WEIGHTS)}", argument="weights")
    text = files("memos_ray.retrieval").joinpath("weights", f"{name}.json").read_text(encoding="utf-8")
    return ranker_from(name, json.loads(text))


def ranker_from(name: str, value: Mapping[str, Any]) -> Ranker:
    """From the JSON that `ranker_to` makes."""
    families = {
        family: Family(*(Linear(**v[stage]) for stage in ("first", "second") if stage in v))
        for family, v in value["families"].items()
    }
    return Ranker(name, families, value["about"])


def ranker_to(ranker: Ranker) -> dict[str, Any]:
    """JSON-ready, weights rounded to five digits and in order of name."""

    def linear(r: Linear) -> dict[str, Any]:
        weights = {name: float(f"{w:.5g}") for name, w in sorted(r.weights.items())}
        return {"weights": weights, "slope": float(f"{r.slope:.5g}"), "offset": float(f"{r.offset:.5g}")}

    return {
        "about": dict(ranker.about),
        "families": {
            name: {"first": linear(f.first)} | ({"second": linear(f.second)} if f.second is not None else {})
            for name, f in ranker.families.items()
        },
    }
