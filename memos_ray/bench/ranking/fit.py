"""Weights of a linear listwise ranker from questions with evidence. Arrays in, weights out.

    loss = - mean over all evidence e of log( exp s(e) / (exp s(e) + sum over the rest of its question exp s(r)) )
           + l2 |w|²        with w the weights of standardised signals

Each piece of evidence counts the same, so that questions with much of it are not lost among the many with one piece
(against each question counting the same, leave one out: 0.3 points of recall in the first 10, of multi-hop 0.7).

(ListNet's top-one loss with each piece of evidence against all that is none: Cao et al., "Learning to rank: from
pairwise approach to listwise approach", 2007.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memos_ray.retrieval.ranker import Linear

L2 = 0.1
_STEPS = 80


@dataclass(frozen=True, slots=True)
class Lists:
    """Candidates of many questions, one question after another: `x` (m, signals), `evidence` (m,) bool, `question`
    (m,) ascending numbers. Every question has evidence among its candidates."""

    names: tuple[str, ...]
    x: NDArray[np.float32]
    evidence: NDArray[np.bool_]
    question: NDArray[np.int64]

    @staticmethod
    def join(questions: Sequence[tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_]]]) -> Lists:
        """From (signals, evidence) of each question. Those without evidence among the candidates teach nothing."""
        useful = [(found, gold) for found, gold in questions if gold.any()]
        names = tuple(sorted(useful[0][0]))
        return Lists(
            names,
            np.concatenate([np.stack([found[n] for n in names], axis=1) for found, _ in useful]),
            np.concatenate([gold for _, gold in useful]),
            np.repeat(np.arange(len(useful)), [len(gold) for _, gold in useful]),
        )


def fit(lists: Lists, l2: float = L2) -> Linear:
    """The weights, with slope and offset of the chance that a candidate is evidence."""
    from scipy.optimize import minimize

    mean, spread = lists.x.mean(0), lists.x.std(0) + 1e-6
    x = (lists.x - mean) / spread
    first = np.flatnonzero(np.r_[True, np.diff(lists.question) > 0])
    gold = np.flatnonzero(lists.evidence)
    of = lists.question[gold]
    share = np.full(len(gold), 1 / len(gold), np.float32)
    rest = (~lists.evidence).astype(np.float32)

    def loss(w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scores = x @ w.astype(np.float32)
        raised = np.exp(scores - np.maximum.reduceat(scores, first)[lists.question])
        beside = np.add.reduceat(raised * rest, first)[of] + raised[gold]
        chance = raised[gold] / beside
        slope = np.zeros(len(scores), np.float32)
        slope[gold] = -share * (1 - chance)
        slope += (
            raised * rest * np.bincount(of, share / beside, len(first)).astype(np.float32)[lists.question]
        )
        value = -float(share @ np.log(np.maximum(chance, 1e-30))) + l2 * float(w @ w)
        return value, (x.T @ slope).astype(np.float64) + 2 * l2 * w

    found = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS})
    weights = found.x / spread
    raw = (lists.x @ weights.astype(np.float32)).astype(np.float64)
    slope, offset = _calibrate(raw, lists.evidence)
    return Linear(dict(zip(lists.names, weights.tolist(), strict=True)), slope, offset)


def _calibrate(scores: NDArray[np.float64], evidence: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset of a logistic curve (Platt scaling)."""
    from scipy.optimize import minimize

    centre, width = float(scores.mean()), float(scores.std()) + 1e-9
    z, y = (scores - centre) / width, evidence.astype(np.float64)

    def loss(p: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logit = p[0] * z + p[1]
        value = float(np.mean(np.logaddexp(0, logit) - y * logit))
        error = 1 / (1 + np.exp(-logit)) - y
        return value, np.array([np.mean(error * z), np.mean(error)])

    a, b = minimize(loss, np.array([1.0, -3.0]), jac=True, method="L-BFGS-B").x
    return float(a / width), float(b - a * centre / width)
