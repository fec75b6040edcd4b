import random
from datetime import UTC, datetime

import networkx as nx
import numpy as np
import pytest

from memos_ray.cube import pagerank
from memos_ray.cube.graph import MemoryGraph
from memos_ray.cube.requests import (
    AddMemories,
    ArchiveMemory,
    CreateSnapshot,
    DeleteMemories,
    MergeMemories,
    RestoreSnapshot,
    UpdateMemory,
)
from memos_ray.errors import Invalid, NotFound
from memos_ray.ingest.drafts import MemoryDraft
from memos_ray.testing.plain_journal import PlainJournal
from memos_ray.types import Kind, Link, Source

T = datetime(2024, 5, 1, tzinfo=UTC)


class Cube(PlainJournal):
    """With a graph that follows the state from the start."""

    def __init__(self) -> None:
        super().__init__()
        self.graph = MemoryGraph(self.state)
        self.graph.warm()
        self._on_apply = lambda slots, rows: self.graph.apply(rows)
        self._take_up(self.state)

    def add(self, *drafts: MemoryDraft) -> tuple[str, ...]:
        return self.submit(AddMemories(drafts)).ids  # type: ignore[no-any-return]

    def check(self) -> None:
        """The graph that followed equals one that is built from the state, and from a folded state."""
        folded = self.state.from_table("cube", self.state.store.to_table())
        seeds = {int(s): 1.0 for s in np.flatnonzero(self.state.newest_slots())[:3]}
        mine, names = self.graph, {"Ann": 1.0, "nobody": 2.0}
        for other in (MemoryGraph(self.state), MemoryGraph(folded)):
            assert arcs(mine) == arcs(other)
            assert mine.ppr(seeds, names) == pytest.approx(other.ppr(seeds, names), abs=1e-6)


def arcs(graph: MemoryGraph) -> list[tuple[str, str, str, float]]:
    found = graph.networkx.edges(data=True)
    return sorted((a, b, d["type"], round(d["weight"], 5)) for a, b, d in found)


def said(text: str, *entities: str, session: str = "s") -> MemoryDraft:
    return MemoryDraft(text, Kind.MESSAGE, T, entities=entities, source=Source(session=session))


def triple(subject: str, relation: str, obj: str) -> MemoryDraft:
    meta = {"subject": subject, "relation": relation, "object": obj}
    links = (Link(relation, f"entity:{obj}"),)
    text = f"{subject} {relation} {obj}"
    return MemoryDraft(text, Kind.TRIPLE, T, metadata=meta, links=links, entities=(subject, obj))


@pytest.fixture
def cube() -> Cube:
    return Cube()


def test_edges_have_types(cube: Cube) -> None:
    a, b = cube.add(said("a", "Ann"), said("b", "ANN", "Bo"))
    (t,) = cube.add(triple("Ann", "knows", "Bo"))
    (d,) = cube.add(
        MemoryDraft("d", Kind.FACT, T, links=(Link("similar", a, 0.5), Link("similar", "unknown")))
    )
    ann, bo = "entity:Ann", "entity:Bo"
    assert arcs(cube.graph) == sorted(
        [
            (a, ann, "mentions", 1.0),
            (b, ann, "mentions", 1.0),
            (b, bo, "mentions", 1.0),
            (b, a, "follows", 1.0),
            (t, ann, "mentions", 1.0),
            (t, bo, "mentions", 1.0),
            (t, bo, "knows", 1.0),
            (ann, bo, "knows", 1.0),
            (d, a, "similar", 0.5),
        ]
    )
    assert cube.graph.networkx[ann][bo]
    cube.check()


def test_the_graph_follows_changes(cube: Cube) -> None:
    a, b, c = cube.add(said("a", "Ann"), said("b", "Bo"), said("c", "Ann", "Bo"))
    facts = cube.add(
        *(MemoryDraft(f"f{i}", Kind.FACT, T, entities=("Ann",), links=(Link("x", a),)) for i in range(3))
    )
    cube.check()
    cube.submit(CreateSnapshot("s"))
    cube.submit(UpdateMemory(b, text="B", entities=("Cy",)))
    cube.check()
    assert "entity:Cy" in cube.graph.networkx
    cube.submit(DeleteMemories((b,)))
    cube.check()
    assert b not in cube.graph.networkx
    cube.submit(ArchiveMemory(c))
    cube.check()
    cube.submit(MergeMemories(facts[0], (facts[1],)))
    (later,) = cube.add(MemoryDraft("g", Kind.FACT, T, links=(Link("x", facts[1]),)))
    cube.check()
    assert (later, facts[0], "x", 1.0) in arcs(cube.graph)
    cube.submit(RestoreSnapshot("s"))
    cube.check()
    assert (b, "entity:Bo", "mentions", 1.0) in arcs(cube.graph)


