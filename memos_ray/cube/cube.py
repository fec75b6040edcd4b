"""One MemCube: journal, fold, planner, indexes and upkeep joined, with a verb for everything a caller can ask.

Knows nothing of Ray, nor of where its tables lie (see `opening`). Lives on one event loop.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, ParamSpec, TypeVar

import pyarrow as pa

from memos_ray.config import Settings
from memos_ray.cube import views
from memos_ray.cube.filters import parse_filter
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
from memos_ray.cube.rows import SCHEMA, JournalRow, rows_to_table
from memos_ray.cube.searching import CubeSearcher
from memos_ray.cube.state import CubeState
from memos_ray.cube.upkeep import VectorUpkeep
from memos_ray.cube.validate import Limits
from memos_ray.errors import Invalid, Moved, NotFound
from memos_ray.ingest.dates import find_mentions
from memos_ray.ingest.deriving import derive, derived_op_id
from memos_ray.ingest.documents import parse_document
from memos_ray.ingest.entities import find_entities, unique
from memos_ray.ingest.messages import parse_messages
from memos_ray.ingest.triples import parse_triples
from memos_ray.process import rss_bytes
from memos_ray.protocols import Clock, Extractor
from memos_ray.retrieval.arrays import Mask
from memos_ray.retrieval.search import SearchOptions
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

Consistency = Literal["latest"] | None
Parameters = ParamSpec("Parameters")
T = TypeVar("T")

# What is larger is parsed in a thread, so that it does not hold up everybody else (10,000 messages take a second).
_INLINE_MESSAGES = 100
_INLINE_BYTES = 50_000


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
    ) -> None:
        self.cube_id = state.cube_id
        self._journal = journal
        self._state = state
        self._upkeep = upkeep
        self._clock = clock
        self._settings = settings
        self._extractor = extractor
        self._graph = MemoryGraph(state)
        self._searcher = CubeSearcher(state, self._graph)
        limits = Limits(max_text_bytes=settings.max_text_bytes, max_batch=settings.max_batch)
        self._planner = CubePlanner(state, clock=clock, limits=limits, on_apply=self._applied)
        self._near = NearDuplicates(state, journal.submit)
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

    async def close(self) -> None:
        """Drains the queue and stops the background work."""
        await self._near.close()
        await self._upkeep.close()
        await self._journal.close()

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
        large = isinstance(messages, list) and len(messages) > _INLINE_MESSAGES
        drafts = await _parsed(large, parse_messages, messages, now=self._clock.now(), **call)
        request = AddMemories(
            drafts, op_id=op_id, call_digest=call_digest("add_messages", {"messages": messages, **call})
        )
        result = await self._write(request)
        if not infer:
            return result
        return await self._derived(request, result)

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
        drafts = await _parsed(size > _INLINE_BYTES, parse_document, text, now=self._clock.now(), **call)
        digest = call_digest("add_document", {"text": text, **call})
        return await self._write(AddMemories(drafts, op_id=op_id, call_digest=digest))

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
        large = isinstance(triples, list) and len(triples) > _INLINE_MESSAGES
        drafts = await _parsed(large, parse_triples, triples, now=self._clock.now(), **call)
        digest = call_digest("add_triples", {"triples": triples, **call})
        return await self._write(AddMemories(drafts, op_id=op_id, call_digest=digest))

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
    ) -> WriteResult:
        """See `AsyncMemOS.update`. A new text is read for entities and dates like any other."""
        call: dict[str, Any] = {
            "text": text,
            "metadata": metadata,
            "valid_from": valid_from,
            "valid_to": valid_to,
            "expires_at": expires_at,
            "if_version": if_version,
        }
        found: dict[str, Any] = {}
        known = self._state.find(memory_id) if isinstance(memory_id, str) else None
        if isinstance(text, str) and known is not None:
            said_at = valid_from if isinstance(valid_from, datetime) else known.valid_from
            speaker = known.source.speaker
            names = find_entities(text, (speaker,) if speaker else ())
            found = {
                "entities": unique((speaker, *names)) if speaker else names,
                "times": find_mentions(text, said_at),
            }
        digest = call_digest("update", {"memory_id": memory_id, **call})
        return await self._write(UpdateMemory(memory_id, op_id=op_id, call_digest=digest, **call, **found))

    async def delete(self, memory_id: str, *, op_id: str) -> WriteResult:
        """See `AsyncMemOS.delete`."""
        return await self._write(DeleteMemories((memory_id,), op_id=op_id))

    async def delete_all(self, *, op_id: str, filters: Mapping[str, Any] | None = None) -> WriteResult:
        """See `AsyncMemOS.delete_all`."""
        return await self._write(DeleteAll(filters or {}, everything=not filters, op_id=op_id))

    async def archive(self, memory_id: str, *, op_id: str) -> WriteResult:
        """See `AsyncMemOS.archive`."""
        return await self._write(ArchiveMemory(memory_id, op_id=op_id))

    async def restore(self, memory_id: str, *, op_id: str) -> WriteResult:
        """See `AsyncMemOS.restore`."""
        return await self._write(RestoreMemory(memory_id, op_id=op_id))

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
        top_k: int = 20,
        filters: Mapping[str, Any] | None = None,
        threshold: float | None = None,
        explain: bool = False,
        as_of: datetime | None = None,
        known_at: datetime | None = None,
        budget_tokens: int | None = None,
        neighbours: int = 0,
        consistency: Consistency = None,
    ) -> list[SearchHit]:
        """See `AsyncMemOS.search`. Waits for the vectors of everything that was written before it."""
        options = SearchOptions(
            top_k=top_k,
            budget_tokens=budget_tokens,
            neighbours=neighbours,
            explain=explain,
            threshold=threshold,
        )
        wanted = parse_filter(filters) if filters else None
        self._searcher.catch_up()
        parsed = self._searcher.parse(query)
        vector = await self._upkeep.embed_query(parsed.dense_text)
        await self._upkeep.settled()
        await self._confirm(consistency)
        self._searcher.catch_up()
        mask = self._view(as_of, known_at)
        if wanted is not None:
            mask = mask & wanted.mask(self._state)
        ranked = search_indexes(self._searcher.indexes(self._upkeep.dense), parsed, vector, mask, options)
        return self._searcher.hits(ranked, explain=explain)

    async def get(
        self, memory_id: str, *, as_of: datetime | None = None, known_at: datetime | None = None
    ) -> MemoryItem:
        """See `AsyncMemOS.get`."""
        await self._confirm(None)
        if as_of is None and known_at is None:
            return self._state.get(memory_id)
        slot = views.slot_at(self._state, memory_id, self._view(as_of, known_at))
        if slot is not None:
            return self._state.item(slot)
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
        if limit is not None and limit < 1:
            raise Invalid(f"limit must be at least 1, not {limit}", argument="limit")
        wanted = parse_filter(filters)
        await self._confirm(None)
        slots = wanted.slots(self._state, self._view(as_of, known_at))
        return self._state.items(slots[-limit:] if limit is not None else slots)

    async def history(self, memory_id: str) -> list[HistoryEntry]:
        """See `AsyncMemOS.history`."""
        await self._confirm(None)
        return self._state.history(memory_id)

    async def snapshots(self) -> dict[str, datetime]:
        """Names of snapshots, and when they were made."""
        await self._confirm(None)
        return {s.name: s.recorded_at for s in self._state.snapshots.values()}

    async def neighbours(
        self, node: str, *, depth: int = 1, types: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """See `AsyncCube.neighbours`."""
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
        store = self._state.store
        loaded = pa.table([store.columns[name] for name in SCHEMA.names], schema=SCHEMA)
        return pa.concat_tables([loaded, rows_to_table(store.appended)])

    # -- inside -----------------------------------------------------------------------------------------------

    async def _write(self, request: Request) -> WriteResult:
        result = await self._journal.submit(request)
        assert isinstance(result, WriteResult)
        return result

    async def _derived(self, request: AddMemories, added: WriteResult) -> WriteResult:
        """Derives facts from messages that are committed. A repeated call finds what the first one derived."""
        op_id = derived_op_id(request.op_id)
        derived = self._planner.recorded(request.principal, op_id)
        if derived is None:
            drafts = await derive(self._extractor, request.drafts)
            origins = added.ids[: len(request.drafts)]
            derived = await self._write(
                AddMemories(
                    drafts,
                    origins=origins,
                    op_id=op_id,
                    call_digest=call_digest("derive", {"of": request.digest}),
                )
            )
        assert isinstance(derived, WriteResult)
        return WriteResult(added.op_id, added.events + derived.events)

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
        if len(slots):
            self._upkeep.added()
            self._near.added(slots)


async def _parsed(
    large: bool, parse: Callable[Parameters, T], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> T:
    return await asyncio.to_thread(parse, *args, **kwargs) if large else parse(*args, **kwargs)
