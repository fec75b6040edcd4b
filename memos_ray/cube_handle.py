"""A typed handle bound to one cube. Checks forms, gives every write an `op_id`, and passes the call on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict, Unpack

import pyarrow as pa

from memos_ray.arguments import check_filters, check_query, check_render, wanted_hits
from memos_ray.cube.requests import KEEP, SnapshotResult, WriteResult
from memos_ray.ids import check_id, new_op_id
from memos_ray.ingest.timestamps import parse_utc
from memos_ray.models.token_counter import token_counter
from memos_ray.retrieval.answer import Wanted, answer
from memos_ray.retrieval.recipe import recipe_named
from memos_ray.retrieval.rerank import Places
from memos_ray.types import HistoryEntry, MemoryItem, SearchHit, SearchHits

Scope = Mapping[str, str]


class Call(Protocol):
    """How a verb reaches the cube: see `client.Connection.call`."""

    async def __call__(
        self, cube_id: str, verb: str, arguments: Mapping[str, Any], *, create: bool = False
    ) -> Any:
        """The verb's value; raises its error."""
        ...


class Asked(TypedDict, total=False):
    """What a cube's process is told of a search: see `AsyncMemOS.search`."""

    top_k: int | None
    filters: Mapping[str, Any] | None
    threshold: float | None
    explain: bool
    as_of: Any
    known_at: Any
    budget_tokens: int | None
    neighbours: int
    recipe: str | None
    consistency: str | None
    places: Places | None  # what came of reranking


async def wanted_answer(
    top_k: int | None, budget_tokens: int | None, render: object, tokenizer: str | Path | None
) -> Wanted:
    """How an answer is to be cut and laid out. Raises `Invalid`; the tokenizer is read here, before any search."""
    most, prompt = wanted_hits(top_k, budget_tokens), check_render(render) is not None
    if tokenizer is None:
        return Wanted(most, budget_tokens, prompt)
    # A large tokenizer takes a second to read.
    return Wanted(most, budget_tokens, prompt, await asyncio.to_thread(token_counter, tokenizer))


async def answer_with(hits: Sequence[SearchHit], wanted: Wanted) -> SearchHits:
    """`answer` without holding up the event loop."""
    return await asyncio.to_thread(answer, hits, wanted) if wanted.is_laid_out else answer(hits, wanted)


