"""Personalised PageRank over the edges of a cube, on a cached sparse matrix that follows the edges cheaply.

The matrix is built in full when it is first needed, and again when more than a share of it has changed. In
between, what came and went since is a second, small matrix that is added on the fly (edges that went count
negative there), so that a search after a write does not pay for a rebuild.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from memos_ray.cube.columns import ragged
from memos_ray.cube.edges import Edges
from memos_ray.types import LinkType

DAMPING = 0.5  # HippoRAG's choice: relevance fades within a few steps
STEPS = 6  # leaves at most 0.5 ** 6 = 1.6 % of the weight misplaced
_REBUILD_SHARE = 0.1
_REBUILD_FLOOR = 2_000
# That one message follows another says less than that both name the same person.
_WEIGHT: dict[str, float] = {LinkType.FOLLOWS: 0.5}

Vector = NDArray[np.float32]
_NO_DELTA = (np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))


class PageRank:
    """The matrix over the nodes of `edges`, and the ranking on it."""

    def __init__(self, edges: Edges) -> None:
        self._edges = edges
        self._base = sparse.csr_array((0, 0), dtype=np.float32)
        self._base_edges = -1
        self._base_killed = 0
        self._degree: Vector = np.zeros(0, np.float32)
        self._delta = _NO_DELTA
        self._inverse: Vector = np.zeros(0, np.float32)
        self._seen = (-1, -1, -1)

    def refresh(self) -> None:
        """Brings the matrix up to the edges. Called by `rank`; at 100k nodes a full build takes some 40 ms."""
        edges = self._edges
        seen = (edges.n_edges, len(edges.killed), edges.n_nodes)
        if seen == self._seen:
            return
        killed = edges.killed[self._base_killed :]
        changed = edges.n_edges - self._base_edges + sum(map(len, killed))
        if self._base_edges < 0 or changed > max(_REBUILD_FLOOR, _REBUILD_SHARE * self._base_edges):
            self._rebuild()
        else:
            self._follow(killed)
        self._seen = seen

    def _rebuild(self) -> None:
        edges = self._edges
        rows, columns, weight = self._entries(np.flatnonzero(edges.alive.view))
        shape = (edges.n_nodes, edges.n_nodes)
        self._base = sparse.csr_array(sparse.coo_array((weight, (rows, columns)), shape=shape))
        self._base_edges, self._base_killed = edges.n_edges, len(edges.killed)
        self._degree = np.asarray(self._base.sum(axis=1), np.float32).ravel()
        self._delta = _NO_DELTA
        self._inverse = _inverse(self._degree)

    def _follow(self, killed: list[NDArray[np.int64]]) -> None:
        edges, n = self._edges, self._edges.n_nodes
        went = np.concatenate([np.zeros(0, np.int64), *killed])
        went = went[went < self._base_edges]
        came = np.flatnonzero(edges.alive.view[self._base_edges :]) + self._base_edges
        rows, columns, weight = self._entries(np.concatenate([went, came]))
        weight[: len(went)] *= -1
        weight[len(went) + len(came) : 2 * len(went) + len(came)] *= -1
        self._delta = rows, columns, weight
        degree = np.zeros(n, np.float32)
        degree[: len(self._degree)] = self._degree
        np.add.at(degree, rows, weight)
        self._inverse = _inverse(degree)

    def _entries(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int32], Vector]:
        """(rows, columns, weights) of the symmetric adjacency of these edges: all one way, then the other."""
        edges = self._edges
        by_type = np.array([_WEIGHT.get(t, 1.0) for t in edges.types] or [1.0], np.float32)
        a, b = edges.source.view[numbers].astype(np.int32), edges.target.view[numbers].astype(np.int32)
        weight = edges.weight.view[numbers] * by_type[edges.type.view[numbers]]
        return np.concatenate([a, b]), np.concatenate([b, a]), np.concatenate([weight, weight])

    def rank(self, seeds: Mapping[int, float]) -> Vector:
        """Scores of all nodes, adding up to 1, for a walk that restarts at `seeds` (node -> relative weight).

        Power iteration of  x = (1 - d) s + d (A D^-1 x + lost s)  with the symmetric weights A, their sums D, the
        seeds s, and `lost` the weight on nodes without edges (Page et al. 1999, "The PageRank Citation Ranking",
        with a personalised restart as in Haveliwala 2002). After k steps at most d^k of the weight is misplaced.
        """
        self.refresh()
        n = len(self._inverse)
        s = np.zeros(n, np.float32)
        for node, share in seeds.items():
            s[node] += share
        total = float(s.sum())
        if total <= 0:
            return s
        s /= total
        x: Vector = s
        rows, columns, weight = self._delta
        near = np.flatnonzero(s)
        for step in range(STEPS):
            z = x * self._inverse
            y = self._spread_from(near, z) if step == 0 else self._spread(z)
            if len(rows):
                np.add.at(y, rows, weight * z[columns])
            lost = 1.0 - float(y.sum())
            x = y * np.float32(DAMPING)
            x += np.float32(1.0 - DAMPING + DAMPING * lost) * s
        return np.maximum(x, 0, out=x)

    def _spread(self, z: Vector) -> Vector:
        """A z for the base matrix."""
        m = self._base.shape[0]
        if m == len(z):
            return self._base @ z  # type: ignore[no-any-return]
        return np.concatenate([self._base @ z[:m], np.zeros(len(z) - m, np.float32)])

    def _spread_from(self, nodes: NDArray[np.int64], z: Vector) -> Vector:
        """The same where only these few nodes have weight: reads their rows alone."""
        base, m = self._base, self._base.shape[0]
        nodes = nodes[nodes < m]
        share, at = ragged(z[nodes], nodes, base.indptr)
        y = np.zeros(len(z), np.float32)
        np.add.at(y, base.indices[at], share * base.data[at])
        return y


def _inverse(degree: Vector) -> Vector:
    """1 / degree; 0 for nodes without edges, and where rounding left next to nothing."""
    out = np.zeros(len(degree), np.float32)
    np.divide(1.0, degree, out=out, where=degree > 1e-4)
    return out
