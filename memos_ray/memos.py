"""`AsyncMemOS`: what a driver talks to, in the shape that mem0's users know."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from memos_ray.arguments import check_flag, check_query, check_whole
from memos_ray.client import Connection
from memos_ray.config import Settings
from memos_ray.cube.requests import KEEP
from memos_ray.cube_handle import AsyncCube, answer_with, wanted_answer
from memos_ray.errors import Invalid, NotFound, Retryable
from memos_ray.ids import new_op_id, resolve_cube_id
from memos_ray.mem0_shape import (
    added,
    listed,
    one,
    one_number,
    parse_expiration,
    scoped_filters,
    scoped_metadata,
    within,
)
from memos_ray.retrieval.merge import merge_hits
from memos_ray.retrieval.recipe import recipe_named
from memos_ray.retrieval.render import render
from memos_ray.retrieval.rerank import RERANKED, Reranked, reranked
from memos_ray.types import SearchHit
from memos_ray.wire import SystemInfo

log = logging.getLogger(__name__)


class CubeIds(TypedDict, total=False):
    """What names a cube: see `ids.resolve_cube_id`."""

    cube_id: str | None
    user_id: str | None
    agent_id: str | None
    run_id: str | None


class AsyncMemOS:
    """Memory for agents, as coroutines. Joins a running system, or starts one on this machine.

    `cube_id` names the cube; else `user_id` or `agent_id` does, and further ids become filters inside it.
    Every write takes an `op_id`: repeating a call with the same one changes nothing.
    """

    def __init__(self, settings: Settings | None = None, **overrides: Any) -> None:
        self._settings = make_settings(settings, overrides)
        self._connection: Connection | None = None
        self._connecting = threading.Lock()

    def connect(self) -> Connection:
        """Joins or starts the system now, instead of at the first call. Blocks for seconds if it has to start one."""
        with self._connecting:
            if self._connection is None:
                self._connection = Connection(self._settings)
            return self._connection

    async def _ready(self) -> Connection:
        if self._connection is not None:
            return self._connection
        return await asyncio.to_thread(self.connect)

    async def __aenter__(self) -> AsyncMemOS:
        await self._ready()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the connection. A Ray cluster that this process started ends with the process, or here."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def cube(self, cube_id: str) -> AsyncCube:
        """A typed handle bound to one cube. The cube is created by its first write."""
        resolve_cube_id(cube_id=cube_id)
        return AsyncCube(cube_id, (await self._ready()).call, tokenizer=self._settings.tokenizer)

    async def add(
        self,
        messages: Any,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        cube_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
        expiration_date: Any = None,
        infer: bool = False,
        conversation: str | None = None,
        session: str | None = None,
        op_id: str | None = None,
    ) -> dict[str, Any]:
        """Remembers messages: a text, a `{"role", "content"}` dict, or a list of them.

        `timestamp` says when they were said (each may bring its own). `infer=True` also derives facts, with the
        configured LLM, else by rules; the messages themselves are committed first.
        """
        cube, scope = await self._cube(cube_id, user_id, agent_id, run_id)
        result = await cube.add(
            messages,
            metadata=scoped_metadata(metadata, scope),
            timestamp=timestamp,
            expires_at=parse_expiration(expiration_date),
            infer=infer,
            conversation=conversation,
            session=session,
            op_id=op_id,
        )
        return added(result, cube.cube_id)

    async def add_document(
        self,
        text: str,
        *,
        document: str,
        title: str | None = None,
        format: str = "auto",
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        cube_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
        op_id: str | None = None,
    ) -> dict[str, Any]:
        """Remembers a text or Markdown document in passages that know their span. `document` names it."""
        cube, scope = await self._cube(cube_id, user_id, agent_id, run_id)
        result = await cube.add_document(
            text,
            document=document,
            title=title,
            format=format,
            metadata=scoped_metadata(metadata, scope),
            timestamp=timestamp,
            op_id=op_id,
        )
        return added(result, cube.cube_id)

    async def add_triples(
        self,
        triples: Sequence[Any],
        *,
        functional: bool = False,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        cube_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
        op_id: str | None = None,
    ) -> dict[str, Any]:
        """Remembers (subject, relation, object) triples. `functional`: a new object takes the old one's place."""
        cube, scope = await self._cube(cube_id, user_id, agent_id, run_id)
        result = await cube.add_triples(
            triples,
            functional=functional,
            metadata=scoped_metadata(metadata, scope),
            timestamp=timestamp,
            op_id=op_id,
        )
        return added(result, cube.cube_id)

    async def search(
        self,
        query: str,
        *,
        top_k: int | None = None,
        limit: int | None = None,
        filters: Mapping[str, Any] | None = None,
        threshold: float | None = None,
        rerank: bool = False,
        explain: bool = False,
        as_of: Any = None,
        known_at: Any = None,
        budget_tokens: int | None = None,
        tokenizer: str | Path | None = None,
        render: Literal["prompt"] | None = None,
        neighbours: int = 0,
        recipe: str | None = None,
        consistency: str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        cube_id: str | None = None,
        cube_ids: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """The memories that answer the query best, from one cube or several.

        `as_of` asks what was true then, `known_at` what had been recorded then. `budget_tokens` packs as many
        hits as fit, laid out as passages: `top_k` at most, or 1000; without a budget, `top_k` is 20 unless given.
        `render="prompt"` adds that text, "prompt": what an LLM should see, in order of time, with dates and speakers;
        empty if nothing was found. `tokenizer` says what counts a budget: a `tokenizer.json`, a folder that holds one,
        or a hub id in the local cache; default: the setting, else an approximation. `neighbours` adds
        that many turns before and after each hit. `recipe` is "plain", "fast", "default" or "best". A hit's `score` is
        the chance that it is evidence, 0 to 1, so that `threshold` means the same for every query. `filters` may hold
        the ids, as mem0's do. A cube that does not exist yet has no hits.

        `rerank=True`: the configured reranker puts the best 50 hits of all cubes in order, before neighbours, packing
        and `threshold`. Scores stay with the places, so that they fall along the new order (see `retrieval.rerank`).
        The answer's "rerank" says by whom, and in "error" why not, if it failed: then the order is the ranker's. Raises
        `Invalid` if no reranker is configured.
        """
        check_flag(rerank, "rerank")
        check_query(query)
        recipe_named(recipe)
        k = one_number(top_k, limit)
        if tokenizer is None and budget_tokens is not None:
            tokenizer = self._settings.tokenizer
        wanted = await wanted_answer(k, budget_tokens, render, tokenizer)
        ids, rest = scoped_filters(filters, user_id=user_id, agent_id=agent_id, run_id=run_id)
        if cube_ids is not None:
            if cube_id is not None or not cube_ids or isinstance(cube_ids, str):
                raise Invalid("give cube_id or a non-empty list of cube_ids, not both", argument="cube_ids")
            named: list[str | None] = list(cube_ids)
        else:
            named = [cube_id]
        targets = {}
        for name in named:
            target, scope = resolve_cube_id(cube_id=name, **ids)
            targets[target] = within(rest, ids, scope)
        connection = await self._ready()
        how: dict[str, Any] = {
            "as_of": as_of,
            "known_at": known_at,
            "recipe": recipe,
            "consistency": consistency,
        }

        async def ask(target: str, scoped: dict[str, Any] | None, **more: Any) -> list[SearchHit]:
            try:
                return await AsyncCube(target, connection.call).candidates(
                    query, filters=scoped, **how, **more
                )
            except NotFound as error:
                if error.fields.get("what") != "cube":
                    raise
                return []

        new_order = None
        if rerank:
            connection.check_reranker()
            first = await asyncio.gather(*(ask(t, scoped, top_k=RERANKED) for t, scoped in targets.items()))
            new_order = await _reranked(connection, query, merge_hits(first)[:RERANKED])
        per_cube = await asyncio.gather(
            *(
                ask(
                    target,
                    scoped,
                    top_k=wanted.top_k,
                    threshold=threshold,
                    explain=explain,
                    budget_tokens=budget_tokens,
                    neighbours=neighbours,
                    **({} if new_order is None else {"places": new_order.places(target)}),
                )
                for target, scoped in targets.items()
            )
        )
        hits = per_cube[0] if len(per_cube) == 1 else merge_hits(per_cube)
        found = await answer_with(hits if new_order is None else new_order.explained(hits), wanted)
        return {
            "results": [hit.to_dict() for hit in found],
            **({} if found.prompt is None else {"prompt": found.prompt}),
            **({} if new_order is None else {"rerank": new_order.about()}),
        }

    async def get(
        self, memory_id: str, *, as_of: Any = None, known_at: Any = None, **ids: Unpack[CubeIds]
    ) -> dict[str, Any]:
        """One memory. The id of a merged one gives the one it was merged into. Raises `NotFound`."""
        cube, scope = await self._cube(**_ids(ids))
        return one(await cube.get(memory_id, as_of=as_of, known_at=known_at, scope=scope))

    async def get_all(
        self,
        *,
        filters: Mapping[str, Any] | None = None,
        top_k: int | None = None,
        limit: int | None = None,
        as_of: Any = None,
        known_at: Any = None,
        **ids: Unpack[CubeIds],
    ) -> dict[str, Any]:
        """Memories in the order they were recorded, newest last; `top_k` (or `limit`): so many of the newest."""
        most = one_number(top_k, limit)
        named = _ids(ids)
        cube_id = named.pop("cube_id", None)
        from_filters, rest = scoped_filters(filters, **named)
        cube, scope = await self._cube(cube_id, **from_filters)
        try:
            items = await cube.get_all(
                filters=within(rest, from_filters, scope), limit=most, as_of=as_of, known_at=known_at
            )
        except NotFound:
            return {"results": []}
        return {"results": [one(item) for item in items]}

    async def update(
        self,
        memory_id: str,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        valid_from: Any = KEEP,
        valid_to: Any = KEEP,
        expiration_date: Any = KEEP,
        if_version: int | None = None,
        op_id: str | None = None,
        **ids: Unpack[CubeIds],
    ) -> dict[str, Any]:
        """A new version of a memory. `if_version`: only if that is the current one, else `Conflict`.

        What is not given stays as it is; `metadata` is replaced as a whole. `valid_to` or `expiration_date` None
        takes it off.
        """
        cube, scope = await self._cube(**_ids(ids))
        result = await cube.update(
            memory_id,
            text=text,
            metadata=metadata,
            valid_from=valid_from,
            valid_to=valid_to,
            expires_at=expiration_date if expiration_date is KEEP else parse_expiration(expiration_date),
            if_version=if_version,
            scope=scope,
            op_id=op_id,
        )
        return added(result, cube.cube_id)

    async def delete(
        self, memory_id: str, *, op_id: str | None = None, **ids: Unpack[CubeIds]
    ) -> dict[str, Any]:
        """Hides a memory from everything but history, `known_at` and a snapshot's restore."""
        cube, scope = await self._cube(**_ids(ids))
        return added(await cube.delete(memory_id, scope=scope, op_id=op_id), cube.cube_id)

    async def delete_all(
        self, *, filters: Mapping[str, Any] | None = None, op_id: str | None = None, **ids: Unpack[CubeIds]
    ) -> dict[str, Any]:
        """Deletes what a cube holds, or what the filters select in it. Refused without a cube, user or agent."""
        named = _ids(ids)
        cube_id = named.pop("cube_id", None)
        from_filters, rest = scoped_filters(filters, **named)
        cube, scope = await self._cube(cube_id, **from_filters)
        return added(
            await cube.delete_all(filters=within(rest, from_filters, scope), op_id=op_id), cube.cube_id
        )

    async def archive(
        self, memory_id: str, *, op_id: str | None = None, **ids: Unpack[CubeIds]
    ) -> dict[str, Any]:
        """Puts a memory away: search does not see it, `restore` brings it back."""
        cube, scope = await self._cube(**_ids(ids))
        return added(await cube.archive(memory_id, scope=scope, op_id=op_id), cube.cube_id)

    async def restore(
        self, memory_id: str, *, op_id: str | None = None, **ids: Unpack[CubeIds]
    ) -> dict[str, Any]:
        """Brings an archived memory back."""
        cube, scope = await self._cube(**_ids(ids))
        return added(await cube.restore(memory_id, scope=scope, op_id=op_id), cube.cube_id)

    async def history(self, memory_id: str, **ids: Unpack[CubeIds]) -> dict[str, Any]:
        """Every version of a memory, oldest first, deleted ones too."""
        cube, scope = await self._cube(**_ids(ids))
        return {"results": [listed(entry) for entry in await cube.history(memory_id, scope=scope)]}

    async def snapshot(
        self, name: str, *, op_id: str | None = None, **ids: Unpack[CubeIds]
    ) -> dict[str, Any]:
        """Names the present state of a whole cube."""
        cube = await self._whole_cube("snapshot", ids)
        return {**listed(await cube.snapshot(name, op_id=op_id)), "cube_id": cube.cube_id}

    async def restore_snapshot(
        self, name: str, *, op_id: str | None = None, **ids: Unpack[CubeIds]
    ) -> dict[str, Any]:
        """Brings every memory back to what it was at the snapshot, as new versions: history is kept."""
        cube = await self._whole_cube("restore_snapshot", ids)
        return added(await cube.restore_snapshot(name, op_id=op_id), cube.cube_id)

    async def reset(self, **ids: Unpack[CubeIds]) -> dict[str, Any]:
        """Gives a cube a new, empty life. Refused without a cube, user or agent."""
        cube = await self._whole_cube("reset", ids)
        connection = await self._ready()
        connection.forget(cube.cube_id)
        located = await connection.ask_directory("reset", cube.cube_id, new_op_id())
        return {"cube_id": cube.cube_id, "epoch": located.epoch}

    async def cubes(
        self,
        prefix: str = "",
        *,
        limit: int = 1000,
        after: str = "",
        owner: str | None = None,
        embedder: str | None = None,
    ) -> list[dict[str, Any]]:
        """Registered cubes by id, in pages: pass the last id as `after`. Of one `owner` or `embedder`, if given."""
        ask = (await self._ready()).ask_directory
        return [listed(r) for r in await ask("cubes", prefix, limit, after, owner, embedder)]

    async def export_cube(self, cube_id: str, path: str | Path) -> dict[str, Any]:
        """Writes the cube to one `.memcube` file, every row and version. Returns its manifest."""
        from memos_ray.cube.portable import write_memcube

        table = await (await self.cube(cube_id)).export_table()
        return await asyncio.to_thread(write_memcube, Path(path), cube_id, table)

    async def import_cube(self, path: str | Path, *, cube_id: str | None = None) -> dict[str, Any]:
        """Reads a `.memcube` file into a new cube (by default of the same id). Raises `Conflict` if that exists."""
        from memos_ray.cube.portable import read_memcube

        manifest, table = await asyncio.to_thread(read_memcube, Path(path))
        target, _ = resolve_cube_id(cube_id=manifest["cube_id"] if cube_id is None else cube_id)
        await (await self._ready()).ask_directory("import_cube", target, table, new_op_id())
        return {"cube_id": target, "rows": table.num_rows}

    async def move(self, cube_id: str, *, node_id: str | None = None) -> dict[str, Any]:
        """Takes an active cube to another process (on `node_id`, if given) while it is in use. Calls go on: those in
        between are retried. Raises `NotFound` if it is not active, `Unavailable` if there is no room."""
        resolve_cube_id(cube_id=cube_id)
        located = await (await self._ready()).ask_directory("move", cube_id, node_id)
        return {"cube_id": cube_id, "host": located.host_name, "epoch": located.epoch}

    async def passivate(self, cube_id: str) -> bool:
        """Lets an active cube go: it takes no memory until the next call. False if it was not active."""
        resolve_cube_id(cube_id=cube_id)
        let_go: bool = await (await self._ready()).ask_directory("passivate", cube_id)
        return let_go

    async def drain(self, node_id: str, *, draining: bool = True) -> int:
        """Takes every cube off a node, some a second, and puts none there; `draining=False` ends that. Returns how many
        cubes are on it now. Raises `Invalid` for an unknown node."""
        held: int = await (await self._ready()).ask_directory("drain", node_id, draining)
        return held

    async def backup_to(
        self,
        to: str | Path,
        *,
        cubes: Sequence[str] | None = None,
        at: Any = None,
        since: str | Path | None = None,
        workers: int = 4,
        skew_s: float = 0.5,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Any]:
        """Backs up these cubes (None: all), beside whatever writes to them, as of one instant: now, or `at`.

        `to`: a new folder or URI, or one with a backup that was interrupted, which is gone on with. `since`: an older
        backup, which then holds what did not change. See docs/backup.md. `progress(cubes, bytes)` is called in a
        thread. Reads storage from this process, which must have the system's.
        """
        from memos_ray.backup import calls

        settings = (await self._ready()).settings
        return await asyncio.to_thread(
            calls.backup, settings, to, cubes, at, since, workers=workers, skew_s=skew_s, progress=progress
        )

    async def verify_backup(
        self, backup: str | Path, *, fold: bool = True, progress: Callable[[int, int], None] | None = None
    ) -> dict[str, Any]:
        """Reads a whole backup and says what is wrong with it: `problems`, empty if it is sound. `fold` False: only
        the checksums. Needs no system, and starts none."""
        from memos_ray.backup import calls

        return await asyncio.to_thread(calls.verify_backup, backup, fold=fold, progress=progress)

    async def restore_backup(
        self,
        backup: str | Path,
        *,
        cubes: Sequence[str] | None = None,
        as_cube: str | None = None,
        at: Any = None,
        replace: bool = False,
        again: bool = False,
        workers: int = 4,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Any]:
        """Brings cubes (None: all) back from a backup: one of them under another id (`as_cube`), as of an earlier time
        (`at`), in place of existing ones (`replace`). Repeating it changes nothing, unless `again`.

        Raises `Conflict`, before anything is changed, if there is a cube of that id and `replace` is False.
        """
        from memos_ray.backup import calls

        connection = await self._ready()
        return await calls.restore_backup(
            connection,
            backup,
            cubes,
            as_cube=as_cube,
            at=at,
            replace=replace,
            again=again,
            workers=workers,
            progress=progress,
        )

    async def restore_to(
        self,
        cube_id: str | None,
        *,
        at: Any = None,
        incarnation: str | None = None,
        as_cube: str | None = None,
        workers: int = 4,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Any]:
        """Puts a cube (None: every one) back to what its own journal held at `at`, or makes it a new cube `as_cube`.

        What it was until now stays in storage as an incarnation that the answer names (`previous`):
        `restore_to(cube_id, incarnation=previous)` undoes this.
        """
        from memos_ray.backup import calls

        connection = await self._ready()
        return await calls.restore_to(
            connection,
            cube_id,
            at=at,
            incarnation=incarnation,
            as_cube=as_cube,
            workers=workers,
            progress=progress,
        )

    async def stats(self, cube_id: str) -> dict[str, Any]:
        """What a cube holds and where it runs."""
        return await (await self.cube(cube_id)).stats()

    async def status(self, *, cubes: int = 10) -> dict[str, Any]:
        """What runs: settings, nodes, hosts with the cubes they hold, the `cubes` busiest of these, the directory with
        the pool and the rates of the last seconds, and the embedder (None if it does not answer)."""
        connection = await self._ready()
        info: SystemInfo = await connection.ask_directory("status", check_whole(cubes, "cubes", 0))
        return {
            "data": connection.settings.data,
            "namespace": connection.settings.namespace,
            "embedder": connection.settings.embedder,
            "reranker": connection.settings.reranker,
            "nodes": [listed(n) for n in info.nodes],
            "hosts": [listed(h) for h in info.hosts],
            "active_cubes": info.active,
            "busiest": [listed(c) for c in info.cubes],
            "directory": listed(info.directory),
            "embedding": None if info.embedder is None else listed(info.embedder),
        }

    async def _cube(
        self,
        cube_id: str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> tuple[AsyncCube, dict[str, str]]:
        target, scope = resolve_cube_id(cube_id=cube_id, user_id=user_id, agent_id=agent_id, run_id=run_id)
        return await self.cube(target), scope

    async def _whole_cube(self, verb: str, ids: CubeIds) -> AsyncCube:
        cube, scope = await self._cube(**_ids(ids))
        if scope:
            raise Invalid(
                f"{verb} concerns all of cube {cube.cube_id!r}; {sorted(scope)} would be ignored",
                argument=next(iter(scope)),
            )
        return cube


def make_settings(settings: Settings | None, overrides: Mapping[str, Any]) -> Settings:
    """`settings` (or those of the environment) with the overrides. Raises `Invalid` for unknown or bad ones."""
    base = settings.model_dump(exclude_unset=True) if settings is not None else {}
    try:
        return Settings(**{**base, **{k: v for k, v in overrides.items() if v is not None}})
    except ValueError as error:
        raise Invalid(f"settings: {error}", argument="settings") from error


async def _reranked(connection: Connection, query: str, hits: Sequence[SearchHit]) -> Reranked:
    """One call for all hits. A reranker that fails is told of in what comes back."""
    if not hits:
        return Reranked()
    try:
        said = await connection.rerank(query, [render(hit.item) for hit in hits])
        return reranked(hits, said.scores.tolist(), said.fingerprint)
    except Retryable as error:
        log.warning("the order of the ranker stays: %s", error)
        return Reranked(error=str(error))


def _ids(given: CubeIds) -> dict[str, str | None]:
    known = tuple(CubeIds.__annotations__)
    for key in given:
        if key not in known:
            raise Invalid(f"unknown argument {key!r}; a cube is named by {', '.join(known)}", argument=key)
    return {key: given.get(key) for key in known}  # type: ignore[misc]
