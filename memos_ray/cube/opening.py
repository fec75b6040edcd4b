"""From settings and an id to an active cube: which tables, which embedder, which extractor.

The one place that knows how the parts of a cube are put together on real storage.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import pyarrow as pa

from memos_ray.config import Settings
from memos_ray.cube.checkpoint import INDEX, Checkpoints, Opened, index_form
from memos_ray.cube.checkpoint_file import CheckpointFolder
from memos_ray.cube.cube import MemCube
from memos_ray.cube.journal import Journal, JournalConfig, beside
from memos_ray.cube.lance_store import LanceStore
from memos_ray.cube.log_store import LogStore
from memos_ray.cube.owner import Owner
from memos_ray.cube.packing import readable, stored_table
from memos_ray.cube.paths import checkpoints_path, journal_path, vectors_path
from memos_ray.cube.portable import without_ownership
from memos_ray.cube.registry import shared_registry
from memos_ray.cube.row_checks import check_rows
from memos_ray.cube.rowstore import RowStore
from memos_ray.cube.state import CubeState
from memos_ray.cube.upkeep import LateEmbedder, OpenVectors, VectorUpkeep
from memos_ray.cube.vector_store import LanceVectorStore, VectorStore
from memos_ray.errors import Moved
from memos_ray.ingest.extract_rules import RuleExtractor
from memos_ray.protocols import Clock, Extractor
from memos_ray.storage.options import storage_options

_UNPACK_AFTER_S = 0.05
_HINTS_AFTER_S = 0.5  # after a first search, which is usually what a cube was activated for


def journal_store(settings: Settings, cube_id: str, incarnation: str) -> LanceStore:
    """The journal's storage of one incarnation."""
    return LanceStore(
        journal_path(settings.data, cube_id, incarnation),
        durability=settings.durability,
        storage_options=storage_options(settings.data),
    )


async def open_cube(
    settings: Settings,
    cube_id: str,
    incarnation: str,
    *,
    embedder: LateEmbedder,
    clock: Clock,
    owner: str,
) -> MemCube:
    """Activates a cube: claims its log, folds it, starts its upkeep.

    Raises `Moved` if another owner claims it at the same time, or if the registry names another incarnation by
    now; `Corrupt`, `SchemaTooNew`, `Unavailable`.
    """

    def vectors(fingerprint: str, dim: int, token_dim: int) -> VectorStore:
        return LanceVectorStore(
            vectors_path(settings.data, cube_id, incarnation, fingerprint),
            dim,
            token_dim,
            storage_options=storage_options(settings.data),
        )

    def check() -> None:
        record = shared_registry(settings.data).lookup(cube_id)
        if record is None or record.state != "active" or record.incarnation != incarnation:
            message = f"cube {cube_id!r} has another incarnation by now"
            raise Moved(message, cube_id=cube_id, reason="incarnation")

    return await activate(
        settings,
        cube_id,
        journal_store(settings, cube_id, incarnation),
        open_vectors=vectors,
        embedder=embedder,
        clock=clock,
        owner=owner,
        checkpoints=CheckpointFolder(checkpoints_path(settings.data, cube_id, incarnation)),
        check=check,
    )


async def activate(
    settings: Settings,
    cube_id: str,
    store: LogStore,
    *,
    open_vectors: OpenVectors,
    embedder: LateEmbedder,
    clock: Clock,
    owner: str,
    checkpoints: CheckpointFolder | None = None,
    check: Callable[[], None] | None = None,
) -> MemCube:
    """A cube on any storage: see `open_cube`.

    `check` is called in a thread once the log is claimed; what it raises ends the activation. It must come after the
    claim, as whoever changes the registry fences the old incarnation off after the change: one of the two then sees the
    other. It and the fold run beside the commit of the `open` row; nothing is answered before all three are done.
    """
    begun: list[tuple[Future[_Folded], Future[None] | None]] = []

    def begin(live: pa.Table) -> None:
        folding = beside(lambda: _fold(cube_id, live, checkpoints))
        begun.append((folding, beside(check) if check is not None else None))

    journal = await Journal.activate(
        store, clock=clock, config=JournalConfig.from_settings(settings), owner=owner, on_live=begin
    )
    journal.release_live()
    try:
        ((folding, checking),) = begun
        folded = await asyncio.wrap_future(folding)
        if checking is not None:
            await asyncio.wrap_future(checking)
    except BaseException:
        await journal.close()
        raise
    state = folded.state
    upkeep = VectorUpkeep(state, embedder, open_vectors, folded.checkpoints, folded.index)
    cube = MemCube(
        journal,
        state,
        upkeep,
        clock=clock,
        settings=settings,
        extractor=make_extractor(settings),
        checkpoints=folded.checkpoints,
        index=folded.index,
    )
    if len(state.store):
        loop = asyncio.get_running_loop()
        loop.call_later(_UNPACK_AFTER_S, _unpack, state)
        loop.call_later(_HINTS_AFTER_S, cube.expect_writes)
    return cube


@dataclass(frozen=True, slots=True)
class _Folded:
    """What is made of the live rows beside the last commit of an activation."""

    state: CubeState
    checkpoints: Checkpoints | None
    index: Opened | None


def _fold(cube_id: str, live: pa.Table, folder: CheckpointFolder | None) -> _Folded:
    if folder is None:
        return _Folded(CubeState.from_table(cube_id, live), None, None)
    checkpoints = Checkpoints(folder, live["epoch"].to_numpy(), live["seq"].to_numpy())
    index = checkpoints.open(INDEX, index_form())
    state = CubeState.from_table(cube_id, live, None if index is None else index.columns)
    return _Folded(state, checkpoints, index)


def _unpack(state: CubeState) -> None:
    """Once the activation has been answered; whoever needs the columns sooner does not wait for this."""
    with contextlib.suppress(RuntimeError):  # the process is ending, and its threads have
        asyncio.get_running_loop().run_in_executor(None, state.store.unpack)


def make_extractor(settings: Settings) -> Extractor:
    """The configured LLM's, else the rules."""
    if settings.llm_model is None:
        return RuleExtractor()
    from memos_ray.ingest.extract_llm import LlmExtractor
    from memos_ray.models.chat import OpenAIChat

    return LlmExtractor(
        OpenAIChat(settings.llm_model, base_url=settings.llm_url, api_key=settings.llm_api_key)
    )


async def fence_off(settings: Settings, cube_id: str, incarnation: str, *, clock: Clock) -> None:
    """Takes an incarnation over and lets it lie: whoever owned it until now acknowledges nothing any more."""
    store = journal_store(settings, cube_id, incarnation)

    def take_over() -> None:
        store.open()
        Owner(store, clock, "fence").activate()

    await asyncio.to_thread(take_over)


def write_incarnation(settings: Settings, cube_id: str, incarnation: str, table: pa.Table) -> None:
    """Begins an incarnation with exported (or stored) rows, which keep their versions, times and op_ids.

    Raises `Corrupt`, before anything is written, for rows that no cube could be folded from.
    """
    check_rows(table)
    store = journal_store(settings, cube_id, incarnation)
    store.open()
    rows = RowStore(without_ownership(readable(table)))
    if len(rows):
        store.append(store.latest(), stored_table(rows.rows(range(len(rows)))))
