"""One MemCube: journal, fold, planner, indexes and upkeep joined, with a verb for everything a caller can ask.

Knows nothing of Ray, nor of where its tables lie (see `opening`). Lives on one event loop.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa

from memos_ray import telemetry
from memos_ray.arguments import check_filters, check_flag, check_query, check_whole, wanted_hits
from memos_ray.config import Settings
from memos_ray.cube import views
from memos_ray.cube.checkpoint import Checkpoints, Opened
from memos_ray.cube.checkpointing import CheckpointKeeper
from memos_ray.cube.deriving import Deriver
from memos_ray.cube.filters import parse_filter, scope_filter
from memos_ray.cube.graph import MemoryGraph
from memos_ray.cube.journal import Journal
from memos_ray.cube.merging import NearDuplicates
from memos_ray.cube.planner import CubePlanner
from memos_ray.cube.requests import (
    KEEP,
    AddMemories,
    ArchiveMemory,
    CreateSnapshot,
    DeleteAll,
    DeleteMemories,
    MaybeTime,
    Request,
    RestoreMemory,
    RestoreSnapshot,
    SnapshotResult,
    UpdateMemory,
    WriteResult,
    call_digest,
)
from memos_ray.cube.rows import JournalRow
from memos_ray.cube.searching import CubeSearcher
from memos_ray.cube.state import CubeState
from memos_ray.cube.upkeep import VectorUpkeep
from memos_ray.cube.validate import Limits
from memos_ray.errors import Invalid, Moved, NotFound
from memos_ray.ids import check_id
from memos_ray.ingest.dates import find_mentions
from memos_ray.ingest.documents import parse_document
from memos_ray.ingest.entities import find_entities, unique
from memos_ray.ingest.messages import parse_messages
from memos_ray.ingest.sizes import message_sizes, text_size, triple_sizes
from memos_ray.ingest.triples import parse_triples
from memos_ray.process import rss_bytes
from memos_ray.protocols import Clock, Extractor
from memos_ray.retrieval.arms import CubeIndexes, ask_arms
from memos_ray.retrieval.arrays import Mask
from memos_ray.retrieval.pool import Pool
from memos_ray.retrieval.query import ParsedQuery
from memos_ray.retrieval.query_vectors import QueryVectors
from memos_ray.retrieval.rank import make_pool
from memos_ray.retrieval.recipe import Recipe, recipe_named
from memos_ray.retrieval.rerank import Places
from memos_ray.retrieval.search import Placed, SearchOptions
from memos_ray.retrieval.search import search as search_indexes
from memos_ray.types import HistoryEntry, MemoryItem, SearchHit

VERBS = frozenset(
    {
        "add_messages",
        "add_document",
        "add_triples",
        "search",
        "get",
        "get_all",
        "update",
        "delete",
        "delete_all",
        "archive",
        "restore",
        "history",
        "snapshot",
        "snapshots",
        "restore_snapshot",
        "neighbours",
        "stats",
        "export_table",
    }
)

READING = frozenset(
    {"search", "get", "get_all", "history", "snapshots", "neighbours", "stats", "export_table"}
)
"""The verbs that change nothing."""

Consistency = Literal["latest"] | None
Scope = Mapping[str, str]  # user_id, agent_id or run_id that a memory must have
T = TypeVar("T")

# What is larger is parsed in a thread, so that it does not hold up everybody else: 16 kB take about 10 ms.
_INLINE_ITEMS = 100
_INLINE_BYTES = 16_000
# Share of `call_timeout_s` that a search waits for vectors before it says how many are missing.
_PATIENCE = 0.25


class MemCube:
    """An active cube. Make it with `opening.open_cube` (or from parts, in tests); `close` it at the end."""

    def __init__(
        self,
        journal: Journal,
        state: CubeState,
        upkeep: VectorUpkeep,
        *,
        clock: Clock,
        settings: Settings,
        extractor: Extractor,
        checkpoints: Checkpoints | None = None,
        index: Opened | None = None,
    ) -> None:
        """Without `checkpoints` none is written; `index` is the one that `state` was made with."""
        self.cube_id = state.cube_id
        self._journal = journal
        self._state = state
        self._upkeep = upkeep
        self._clock = clock
        self._settings = settings
        self._graph = MemoryGraph(state)
        self._searcher = CubeSearcher(state, self._graph, index)
        limits = Limits(max_text_bytes=settings.max_text_bytes, max_batch=settings.max_batch)
        self._planner = CubePlanner(state, clock=clock, limits=limits, on_apply=self._applied)
        self._deriver = Deriver(self._planner, self._write, extractor, max_batch=settings.max_batch)
        self._near = NearDuplicates(state, journal.submit)
        self._keeper = (
            None
            if checkpoints is None
            else CheckpointKeeper(checkpoints, index, journal, state, self._searcher, upkeep)
        )
        self._closed = False
        self._expecting: asyncio.Task[None] | None = None
        journal.start(self._planner)
        upkeep.start()

    @property
    def lost(self) -> Moved | None:
        """Why this process may not speak for the cube any more; None while it may."""
        return self._journal.lost

    @property
    def epoch(self) -> int:
        """The owner's epoch: grows with every activation."""
        return self._journal.epoch

    @property
    def items(self) -> int:
        """Versions that hold text: what the cube's size in memory follows."""
        return self._state.n_slots

    async def close(self) -> None:
        """Drains the queue, stops the background work and writes checkpoints. What one part raises keeps no other from
        closing."""
        self._closed = True
        if self._expecting is not None:
            self._expecting.cancel()
        async with AsyncExitStack() as stack:  # the last one pushed closes first
            if self._keeper is not None:
                stack.push_async_callback(self._keeper.close)
            stack.push_async_callback(self._journal.close)
            stack.push_async_callback(self._upkeep.close)
            stack.push_async_callback(self._near.close)

    def expect_writes(self) -> None:
        """Makes in a thread what the first write looks things up in; one that comes sooner makes it itself."""
        if self._expecting is None and not self._closed:
            self._expecting = asyncio.create_task(self._make_hints(), name="memos-hints")

    async def _make_hints(self) -> None:
        try:
            loaded = await asyncio.to_thread(self._planner.indexes.loaded)
        except (
            ValueError,
            RuntimeError,
        ):  # damaged rows, of which whoever needs them is told; or the process is ending
            return
        self._planner.indexes.take(loaded)

    async def checkpoint(self) -> None:
        """Writes what saves the next activation time, as far as it is not in storage yet. `close` does so too."""
        if self._keeper is not None:
            await self._keeper.write()

    # -- writing ----------------------------------------------------------------------------------------------

    async def add_messages(
        self,
        messages: Any,
        *,
        op_id: str,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
        expires_at: datetime | None = None,
        infer: bool = False,
        conversation: str | None = None,
        session: str | None = None,
    ) -> WriteResult:
        """See `AsyncMemOS.add`."""
        call: dict[str, Any] = {
            "timestamp": timestamp,
            "conversation": conversation,
            "session": session,
            "metadata": metadata,
            "expires_at": expires_at,
        }
        check_flag(infer, "infer")
        settings, now = self._settings, self._clock.now()
        size = message_sizes(messages, most=settings.max_text_bytes, max_batch=settings.max_batch)

        def parse() -> AddMemories:
            asked = {"messages": messages, **call, **({"infer": True} if infer else {})}
            digest = call_digest("add_messages", asked)
            return AddMemories(parse_messages(messages, now=now, **call), op_id=op_id, call_digest=digest)

        request = await _parsed(parse, messages, size)
        result = await self._write(request)
        if not infer:
            return result
        return replace(result, events=result.events + await self._deriver.derived(request, result))

    async def add_document(
        self,
        text: str,
        *,
        op_id: str,
        document: str,
        title: str | None = None,
        format: str = "auto",
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
    ) -> WriteResult:
        """See `AsyncMemOS.add_document`."""
        size = len(text.encode(errors="surrogatepass")) if isinstance(text, str) else 0
        if size > self._settings.max_document_bytes:
            raise Invalid(
                f"the document has {size} bytes; at most {self._settings.max_document_bytes} are taken",
                argument="text",
            )
        call: dict[str, Any] = {
            "document": document,
            "title": title,
            "format": format,
            "metadata": metadata,
            "valid_from": timestamp,
        }
        now = self._clock.now()

        def parse() -> AddMemories:
            digest = call_digest("add_document", {"text": text, **call})
            return AddMemories(parse_document(text, now=now, **call), op_id=op_id, call_digest=digest)

        return await self._write(await _parsed(parse, text, size))

    async def add_triples(
        self,
        triples: Sequence[Any],
        *,
        op_id: str,
        functional: bool = False,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
    ) -> WriteResult:
        """See `AsyncMemOS.add_triples`."""
        call: dict[str, Any] = {"functional": functional, "metadata": metadata, "valid_from": timestamp}
        check_flag(functional, "functional")
        settings, now = self._settings, self._clock.now()
        size = triple_sizes(triples, most=settings.max_text_bytes, max_batch=settings.max_batch)

        def parse() -> AddMemories:
            digest = call_digest("add_triples", {"triples": triples, **call})
            return AddMemories(parse_triples(triples, now=now, **call), op_id=op_id, call_digest=digest)

        return await self._write(await _parsed(parse, triples, size))

    async def update(
        self,
        memory_id: str,
        *,
        op_id: str,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        valid_from: Any = KEEP,
        valid_to: MaybeTime = KEEP,
        expires_at: MaybeTime = KEEP,
        if_version: int | None = None,
        scope: Scope | None = None,
    ) -> WriteResult:
        """See `AsyncMemOS.update`. A new text is read for entities and dates like any other."""
        check_id(memory_id, "memory_id")
        if if_version is not None:
            check_whole(if_version, "if_version", 1)
        size = text_size(text, "text", "text", self._settings.max_text_bytes)
        call: dict[str, Any] = {
            "text": text,
            "metadata": metadata,
            "valid_from": valid_from,
            "valid_to": valid_to,
            "expires_at": expires_at,
            "if_version": if_version,
        }
        await self._check_scope(memory_id, scope, op_id)
        known = self._state.find(memory_id)

        def read() -> UpdateMemory:
            found: dict[str, Any] = {}
            if isinstance(text, str) and known is not None:
                said_at = valid_from if isinstance(valid_from, datetime) else known.valid_from
                speaker = known.source.speaker
                names = find_entities(text, (speaker,) if speaker else ())
                found = {
                    "entities": unique((speaker, *names)) if speaker else names,
                    "times": find_mentions(text, said_at),
                }
            digest = _scoped_digest("update", {"memory_id": memory_id, **call}, scope)
            return UpdateMemory(memory_id, op_id=op_id, call_digest=digest, **call, **found)

        return await self._write(await _parsed(read, text, size))

    async def delete(self, memory_id: str, *, op_id: str, scope: Scope | None = None) -> WriteResult:
        """See `AsyncMemOS.delete`."""
        digest = await self._check_one("delete", memory_id, scope, op_id)
        return await self._write(DeleteMemories((memory_id,), op_id=op_id, call_digest=digest))

    async def delete_all(self, *, op_id: str, filters: Mapping[str, Any] | None = None) -> WriteResult:
        """See `AsyncMemOS.delete_all`."""
        wanted = check_filters(filters)
        return await self._write(DeleteAll(wanted or {}, everything=not wanted, op_id=op_id))

    async def archive(self, memory_id: str, *, op_id: str, scope: Scope | None = None) -> WriteResult:
        """See `AsyncMemOS.archive`."""
        digest = await self._check_one("archive", memory_id, scope, op_id)
        return await self._write(ArchiveMemory(memory_id, op_id=op_id, call_digest=digest))

    async def restore(self, memory_id: str, *, op_id: str, scope: Scope | None = None) -> WriteResult:
        """See `AsyncMemOS.restore`."""
        digest = await self._check_one("restore", memory_id, scope, op_id)
        return await self._write(RestoreMemory(memory_id, op_id=op_id, call_digest=digest))

    async def snapshot(self, name: str, *, op_id: str) -> SnapshotResult:
        """See `AsyncMemOS.snapshot`."""
        result = await self._journal.submit(CreateSnapshot(name, op_id=op_id))
        assert isinstance(result, SnapshotResult)
        return result

    async def restore_snapshot(self, name: str, *, op_id: str) -> WriteResult:
        """See `AsyncMemOS.restore_snapshot`."""
        return await self._write(RestoreSnapshot(name, op_id=op_id))

    # -- reading ----------------------------------------------------------------------------------------------

    async def search(
        self,
        query: str,
        *,
        top_k: int | None = None,
        filters: Mapping[str, Any] | None = None,
        threshold: float | None = None,
        explain: bool = False,
        as_of: datetime | None = None,
        known_at: datetime | None = None,
        budget_tokens: int | None = None,
        neighbours: int = 0,
        recipe: str | None = None,
        consistency: Consistency = None,
        places: Places | None = None,
    ) -> list[SearchHit]:
        """See `AsyncMemOS.search`. Waits for the vectors of everything that was written before it; raises `Overloaded`,
        and the client asks again, if these are far behind.

        Under a budget these are enough hits to fill it; which of them do is decided by who asks (`retrieval.answer`).
        `places` are what a reranker made of the first hits of the same search.
        """
        check_query(query)
        options = SearchOptions(
            top_k=wanted_hits(top_k, budget_tokens),
            budget_tokens=budget_tokens,
            neighbours=neighbours,
            explain=explain,
            threshold=threshold,
            recipe=recipe_named(recipe, weights=self._settings.ranker),
        )
        wanted = parse_filter(filters) if check_filters(filters) else None
        parsed, vectors = await self._read_query(
            query, as_of or self._clock.now(), within_s=self._settings.call_timeout_s * _PATIENCE
        )
        await self._confirm(consistency)
        self._searcher.catch_up()
        mask = self._view(as_of, known_at)
        if wanted is not None:
            mask = mask & wanted.mask(self._state)
        embedded = self._searcher.embedded(parsed, vectors, mask)
        placed = self._placed(places, mask) if places is not None else None
        ranked = search_indexes(self._indexes(), parsed, embedded, mask, options, placed)
        stages = telemetry.Stages()
        hits = self._searcher.hits(ranked, parsed, explain=explain)
        stages.done("hits")
        return hits

    async def ranking(self, query: str, recipe: Recipe) -> tuple[CubeIndexes, Pool, Mask, list[MemoryItem]]:
        """What a search for `query` would rank, and the candidates themselves: for training and for ablations."""
        parsed, vectors = await self._read_query(query, self._clock.now())
        self._searcher.catch_up()
        mask, indexes = self._view(None, None), self._indexes()
        embedded = self._searcher.embedded(parsed, vectors, mask)
        asked = ask_arms(indexes, parsed, embedded, mask, recipe.candidates)
        pool = make_pool(indexes, parsed, embedded, mask, asked, recipe)
        return indexes, pool, mask, self._state.items(pool.slots.tolist())

    async def settled(self) -> None:
        """Waits, however long, until all that was written can be found by its vectors too."""
        await self._upkeep.settled()

    async def _read_query(
        self, query: str, now: datetime, within_s: float | None = None
    ) -> tuple[ParsedQuery, QueryVectors | None]:
        """The query, parsed and embedded, once everything that was written before it can be found."""
        stages = telemetry.Stages()
        self._searcher.catch_up()
        parsed = self._searcher.parse(query, now)
        stages.done("index")
        vectors = await self._upkeep.encode_query(parsed.dense_text)
        stages.done("embedding")
        await self._upkeep.settled(within_s)
        stages.done("vectors")
        return parsed, vectors

    def _placed(self, places: Places, mask: Mask) -> Placed:
        """By slot. What has gone since it was reranked is left out."""
        state = self._state
        by_number = dict(zip(state.numbers(places.scores).tolist(), places.scores.values(), strict=True))
        slots = np.flatnonzero(mask & np.isin(state.slot_memory.view, [n for n in by_number if n >= 0]))
        numbers = state.slot_memory.view[slots].tolist()
        return Placed({s: by_number[n] for s, n in zip(slots.tolist(), numbers, strict=True)}, places.rest)

    def _indexes(self) -> CubeIndexes:
        return self._searcher.indexes(self._upkeep.dense, self._upkeep.tokens)

    async def get(
        self,
        memory_id: str,
        *,
        as_of: datetime | None = None,
        known_at: datetime | None = None,
        scope: Scope | None = None,
    ) -> MemoryItem:
        """See `AsyncMemOS.get`."""
        check_id(memory_id, "memory_id")
        await self._confirm(None)
        if as_of is None and known_at is None:
            return _within(self._state.get(memory_id), scope)
        slot = views.slot_at(self._state, memory_id, self._view(as_of, known_at))
        if slot is not None:
            return _within(self._state.item(slot), scope)
        raise NotFound(f"memory {memory_id} was not there at that time", what="memory", id=memory_id)

    async def get_all(
        self,
        *,
        filters: Mapping[str, Any] | None = None,
        limit: int | None = None,
        as_of: datetime | None = None,
        known_at: datetime | None = None,
    ) -> list[MemoryItem]:
        """See `AsyncMemOS.get_all`."""
        if limit is not None:
            check_whole(limit, "limit", 1)
        wanted = parse_filter(filters)
        await self._confirm(None)
        slots = wanted.slots(self._state, self._view(as_of, known_at))
        return self._state.items(slots[-limit:] if limit is not None else slots)

    async def history(self, memory_id: str, *, scope: Scope | None = None) -> list[HistoryEntry]:
        """See `AsyncMemOS.history`."""
        check_id(memory_id, "memory_id")
        await self._confirm(None)
        if scope:
            self._told(memory_id, scope)
        return self._state.history(memory_id)

    async def snapshots(self) -> dict[str, datetime]:
        """Names of snapshots, and when they were made."""
        await self._confirm(None)
        return {s.name: s.recorded_at for s in self._state.snapshots.values()}

    async def neighbours(
        self, node: str, *, depth: int = 1, types: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """See `AsyncCube.neighbours`."""
        if not isinstance(node, str):
            raise Invalid(f"node must be a memory id or 'entity:<name>', not {node!r:.100}", argument="node")
        check_whole(depth, "depth", 1)
        if types is not None and not (
            isinstance(types, (list, tuple, set, frozenset)) and all(isinstance(t, str) for t in types)
        ):
            raise Invalid(f"types must be a list of link types, not {types!r:.100}", argument="types")
        await self._confirm(None)
        return self._graph.neighbours(node, depth=depth, types=types)

    async def stats(self) -> dict[str, Any]:
        """What the cube holds, and what it costs."""
        state = self._state
        return {
            "cube_id": self.cube_id,
            "memories": int(self._view(None, None).sum()),
            "versions": state.n_slots,
            "rows": len(state.store),
            "snapshots": len(state.snapshots),
            "pending_vectors": self._upkeep.pending,
            "epoch": self._journal.epoch,
            "storage_version": self._journal.version,
            "pid": os.getpid(),
            "process_bytes": rss_bytes(),
        }

    async def export_table(self) -> pa.Table:
        """Every live row, all versions, as `rows.SCHEMA`."""
        await self._confirm("latest")
        return self._state.store.to_table()

    # -- inside -----------------------------------------------------------------------------------------------

    async def _write(self, request: Request) -> WriteResult:
        result = await self._journal.submit(request)
        assert isinstance(result, WriteResult)
        return result

    async def _check_one(self, verb: str, memory_id: str, scope: Scope | None, op_id: str) -> str:
        """Checks what a write to one memory names; returns its digest, empty if the request's own will do."""
        check_id(memory_id, "memory_id")
        await self._check_scope(memory_id, scope, op_id)
        return _scoped_digest(verb, {"memory_id": memory_id}, scope) if scope else ""

    async def _check_scope(self, memory_id: str, scope: Scope | None, op_id: str) -> None:
        """`NotFound` for a memory of another scope. A repeated call is left to its first answer."""
        if not scope or ("", op_id) in self._planner.indexes.operations:
            return
        await self._confirm(None)
        self._told(memory_id, scope)

    def _told(self, memory_id: str, scope: Scope) -> None:
        """`NotFound` unless the last version that held text, of a deleted memory too, is of this scope."""
        state = self._state
        number = state.number(state.resolve(memory_id))
        slots = np.flatnonzero(state.slot_memory.view == number)
        if len(slots):
            _within(state.item(int(slots[-1])), scope, memory_id)

    async def _confirm(self, consistency: Consistency) -> None:
        if consistency not in (None, "latest"):
            raise Invalid(
                f'consistency must be "latest" or None, not {consistency!r}', argument="consistency"
            )
        await self._journal.confirm(latest=consistency == "latest")

    def _view(self, as_of: datetime | None, known_at: datetime | None) -> Mask:
        return views.view(self._state, now=self._clock.now(), as_of=as_of, known_at=known_at)

    def _applied(self, slots: range, rows: Sequence[JournalRow]) -> None:
        self._graph.apply(rows)
        # Soon, not now: whoever waits for these rows is answered before upkeep takes the loop.
        asyncio.get_running_loop().call_soon(self._follow_up, slots)

    def _follow_up(self, slots: range) -> None:
        self._upkeep.changed()
        if self._keeper is not None:
            self._keeper.applied()
        if len(slots):
            self._near.added(slots)


async def _parsed(parse: Callable[[], T], given: object, size: int) -> T:
    many = isinstance(given, (list, tuple)) and len(given) > _INLINE_ITEMS
    return await asyncio.to_thread(parse) if many or size > _INLINE_BYTES else parse()


def _within(item: MemoryItem, scope: Scope | None, asked: str | None = None) -> MemoryItem:
    if scope and not parse_filter(scope_filter(scope)).matches(item):
        names = ", ".join(f"{key}={value!r}" for key, value in scope.items())
        raise NotFound(f"memory {asked or item.id} is not one of {names}", what="memory", id=asked or item.id)
    return item


def _scoped_digest(verb: str, arguments: Mapping[str, Any], scope: Scope | None) -> str:
    """The scope counts only if there is one, so that digests of calls without are what they were."""
    return call_digest(verb, {**arguments, "scope": scope} if scope else arguments)
