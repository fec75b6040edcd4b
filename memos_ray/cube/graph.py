"""The graph of one cube: what is linked to what, for people, for algorithms and for ranking.

Links live in the rows; this is their readable form, kept current as rows are applied: neighbourhoods straight
from edge arrays, personalised PageRank on a cached matrix, and a networkx graph for everything else. Nothing is
built before it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from memos_ray.cube.edges import ENTITY, Edges
from memos_ray.cube.pagerank import PageRank
from memos_ray.cube.rows import JournalRow
from memos_ray.cube.state import CubeState, not_found
from memos_ray.errors import Invalid, NotFound

MAX_DEPTH = 6
MAX_NODES = 1_000


class MemoryGraph:
    """Links of the newest versions that are active or superseded. Call `apply` with whatever the state applied."""

    def __init__(self, state: CubeState) -> None:
        self._state = state
        self._edges: Edges | None = None
        self._ranking: PageRank | None = None
        self._networkx: nx.MultiDiGraph | None = None
        self._mirrored = (0, 0)  # edges and kills that the networkx graph holds

    def apply(self, rows: Sequence[JournalRow]) -> None:
        """Follows rows that the state has applied."""
        if self._edges is not None and not self._edges.apply(rows):
            self._edges = self._ranking = self._networkx = None

    def warm(self) -> None:
        """Builds what ranking needs."""
        self._ranker().refresh()

    # -- ranking ----------------------------------------------------------------------------------------------

    def ppr(
        self, seeds: Mapping[int, float], entities: Mapping[str, float] | None = None
    ) -> NDArray[np.float32]:
        """Personalised PageRank restarting at `seeds` (slot -> weight) and `entities` (name -> weight).

        Weights are relative; unknown entities are ignored. One score per slot: (n_slots,) float32. All versions
        of a memory have its score. See `PageRank.rank` for the formula.
        """
        ranker, edges, state = self._ranker(), self._current(), self._state
        nodes: dict[int, float] = {}
        for slot, weight in seeds.items():
            node = int(edges.memory_node.view[state.slot_memory.view[slot]])
            nodes[node] = nodes.get(node, 0.0) + weight
        for name, weight in (entities or {}).items():
            found = edges.entity(name)
            if found is not None:
                nodes[found] = nodes.get(found, 0.0) + weight
        scores = ranker.rank(nodes)
        by_slot: NDArray[np.float32] = scores[edges.memory_node.view].take(state.slot_memory.view)
        return by_slot

    # -- looking around ---------------------------------------------------------------------------------------

    def neighbours(self, node: str, *, depth: int = 1, types: Sequence[str] | None = None) -> dict[str, Any]:
        """What lies within `depth` links of a memory (its id) or an entity (`entity:<name>`), in both directions.

        `types` restricts the links followed. Returns {"node": name, "nodes": [{"id", "depth"}, …], "edges":
        [{"source", "target", "type", "weight"}, …], "truncated": whether there were more than 1000 nodes}. Raises
        `NotFound`, and `Invalid` for a depth outside 1 to 6.
        """
        if not isinstance(depth, int) or not 1 <= depth <= MAX_DEPTH:
            raise Invalid(f"depth must be from 1 to {MAX_DEPTH}, not {depth!r}", argument="depth")
        edges = self._current()
        start = self._start(node)
        usable = edges.alive.view.copy()
        if types is not None:
            usable &= np.isin(edges.type.view, [i for i, t in enumerate(edges.types) if t in types])
        source, target = edges.source.view, edges.target.view
        level = np.full(edges.n_nodes, -1)
        level[start] = 0
        found, truncated = [start], False
        for step in range(1, depth + 1):
            inside = level == step - 1
            out, back = usable & inside[source], usable & inside[target]
            reached = np.unique(np.concatenate([target[out], source[back]]))
            reached = reached[level[reached] < 0]
            room = MAX_NODES - len(found)
            truncated = truncated or len(reached) > room
            level[reached[:room]] = step
            found += reached[:room].tolist()
            if truncated or not len(reached):
                break
        between = np.flatnonzero(usable & (level[source] >= 0) & (level[target] >= 0))
        return {
            "node": edges.name(start),
            "nodes": [{"id": edges.name(n), "depth": int(level[n])} for n in found],
            "edges": [self._edge(edges, e) for e in between.tolist()],
            "truncated": truncated,
        }

    @property
    def networkx(self) -> nx.MultiDiGraph:
        """The graph as networkx has it: nodes are memory ids and `entity:<name>`; edges have `type`, `weight` and
        `memory` (the id of the memory whose link it is).

        Brought up to date by what changed since it was last asked for. Links are changed by updating memories.
        """
        edges = self._current()
        graph = self._networkx
        if graph is None:
            graph = self._networkx = nx.MultiDiGraph()
            self._mirrored = (0, len(edges.killed))
        done, killed = self._mirrored
        names = edges.names()
        for numbers in edges.killed[killed:]:
            for e in numbers[numbers < done].tolist():
                a, b = names[edges.source.view[e]], names[edges.target.view[e]]
                graph.remove_edge(a, b, key=e)
                graph.remove_nodes_from([n for n in {a, b} if graph.degree(n) == 0])
        new = np.flatnonzero(edges.alive.view[done:]) + done
        columns = (edges.source, edges.target, edges.type, edges.weight, edges.owner)
        ids, types = self._state.ids, edges.types
        graph.add_edges_from(
            (names[a], names[b], e, {"type": types[t], "weight": w, "memory": ids[m]})
            for e, a, b, t, w, m in zip(new.tolist(), *(c.view[new].tolist() for c in columns), strict=True)
        )
        state = self._state
        slots = state.memory_slot.view
        graph.add_nodes_from(state.ids[m] for m in np.flatnonzero(slots >= 0).tolist())
        self._mirrored = (edges.n_edges, len(edges.killed))
        return graph

    # -- inside -----------------------------------------------------------------------------------------------

    def _current(self) -> Edges:
        if self._edges is None:
            self._edges = Edges(self._state)
        return self._edges

    def _ranker(self) -> PageRank:
        if self._ranking is None:
            self._ranking = PageRank(self._current())
        return self._ranking

    def _start(self, name: str) -> int:
        node = self._current().node(name)
        if node is None:
            if name.startswith(ENTITY):
                raise NotFound(f"no memory names {name.removeprefix(ENTITY)!r}", what="entity", id=name)
            raise not_found(name, known=False)
        if not name.startswith(ENTITY) and self._state.find(name) is None:
            raise not_found(name, known=True)
        return node

    def _edge(self, edges: Edges, e: int) -> dict[str, Any]:
        source, target = int(edges.source.view[e]), int(edges.target.view[e])
        kind, weight = edges.types[int(edges.type.view[e])], float(edges.weight.view[e])
        return {"source": edges.name(source), "target": edges.name(target), "type": kind, "weight": weight}
