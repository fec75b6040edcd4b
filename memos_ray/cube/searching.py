"""What one cube is searched with: text index, names, speakers and session order, kept up with its state.

Joins the state (versions and slots) to `retrieval` (arrays over slots). Catching up is lazy: new slots are
taken in by the next search, so nothing of this is on the acknowledgement path.
"""

from __future__ import annotations

import calendar
import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memos_ray.cube.checkpoint import NAMES, ORDER, SPEAKERS, TEXT, Opened
from memos_ray.cube.columns import to_us
from memos_ray.cube.graph import MemoryGraph
from memos_ray.cube.rowstore import from_us
from memos_ray.cube.slot_facts import SlotFacts
from memos_ray.cube.state import CubeState
from memos_ray.ingest.dates import find_mentions
from memos_ray.retrieval.arms import CubeIndexes, EmbeddedQuery
from memos_ray.retrieval.arrays import Mask, Saved, Slots
from memos_ray.retrieval.bm25 import TextIndex, idf
from memos_ray.retrieval.dense import DenseIndex
from memos_ray.retrieval.neighbours import SessionOrder
from memos_ray.retrieval.query import NameIndex, ParsedQuery, QueryParser, words_of
from memos_ray.retrieval.query_vectors import QueryVectors
from memos_ray.retrieval.question import Question, is_listing, kind_of, months_of
from memos_ray.retrieval.search import Ranked
from memos_ray.retrieval.signals import Signal
from memos_ray.retrieval.speakers import SpeakerIndex
from memos_ray.retrieval.token_index import TokenIndex
from memos_ray.retrieval.tokens import tokenize
from memos_ray.types import AskedFor, Explanation, LinkType, SearchHit

log = logging.getLogger(__name__)

_READABLE = 0.8  # share of a query's letters that the embedder must know for its vectors to count
_SEED_WORDS = 100  # of one memory that lead to others
_RARE = 0.02  # share of the memories that may hold a word which leads to others


class _Features(NamedTuple):
    """What the indexes want to know of a slot beside its text."""

    slot: int
    speaker: str | None
    role: str | None
    entities: list[str]
    follows: str | None


