"""What one cube is searched with: text index, names, speakers and session order, kept up with its state.

Joins the state (versions and slots) to `retrieval` (arrays over slots). Catching up is lazy: new slots are
taken in by the next search, so nothing of this is on the acknowledgement path.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memos_ray.cube.graph import MemoryGraph
from memos_ray.cube.state import CubeState
from memos_ray.retrieval.arms import CubeIndexes
from memos_ray.retrieval.bm25 import TextIndex
from memos_ray.retrieval.dense import DenseIndex
from memos_ray.retrieval.neighbours import SessionOrder
from memos_ray.retrieval.query import NameIndex, ParsedQuery, QueryParser
from memos_ray.retrieval.render import render
from memos_ray.retrieval.search import Ranked
from memos_ray.retrieval.speakers import SpeakerIndex
from memos_ray.types import Explanation, LinkType, SearchHit


class _Features(NamedTuple):
    """What the indexes want to know of a slot beside its text."""

    slot: int
    speaker: str | None
    entities: list[str]
    follows: str | None


class CubeSearcher:
    """The indexes of one cube over the slots of its state."""

    def __init__(self, state: CubeState, graph: MemoryGraph) -> None:
        self._state = state
        self._graph = graph
        self._text = TextIndex()
        self._order = SessionOrder()
        self._speakers = SpeakerIndex()
        self._names = NameIndex()
        self._parser = QueryParser(self._names, self._speakers.names)
        self._taken = 0

    def catch_up(self) -> None:
        """Takes in the slots that came to be since the last time."""
        start, stop = self._taken, self._state.n_slots
        if start == stop:
            return
        slots = range(start, stop)
        self._text.add_many(slots, self._state.texts(slots))
        ids, memory = self._state.ids, self._state.slot_memory.view
        for slot, speaker, entities, follows in self._features(slots):
            self._order.add(slot, ids[memory[slot]], follows)
            if speaker:
                self._speakers.add(slot, speaker)
            for name in entities:
                self._names.add(name)
        self._taken = stop

    def parse(self, query: str) -> ParsedQuery:
        """The query, with the names that this cube knows."""
        return self._parser.parse(query, tuple(self._text.query_terms(query)))

    def indexes(self, dense: DenseIndex | None) -> CubeIndexes:
        """What `retrieval.search` takes."""
        state = self._state
        return CubeIndexes(
            text=self._text,
            dense=dense,
            graph=self._graph,
            order=self._order,
            speakers=self._speakers,
            rendered=lambda slot: render(state.item(slot)),
            entities_of=lambda slot: state.item(slot).entities,
        )

    def hits(self, ranked: Iterable[Ranked], *, explain: bool) -> list[SearchHit]:
        """Slots -> hits with their memories."""
        state, ranked = self._state, list(ranked)
        items = state.items(
            [hit.slot for hit in ranked]
        )  # together: decoding one at a time costs ten times as much
        return [
            SearchHit(
                cube_id=state.cube_id,
                item=item,
                score=hit.score,
                explanation=self._explanation(hit) if explain else None,
                tokens=hit.tokens,
            )
            for hit, item in zip(ranked, items, strict=True)
        ]

    def _explanation(self, hit: Ranked) -> Explanation:
        brought_by = None if hit.neighbour_of is None else self._state.item(hit.neighbour_of).id
        return Explanation(
            arms=dict(hit.arms),
            fused=hit.fused,
            neighbour_of=brought_by,
            matched_terms=hit.matched_terms,
            matched_entities=hit.matched_entities,
        )

    def _features(self, slots: range) -> Iterator[_Features]:
        """Loaded rows are read by the column (no objects), appended ones from their objects."""
        store, rows = self._state.store, self._state.slot_row.view
        loaded = len(store) - len(store.appended)
        split = slots.start + int(np.searchsorted(rows[slots.start : slots.stop], loaded))
        if split > slots.start:
            yield from self._loaded_features(range(slots.start, split), rows)
        for slot in range(split, slots.stop):
            row = store.appended[int(rows[slot]) - loaded]
            speaker = row.sources[0].speaker if row.sources else None
            follows = next((link.target for link in row.links if link.type == LinkType.FOLLOWS), None)
            yield _Features(slot, speaker, list(row.entities), follows)

    def _loaded_features(self, slots: range, rows: NDArray[np.int64]) -> Iterator[_Features]:
        store = self._state.store
        source_at, sources = store.source_spans()
        speakers: list[str | None] = sources.field("speaker").to_pylist()
        entity_at, entity_column = store.entity_spans()
        entities: list[str] = entity_column.to_pylist()
        link_at, links = store.link_spans()
        types: list[str] = links.field("type").to_pylist()
        targets: list[str] = links.field("target").to_pylist()
        source_ends, entity_ends, link_ends = source_at.tolist(), entity_at.tolist(), link_at.tolist()
        for slot in slots:
            r = int(rows[slot])
            speaker = speakers[source_ends[r]] if source_ends[r + 1] > source_ends[r] else None
            names = entities[entity_ends[r] : entity_ends[r + 1]]
            follows = None
            for i in range(link_ends[r], link_ends[r + 1]):
                if types[i] == LinkType.FOLLOWS:
                    follows = targets[i]
                    break
            yield _Features(slot, speaker, names, follows)
