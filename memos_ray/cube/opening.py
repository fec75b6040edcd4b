"""From settings and an id to an active cube: which tables, which embedder, which extractor.

The one place that knows how the parts of a cube are put together on real storage.
"""

from __future__ import annotations

import asyncio
import contextlib

import pyarrow as pa

from memos_ray.config import Settings
from memos_ray.cube.cube import MemCube
from memos_ray.cube.journal import Journal, JournalConfig
from memos_ray.cube.lance_store import LanceStore
from memos_ray.cube.log_store import LogStore
from memos_ray.cube.owner import Owner
from memos_ray.cube.packing import readable, stored_table
from memos_ray.cube.paths import journal_path, vectors_path
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

_UNPACK_AFTER_S = 0.05


def journal_store(settings: Settings, cube_id: str, incarnation: str) -> LanceStore:
    """The journal's storage of one incarnation."""
    return LanceStore(journal_path(settings.data, cube_id, incarnation), durability=settings.durability)


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
            vectors_path(settings.data, cube_id, incarnation, fingerprint), dim, token_dim
        )

    cube = await activate(
        settings,
        cube_id,
        journal_store(settings, cube_id, incarnation),
        open_vectors=vectors,
        embedder=embedder,
        clock=clock,
        owner=owner,
    )
    # After the claim: whoever changes the registry fences the old incarnation off first, so one of the two sees it.
    try:
        record = await asyncio.to_thread(shared_registry(settings.data).lookup, cube_id)
    except BaseException:
        await cube.close()
        raise
    if record is None or record.state != "active" or record.incarnation != incarnation:
        await cube.close()
        raise Moved(f"cube {cube_id!r} has another incarnation by now", cube_id=cube_id, reason="incarnation")
    return cube


async def activate(
    settings: Settings,
    cube_id: str,
    store: LogStore,
    *,
    open_vectors: OpenVectors,
    embedder: LateEmbedder,
    clock: Clock,
    owner: str,
) -> MemCube:
    """A cube on any storage: see `open_cube`."""
    journal = await Journal.activate(
        store, clock=clock, config=JournalConfig.from_settings(settings), owner=owner
    )
    state = CubeState.from_table(cube_id, journal.live)
    journal.release_live()
    if len(state.store):
        asyncio.get_running_loop().call_later(_UNPACK_AFTER_S, _unpack, state)
    upkeep = VectorUpkeep(state, embedder, open_vectors)
    return MemCube(journal, state, upkeep, clock=clock, settings=settings, extractor=make_extractor(settings))


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