class CubeSearcher:
    """The indexes of one cube over the slots of its state."""

    def __init__(self, state: CubeState, graph: MemoryGraph, checkpoint: Opened | None = None) -> None:
        """`checkpoint` is of the state's first rows; the first look at it is that of `catch_up`."""
        self._state = state
        self._graph = graph
        self._text = TextIndex()
        self._order = SessionOrder()
        self._speakers = SpeakerIndex()
        self._names = NameIndex()
        self._facts = SlotFacts(state)
        self._parser = QueryParser(self._names, self._speakers.names, self._text.query_terms, _asked)
        self._checkpoint = checkpoint
        self._taken = 0

    def saved(self) -> dict[str, Saved]:
        """Parts of a checkpoint of all slots of this moment."""
        self.catch_up()
        return {
            TEXT: self._text.saved(),
            NAMES: self._names.saved(),
            SPEAKERS: self._speakers.saved(),
            ORDER: self._order.saved(),
        }

    def _restore(self, checkpoint: Opened) -> None:
        text = checkpoint.restored(TextIndex.restored, TEXT)
        names = checkpoint.restored(NameIndex.restored, NAMES)
        speakers = checkpoint.restored(SpeakerIndex.restored, SPEAKERS)
        order = checkpoint.restored(SessionOrder.restored, ORDER)
        if text is None or names is None or speakers is None or order is None:
            return
        slots = checkpoint.made.slots
        if len(text) != slots or len(order) != slots or slots > self._state.n_slots:
            log.warning("a checkpoint is not used: it is of other slots than it says")
            return
        self._text, self._names, self._speakers, self._order = text, names, speakers, order
        self._parser = QueryParser(names, speakers.names, text.query_terms, _asked)
        self._taken = slots

    def catch_up(self, most: int | None = None) -> bool:
        """Takes in the slots that came to be since the last time, `most` of them if it is given. Says whether all."""
        if self._checkpoint is not None:
            checkpoint, self._checkpoint = self._checkpoint, None
            self._restore(checkpoint)
        start, stop = self._taken, self._state.n_slots
        stop = stop if most is None else min(stop, start + most)
        if start == stop:
            return True
        slots = range(start, stop)
        self._text.add_many(slots, self._state.texts(slots))
        ids, memory = self._state.ids, self._state.slot_memory.view
        for slot, speaker, role, entities, follows in self._features(slots):
            self._order.add(slot, ids[memory[slot]], follows)
            if speaker or role:
                self._speakers.add(slot, speaker, role)
            for name in entities:
                self._names.add(name)
        self._taken = stop
        return stop == self._state.n_slots

    def parse(self, query: str, now: datetime) -> ParsedQuery:
        """The query, with the names that this cube knows. Relative times ("last week") count from `now`."""
        return self._parser.parse(query, now.toordinal(), self._text.vocabulary.n_languages)

    def embedded(self, query: ParsedQuery, vectors: QueryVectors | None, mask: Mask) -> EmbeddedQuery | None:
        """The query's vectors, with the idf under `mask` of the word that each token is of.

        None if the model's vocabulary lacks much of the query (Chinese, for an English model): such vectors say less
        than the words do.
        """
        if vectors is None or _read(query.dense_text, vectors) < _READABLE:
            return None
        if vectors.token_vectors is None or vectors.spans is None:
            return EmbeddedQuery(vectors.vector)
        terms, ends = _embedded_words(query.dense_text)
        at = np.searchsorted(ends, vectors.spans[:, 0], side="right").clip(max=max(0, len(terms) - 1))
        weights = self._text.idf(terms, mask)[at] if terms else np.ones(len(vectors.spans), np.float32)
        return EmbeddedQuery(vectors.vector, vectors.token_vectors, weights)

    def indexes(self, dense: DenseIndex | None, tokens: TokenIndex | None) -> CubeIndexes:
        """What `retrieval.search` takes."""
        state = self._state
        return CubeIndexes(
            text=self._text,
            facts=self._facts.of,
            dense=dense,
            tokens=tokens,
            graph=self._graph,
            order=self._order,
            speakers=self._speakers,
            texts=state.texts,
            entities_of=lambda slot: state.item(slot).entities,
            shared=self._shared,
        )

    def _shared(self, seeds: Slots, slots: Slots, terms: Sequence[str], mask: Mask) -> Signal:
        """See `signals.hop`: the part that `slots` hold of the idf of the rare words of `seeds`, without `terms`."""
        asked = frozenset(terms)
        texts = self._state.texts(seeds.tolist())
        of_seeds = (t for text in texts for t in tokenize(text)[:_SEED_WORDS] if t not in asked)
        words = list(dict.fromkeys(of_seeds))
        frequencies = self._text.frequencies(words, mask)
        rare = np.flatnonzero((frequencies >= 2) & (frequencies <= max(2.0, _RARE * len(self._text))))
        holding, counts = self._text.found([words[i] for i in rare.tolist()], mask)
        if not len(holding):
            return np.zeros(len(slots), np.float32)
        weights = idf(frequencies[rare], max(1, int(np.count_nonzero(mask))))
        at = np.minimum(holding.searchsorted(slots), len(holding) - 1)
        holds = (counts[:, at] > 0) & (holding[at] == slots)
        shares: Signal = (weights / weights.sum()) @ holds.astype(np.float32)
        return shares

    def hits(self, ranked: Iterable[Ranked], query: ParsedQuery, *, explain: bool) -> list[SearchHit]:
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
                explanation=self._explanation(hit, query) if explain else None,
                place=self._order.place(hit.slot),
            )
            for hit, item in zip(ranked, items, strict=True)
        ]

    def _explanation(self, hit: Ranked, query: ParsedQuery) -> Explanation:
        brought_by = None if hit.neighbour_of is None else self._state.item(hit.neighbour_of).id
        return Explanation(
            arms=dict(hit.arms),
            signals=dict(hit.signals),
            query=_asked_for(query),
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
            speaker, role = (row.sources[0].speaker, row.sources[0].role) if row.sources else (None, None)
            follows = next((link.target for link in row.links if link.type == LinkType.FOLLOWS), None)
            yield _Features(slot, speaker, role, list(row.entities), follows)

    def _loaded_features(self, slots: range, rows: NDArray[np.int64]) -> Iterator[_Features]:
        first, last = int(rows[slots[0]]), int(rows[slots[-1]]) + 1
        store = self._state.store

        def of_these(spans: tuple[NDArray[np.int64], pa.Array]) -> tuple[list[int], pa.Array]:
            offsets, flat = spans
            ends = offsets[first : last + 1]
            return (ends - ends[0]).tolist(), flat.slice(int(ends[0]), int(ends[-1] - ends[0]))

        source_ends, sources = of_these(store.source_spans())
        speakers: list[str | None] = sources.field("speaker").to_pylist()
        roles: list[str | None] = sources.field("role").to_pylist()
        entity_ends, entity_column = of_these(store.entity_spans())
        entities: list[str] = entity_column.to_pylist()
        link_ends, links = of_these(store.link_spans())
        types: list[str] = links.field("type").to_pylist()
        targets: list[str] = links.field("target").to_pylist()
        for slot in slots:
            r = int(rows[slot]) - first
            at = source_ends[r]
            speaker, role = (speakers[at], roles[at]) if source_ends[r + 1] > at else (None, None)
            names = entities[entity_ends[r] : entity_ends[r + 1]]
            follows = None
            for i in range(link_ends[r], link_ends[r + 1]):
                if types[i] == LinkType.FOLLOWS:
                    follows = targets[i]
                    break
            yield _Features(slot, speaker, role, names, follows)


@lru_cache(maxsize=1_000)
def _embedded_words(text: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The term of each word of an embedded text ("" for none), and where the word ends."""
    words = words_of(text)
    terms = tuple((tokenize(word) or [""])[0] for word, _, _ in words)
    return terms, np.array([end for _, _, end in words], np.int64)


def _read(text: str, vectors: QueryVectors) -> float:
    """The share of the letters and digits of `text` that are in tokens which the model knows; 1 if it does not say."""
    letters = sum(c.isalnum() for c in text)
    if vectors.spans is None or not letters:
        return 1.0
    known = sum(c.isalnum() for start, end in vectors.spans.tolist() for c in text[start:end])
    return known / letters


def _asked(text: str, day: int) -> Question:
    """The kind of question and its times, asked on the `day` of that ordinal. A month without a year is any year's."""
    now = datetime.fromordinal(day).replace(tzinfo=UTC)
    named = find_mentions(text, now, absolute_only=True)
    months = months_of(text) if not named else frozenset()
    if not months:
        named = find_mentions(text, now)
    spans = tuple((to_us(m.start), to_us(m.end)) for m in named)
    return Question(kind_of(text), is_listing(text), spans, months)


def _asked_for(query: ParsedQuery) -> AskedFor:
    question = query.question
    spans = [(from_us(start), from_us(end)) for start, end in question.spans]
    times = [f"{start:%Y-%m-%d}/{end:%Y-%m-%d}" for start, end in spans if start and end]
    times += [f"every {calendar.month_name[month]}" for month in sorted(question.months)]
    return AskedFor(
        terms=query.terms,
        entities=query.entities,
        speakers=query.speakers,
        embedded=query.dense_text,
        kind=question.kind,
        listing=question.listing,
        times=tuple(times),
    )