def test_neighbours(cube: Cube) -> None:
    a, b, c = cube.add(said("a", "Ann"), said("b"), said("c", "Ann"))
    near = cube.graph.neighbours(a)
    assert near["node"] == a
    assert {n["id"]: n["depth"] for n in near["nodes"]} == {a: 0, b: 1, "entity:Ann": 1}
    assert {(e["source"], e["target"], e["type"]) for e in near["edges"]} == {
        (a, "entity:Ann", "mentions"),
        (b, a, "follows"),
    }
    assert {n["id"] for n in cube.graph.neighbours(a, depth=2)["nodes"]} == {a, b, c, "entity:Ann"}
    only = cube.graph.neighbours("entity:ann", depth=3, types=["mentions"])
    assert [n["id"] for n in only["nodes"]] == ["entity:Ann", a, c]
    assert not only["truncated"]
    assert cube.graph.neighbours(b, types=["nothing"])["edges"] == []
    for missing in ("nope", "entity:nope"):
        with pytest.raises(NotFound):
            cube.graph.neighbours(missing)
    cube.submit(DeleteMemories((b,)))
    with pytest.raises(NotFound, match="deleted"):
        cube.graph.neighbours(b)
    for depth in (0, 7, "2"):
        with pytest.raises(Invalid):
            cube.graph.neighbours(a, depth=depth)  # type: ignore[arg-type]


def test_neighbours_of_a_hub_are_bounded(cube: Cube) -> None:
    cube.add(*(said(f"m{i}", "Ann", session=f"s{i}") for i in range(1200)))
    near = cube.graph.neighbours("entity:Ann", depth=3)
    assert (len(near["nodes"]), near["truncated"]) == (1000, True)


def test_ranking_is_personalised_pagerank(cube: Cube) -> None:
    rng = random.Random(7)
    names = [f"E{i}" for i in range(12)]
    ids = cube.add(*(said(f"m{i}", *rng.sample(names, 2), session=f"s{i % 5}") for i in range(60)))
    undirected = nx.Graph()
    for a, b, data in cube.graph.networkx.edges(data=True):
        weight = data["weight"] * (0.5 if data["type"] == "follows" else 1.0)
        before = undirected.get_edge_data(a, b, {"weight": 0.0})["weight"]
        undirected.add_edge(a, b, weight=before + weight)
    start = {ids[3]: 2.0, "entity:E4": 1.0}
    expected = nx.pagerank(undirected, alpha=pagerank.DAMPING, personalization=start, tol=1e-10)
    slot = cube.state.slot_of(ids[3])
    assert slot is not None
    scores = cube.graph.ppr({slot: 2.0}, {"E4": 1.0})
    assert scores.dtype == np.float32
    assert np.abs(scores - [expected[i] for i in ids]).sum() < pagerank.DAMPING**pagerank.STEPS
    assert int(scores.argmax()) == slot


def test_ranking_gives_every_version_of_a_memory_its_score(cube: Cube) -> None:
    (a,) = cube.add(said("a", "Ann"))
    cube.submit(UpdateMemory(a, text="A", entities=("Ann",)))
    scores = cube.graph.ppr({0: 1.0}, {})
    assert scores[0] == scores[1] > 0
    assert cube.graph.ppr({}, {"nobody": 1.0}).tolist() == [0.0, 0.0]
    assert MemoryGraph(Cube().state).ppr({}, {}).tolist() == []


def test_small_changes_do_not_rebuild_the_matrix(cube: Cube) -> None:
    cube.add(*(said(f"m{i}", f"E{i % 7}") for i in range(50)))
    cube.graph.ppr({0: 1.0})
    base = cube.graph._ranking._base  # type: ignore[union-attr]
    for i in range(5):
        (new,) = cube.add(said(f"n{i}", "E1", f"F{i}"))
        cube.submit(UpdateMemory(new, text="changed", entities=("E2",)))
        cube.check()
    assert cube.graph._ranking._base is base  # type: ignore[union-attr]