class AsyncCube:
    """One cube. Times may be aware datetimes, ISO 8601 strings or unix seconds; those without a zone mean UTC."""

    def __init__(self, cube_id: str, call: Call, *, tokenizer: str | None = None) -> None:
        self.cube_id = cube_id
        self._call = call
        self._tokenizer = tokenizer  # for budgets, where a search names no other

    async def add(
        self,
        messages: Any,
        *,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
        expires_at: Any = None,
        infer: bool = False,
        conversation: str | None = None,
        session: str | None = None,
        op_id: str | None = None,
    ) -> WriteResult:
        """Remembers messages. See `AsyncMemOS.add`."""
        return await self._write(
            "add_messages",
            op_id,
            create=True,
            messages=messages,
            metadata=metadata,
            timestamp=timestamp,
            expires_at=_time(expires_at, "expires_at"),
            infer=infer,
            conversation=conversation,
            session=session,
        )

    async def add_document(
        self,
        text: str,
        *,
        document: str,
        title: str | None = None,
        format: str = "auto",
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
        op_id: str | None = None,
    ) -> WriteResult:
        """Remembers a document in passages. See `AsyncMemOS.add_document`."""
        return await self._write(
            "add_document",
            op_id,
            create=True,
            text=text,
            document=check_id(document, "document"),
            title=title,
            format=format,
            metadata=metadata,
            timestamp=timestamp,
        )

    async def add_triples(
        self,
        triples: Sequence[Any],
        *,
        functional: bool = False,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
        op_id: str | None = None,
    ) -> WriteResult:
        """Remembers triples. See `AsyncMemOS.add_triples`."""
        return await self._write(
            "add_triples",
            op_id,
            create=True,
            triples=triples,
            functional=functional,
            metadata=metadata,
            timestamp=timestamp,
        )

    async def search(
        self,
        query: str,
        *,
        top_k: int | None = None,
        filters: Mapping[str, Any] | None = None,
        threshold: float | None = None,
        explain: bool = False,
        as_of: Any = None,
        known_at: Any = None,
        budget_tokens: int | None = None,
        tokenizer: str | Path | None = None,
        render: Literal["prompt"] | None = None,
        neighbours: int = 0,
        recipe: str | None = None,
        consistency: str | None = None,
    ) -> SearchHits:
        """The best hits, best first: 20, or under a budget as many as fit. See `AsyncMemOS.search`, which also reranks.

        With `render="prompt"`, the result's `prompt` is the text that a model should see.
        """
        check_query(query)
        recipe_named(recipe)
        if tokenizer is None and budget_tokens is not None:
            tokenizer = self._tokenizer
        wanted = await wanted_answer(top_k, budget_tokens, render, tokenizer)
        found = await self.candidates(
            query,
            top_k=top_k,
            filters=filters,
            threshold=threshold,
            explain=explain,
            as_of=as_of,
            known_at=known_at,
            budget_tokens=budget_tokens,
            neighbours=neighbours,
            recipe=recipe,
            consistency=consistency,
        )
        return await answer_with(found, wanted)

    async def candidates(self, query: str, **options: Unpack[Asked]) -> list[SearchHit]:
        """What `search` makes its answer from: `top_k` hits, or enough to fill a budget."""
        times = {name: _time(options.get(name), name) for name in ("as_of", "known_at")}
        hits: list[SearchHit] = await self._call(self.cube_id, "search", {"query": query, **options, **times})
        return hits

    async def get(
        self, memory_id: str, *, as_of: Any = None, known_at: Any = None, scope: Scope | None = None
    ) -> MemoryItem:
        """One memory, following merges. Raises `NotFound`.

        Here and in other verbs, `scope` gives ids (user_id, agent_id, run_id) that the memory must have in its
        metadata; one that has others is not found.
        """
        item: MemoryItem = await self._call(
            self.cube_id,
            "get",
            {
                "memory_id": memory_id,
                "as_of": _time(as_of, "as_of"),
                "known_at": _time(known_at, "known_at"),
                "scope": scope,
            },
        )
        return item

    async def get_all(
        self,
        *,
        filters: Mapping[str, Any] | None = None,
        limit: int | None = None,
        as_of: Any = None,
        known_at: Any = None,
    ) -> list[MemoryItem]:
        """Memories in the order they were recorded; with a `limit`, the newest of them."""
        items: list[MemoryItem] = await self._call(
            self.cube_id,
            "get_all",
            {
                "filters": filters,
                "limit": limit,
                "as_of": _time(as_of, "as_of"),
                "known_at": _time(known_at, "known_at"),
            },
        )
        return items

    async def update(
        self,
        memory_id: str,
        *,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        valid_from: Any = KEEP,
        valid_to: Any = KEEP,
        expires_at: Any = KEEP,
        if_version: int | None = None,
        scope: Scope | None = None,
        op_id: str | None = None,
    ) -> WriteResult:
        """A new version: see `AsyncMemOS.update`. `KEEP` leaves a field alone; None takes a time off."""
        return await self._write(
            "update",
            op_id,
            memory_id=memory_id,
            text=text,
            metadata=metadata,
            valid_from=_time(valid_from, "valid_from"),
            valid_to=_time(valid_to, "valid_to"),
            expires_at=_time(expires_at, "expires_at"),
            if_version=if_version,
            scope=scope,
        )

    async def delete(
        self, memory_id: str, *, scope: Scope | None = None, op_id: str | None = None
    ) -> WriteResult:
        """Hides a memory. See `AsyncMemOS.delete`."""
        return await self._write("delete", op_id, memory_id=memory_id, scope=scope)

    async def delete_all(
        self, *, filters: Mapping[str, Any] | None = None, op_id: str | None = None
    ) -> WriteResult:
        """Deletes what the filters select; without any, everything in this cube."""
        return await self._write("delete_all", op_id, filters=check_filters(filters))

    async def archive(
        self, memory_id: str, *, scope: Scope | None = None, op_id: str | None = None
    ) -> WriteResult:
        """Puts a memory away."""
        return await self._write("archive", op_id, memory_id=memory_id, scope=scope)

    async def restore(
        self, memory_id: str, *, scope: Scope | None = None, op_id: str | None = None
    ) -> WriteResult:
        """Brings an archived memory back."""
        return await self._write("restore", op_id, memory_id=memory_id, scope=scope)

    async def history(self, memory_id: str, *, scope: Scope | None = None) -> list[HistoryEntry]:
        """Every version, oldest first."""
        entries: list[HistoryEntry] = await self._call(
            self.cube_id, "history", {"memory_id": memory_id, "scope": scope}
        )
        return entries

    async def snapshot(self, name: str, *, op_id: str | None = None) -> SnapshotResult:
        """Names the present state. Raises `Conflict` if the name is taken."""
        result: SnapshotResult = await self._call(
            self.cube_id, "snapshot", {"name": check_id(name, "name"), "op_id": _op_id(op_id)}
        )
        return result

    async def snapshots(self) -> dict[str, datetime]:
        """Names of snapshots and when they were made."""
        names: dict[str, datetime] = await self._call(self.cube_id, "snapshots", {})
        return names

    async def restore_snapshot(self, name: str, *, op_id: str | None = None) -> WriteResult:
        """Brings every memory back to what it was at the snapshot."""
        return await self._write("restore_snapshot", op_id, name=check_id(name, "name"))

    async def neighbours(
        self, node: str, *, depth: int = 1, types: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """The graph around a memory id or `entity:<name>`: `{"nodes": […], "edges": […]}`."""
        graph: dict[str, Any] = await self._call(
            self.cube_id, "neighbours", {"node": node, "depth": depth, "types": types}
        )
        return graph

    async def stats(self) -> dict[str, Any]:
        """What the cube holds and where it runs."""
        stats: dict[str, Any] = await self._call(self.cube_id, "stats", {})
        return stats

    async def export_table(self) -> pa.Table:
        """Every live row of the journal, all versions: see `cube.rows.SCHEMA`."""
        return await self._call(self.cube_id, "export_table", {})

    async def _write(
        self, verb: str, op_id: str | None, *, create: bool = False, **arguments: Any
    ) -> WriteResult:
        arguments["op_id"] = _op_id(op_id)
        result: WriteResult = await self._call(self.cube_id, verb, arguments, create=create)
        return result


def _time(value: Any, argument: str) -> Any:
    return value if value is None or value is KEEP else parse_utc(value, argument, argument)


def _op_id(given: str | None) -> str:
    return new_op_id() if given is None else check_id(given, "op_id")
