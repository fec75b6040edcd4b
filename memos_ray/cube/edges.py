"""The links of a cube as arrays: nodes are memories and entities, edges are typed, owned by the memory that holds them.

Read from the state by column, then kept current row by row. What belongs to the newest version of each memory
that is active or superseded is in; a memory that goes away takes the edges to it along. Knows nothing of ranking.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memos_ray.cube.columns import Growable, ragged, values_of
from memos_ray.cube.keys import KEY_FIELD
from memos_ray.cube.rows import JournalRow
from memos_ray.cube.state import KIND_CODE, STATUS_CODE, CubeState
from memos_ray.types import Kind, LinkType, Status

ENTITY = "entity:"
_SHOWN = (Status.ACTIVE, Status.SUPERSEDED)
_SHOWN_CODES = [STATUS_CODE[s] for s in _SHOWN]
_TRIPLE = KIND_CODE[Kind.TRIPLE]


def fold_name(name: str) -> str:
    """Two spellings of an entity are one node if they differ in case or Unicode form only."""
    return (name if name.isascii() else unicodedata.normalize("NFKC", name)).casefold().strip()


def triple_of(
    metadata: Mapping[str, Any], payload: Mapping[str, Any], links: Sequence[Any]
) -> tuple[str, str, str] | None:
    """(subject, relation, object) of a triple, as far as its row says them."""
    key = payload.get(KEY_FIELD)
    subject = metadata.get("subject") or (key[0] if key else None)
    relation = metadata.get("relation") or (key[1] if key else None)
    target = metadata.get("object")
    for link in links:
        if target is None and link.target.startswith(ENTITY) and link.type not in tuple(LinkType):
            relation, target = relation or link.type, link.target.removeprefix(ENTITY)
    if subject and relation and target:
        return str(subject), str(relation), str(target)
    return None


class Edges:
    """Edge arrays `source`, `target`, `type`, `weight`, `alive`, by edge number; numbers are never used again."""

    def __init__(self, state: CubeState) -> None:
        self._state = state
        n = state.n_memories
        self.memory_node = Growable(np.arange(n))
        self.node_memory = Growable(np.arange(n))
        self._entity_node: dict[str, int] = {}
        self._entity_name: dict[int, str] = {}
        self.types: list[str] = []
        self._type_code: dict[str, int] = {}
        self.killed: list[NDArray[np.int64]] = []  # edge numbers, in the order of their end
        self._appended: dict[int, tuple[int, int]] = {}  # memory -> its edges, if they came after the load
        self._shown = Growable(np.zeros(n, np.bool_))
        parts = self._load()
        self._ends = np.cumsum([len(p[0]) for p in parts]).tolist()  # in each part owners ascend
        columns = [np.concatenate(c) for c in zip(*parts, strict=True)]
        self.owner, self.source, self.target = (Growable(c.astype(np.int64)) for c in columns[:3])
        self.type, self.weight = (
            Growable(columns[3].astype(np.int16)),
            Growable(columns[4].astype(np.float32)),
        )
        self.alive = Growable(np.ones(len(columns[0]), np.bool_))
        for m, row in self._unloaded():
            self._append(m, row)

    @property
    def n_nodes(self) -> int:
        """Memories and entities together."""
        return self.node_memory.size

    @property
    def n_edges(self) -> int:
        """Edges that there are or were."""
        return self.source.size

    def name(self, node: int) -> str:
        """A memory's id, or `entity:<name>`."""
        memory = int(self.node_memory.view[node])
        return self._state.ids[memory] if memory >= 0 else ENTITY + self._entity_name[node]

    def names(self) -> list[str]:
        """The names of all nodes, by number."""
        ids, entities = self._state.ids, self._entity_name
        return [
            ids[m] if m >= 0 else ENTITY + entities[n] for n, m in enumerate(self.node_memory.view.tolist())
        ]

    def node(self, name: str) -> int | None:
        """The inverse of `name`; None if there is no such node. Merges are followed."""
        if name.startswith(ENTITY):
            return self.entity(name.removeprefix(ENTITY))
        if self._state.number(name) is None:
            return None
        m = self._state.number(self._state.resolve(name))
        return None if m is None or m >= self.memory_node.size else int(self.memory_node.view[m])

    def entity(self, name: str) -> int | None:
        """The node of an entity that some memory names."""
        return self._entity_node.get(fold_name(name))

    def apply(self, rows: Sequence[JournalRow]) -> bool:
        """Takes in rows that the state has applied. False: too much has changed, make new `Edges`.

        That is so when a memory was merged away or came back, since edges of others then lead elsewhere.
        """
        gone: list[int] = []
        for row in rows:
            if row.memory_id is None:
                continue
            m = self._state.number(row.memory_id)
            assert m is not None
            while self.memory_node.size <= m:
                self.memory_node.append(self.n_nodes)
                self.node_memory.append(self.memory_node.size - 1)
                self._shown.append(False)
            shown = row.status in _SHOWN
            if row.status is Status.MERGED or (shown and not self._shown.view[m] and row.version > 1):
                return False
            self._kill_owned(m)
            if shown:
                self._append(m, row)
            else:
                gone.append(int(self.memory_node.view[m]))
            self._shown.view[m] = shown
        if gone:
            self._kill(np.flatnonzero(self.alive.view & np.isin(self.target.view, gone)))
        return True

    def _kill_owned(self, m: int) -> None:
        span = self._appended.pop(m, None)
        if span is not None:
            self._kill(np.arange(*span)[self.alive.view[slice(*span)]])
            return
        start = 0
        for end in self._ends:
            a, b = (start + np.searchsorted(self.owner.view[start:end], (m, m + 1))).tolist()
            self._kill(np.arange(a, b)[self.alive.view[a:b]])
            start = end

    def _kill(self, numbers: NDArray[np.int64]) -> None:
        if len(numbers):
            self.alive.view[numbers] = False
            self.killed.append(numbers)

    def _append(self, m: int, row: JournalRow) -> None:
        start, node = self.n_edges, int(self.memory_node.view[m])
        triple = triple_of(row.metadata, row.payload, row.links) if row.kind is Kind.TRIPLE else None
        names = row.entities if triple is None else (*row.entities, triple[0], triple[2])
        for entity in dict.fromkeys(self._entity(name) for name in names):
            self._edge(m, node, entity, LinkType.MENTIONS, 1.0)
        for link in row.links:
            target = self._target(link.target)
            if target is not None:
                self._edge(m, node, target, link.type, link.weight)
        if triple is not None:
            self._edge(m, self._entity(triple[0]), self._entity(triple[2]), triple[1], 1.0)
        self._appended[m] = (start, self.n_edges)

    def _edge(self, m: int, source: int, target: int, kind: str, weight: float) -> None:
        self.owner.append(m)
        self.source.append(source)
        self.target.append(target)
        self.type.append(self._code(kind))
        self.weight.append(weight)
        self.alive.append(True)

    def _code(self, kind: str) -> int:
        code = self._type_code.get(kind)
        if code is None:
            code = self._type_code[str(kind)] = len(self.types)
            self.types.append(str(kind))
        return code

    def _entity(self, name: str) -> int:
        key = fold_name(name)
        node = self._entity_node.get(key)
        if node is None:
            node = self._entity_node[key] = self.n_nodes
            self._entity_name[node] = name
            self.node_memory.append(-1)
        return node

    def _target(self, target: str) -> int | None:
        if target.startswith(ENTITY):
            return self._entity(target.removeprefix(ENTITY))
        m = self._state.number(target)
        if m is not None and self._state.memory_slot.view[m] < 0:
            m = self._state.number(self._state.resolve(target))
        if m is None or m >= self._shown.size or not self._shown.view[m]:
            return None
        return int(self.memory_node.view[m])

    # -- reading a loaded state by column ---------------------------------------------------------------------

    def _load(self) -> list[tuple[NDArray[Any], ...]]:
        """Edges of the rows that lie in the table: parts of (owner, source, target, type, weight)."""
        state = self._state
        memories = np.flatnonzero(state.memory_slot.view >= 0)
        slots = state.memory_slot.view[memories]
        shown = np.isin(state.slot_status.view[slots], _SHOWN_CODES)
        self._shown.view[memories[shown]] = True
        loaded = shown & (state.slot_row.view[slots] < state.store.base)
        memories, rows = memories[loaded], state.slot_row.view[slots[loaded]]
        triples = state.slot_kind.view[slots[loaded]] == _TRIPLE
        return [
            self._load_mentions(memories, rows),
            self._load_links(memories, rows),
            self._load_triples(memories[triples], rows[triples]),
        ]

    def _unloaded(self) -> list[tuple[int, JournalRow]]:
        state = self._state
        memories = np.flatnonzero(self._shown.view)
        rows = state.slot_row.view[state.memory_slot.view[memories]]
        new = rows >= state.store.base
        return [
            (m, state.store.row(r)) for m, r in zip(memories[new].tolist(), rows[new].tolist(), strict=True)
        ]

    def _load_mentions(self, memories: NDArray[Any], rows: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        offsets, flat = self._state.store.spans("entities")
        owner, elements = ragged(memories, rows, offsets)
        encoded = flat.dictionary_encode()
        nodes = np.array([self._entity(name) for name in values_of(encoded.dictionary)], np.int64)
        codes = encoded.indices.to_numpy(zero_copy_only=False)[elements]
        mentions = np.full(len(owner), self._code(LinkType.MENTIONS))
        return owner, owner, nodes[codes] if len(codes) else owner, mentions, np.ones(len(owner))

    def _load_links(self, memories: NDArray[Any], rows: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        offsets, flat = self._state.store.spans("links")
        owner, elements = ragged(memories, rows, offsets)
        taken = flat.take(pa.array(elements))
        kinds = taken.field("type").dictionary_encode()
        code = np.array([self._code(k) for k in values_of(kinds.dictionary)], np.int64)
        kind = code[kinds.indices.to_numpy(zero_copy_only=False)] if len(owner) else owner
        names = values_of(taken.field("target"))
        target = self._state.numbers(names)  # on loading, a memory's node is its number
        plain = target >= 0
        plain[plain] = self._shown.view[target[plain]]
        for i in np.flatnonzero(~plain).tolist():  # entities, and memories that were merged or went away
            found = self._target(names[i])
            target[i] = -1 if found is None else found
        weight = taken.field("weight").to_numpy(zero_copy_only=False)
        there = target >= 0
        return owner[there], owner[there], target[there], kind[there], weight[there]

    def _load_triples(self, memories: NDArray[Any], rows: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        found: list[tuple[int, int, int, int, float]] = []
        for m, row in zip(memories.tolist(), self._state.store.rows(rows.tolist()), strict=True):
            triple = triple_of(row.metadata, row.payload, row.links)
            if triple is None:
                continue
            a, b = self._entity(triple[0]), self._entity(triple[2])
            found.append((m, a, b, self._code(triple[1]), 1.0))
            named = {self._entity(name) for name in row.entities}
            mentions = self._code(LinkType.MENTIONS)
            found += [(m, m, e, mentions, 1.0) for e in dict.fromkeys((a, b)) if e not in named]
        return tuple(np.array(c) for c in zip(*found, strict=True)) if found else (np.zeros(0),) * 5
