"""What follows a commit: vectors for new versions, kept in memory and in the vector table.

Responsible for every slot getting a vector sooner or later, whatever the embedder does in between, and for
telling a search when its slots have theirs. Nothing here is ever on the acknowledgement path, and nothing is
lost with it: vectors are derived.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from memos_ray.cube.state import CubeState
from memos_ray.cube.vector_store import VectorKey, VectorStore, text_hash
from memos_ray.errors import MemosError
from memos_ray.retrieval.dense import DenseIndex

log = logging.getLogger(__name__)

OpenVectors = Callable[[str, int], VectorStore]
"""(fingerprint, dim) -> where such vectors are kept."""

_CHUNK = (
    256  # slots embedded, and stored, at a time: a search waits for one chunk more than it needs, at most
)
_SAVE_AFTER_S = (
    2.0  # without new slots; a commit to the vector table for every added memory would double its cost
)
_BEGIN_AFTER_S = 0.005  # the answer to whoever added leaves this process first: it needs the interpreter too
_FIRST_RETRY_S = 0.5
_LAST_RETRY_S = 30.0


class LateEmbedder(Protocol):
    """An `Embedder` that is ready only after `ready` returned (a model that is being loaded elsewhere)."""

    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    @property
    def dim(self) -> int: ...  # noqa: D102

    async def ready(self) -> object:
        """Waits for it. Raises `Unavailable`."""
        ...

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        """See `Embedder.embed`; queries go first."""
        ...


class VectorUpkeep:
    """Follows the state's slots with vectors. One per active cube; `start` it on the loop, `close` it at the end."""

    def __init__(self, state: CubeState, embedder: LateEmbedder, open_store: OpenVectors) -> None:
        self._state = state
        self._embedder = embedder
        self._open_store = open_store
        self._done = 0  # slots below this have a vector
        self._unsaved: list[int] = []  # slots whose vectors are not in the table yet
        self._failing: Exception | None = None
        self._wake = asyncio.Event()
        self._soon: asyncio.TimerHandle | None = None
        self._progress = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._store: VectorStore | None = None
        self.dense: DenseIndex | None = None

    def start(self) -> None:
        """Loads what is stored, then embeds what is missing, and goes on with what is added."""
        self._task = asyncio.create_task(self._run())

    def added(self) -> None:
        """New slots came to be. They are taken up in a moment, or at once if a search comes."""
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(_BEGIN_AFTER_S, self._begin)

    def _begin(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        self._wake.set()

    @property
    def pending(self) -> int:
        """Slots without a vector."""
        return self._state.n_slots - self._done

    async def settled(self) -> bool:
        """Waits until every slot of this moment has its vector. False as soon as the embedder turns out to fail."""
        target = self._state.n_slots
        if self._done >= target:
            return True
        self._begin()
        async with self._progress:
            await self._progress.wait_for(lambda: self._done >= target or self._failing is not None)
        return self._done >= target

    async def embed_query(self, text: str) -> NDArray[np.float32] | None:
        """The query's vector, or None while the embedder fails (searches then do without the dense arm)."""
        if self.pending:
            self._begin()
        try:
            await self._embedder.ready()
            vectors = await self._embedder.embed([text], query=True)
        except Exception as error:
            log.warning("the query could not be embedded, searching without its vector: %s", error)
            return None
        first: NDArray[np.float32] = vectors[0]
        return first

    async def close(self) -> None:
        """Stops, and saves what it has. What is not embedded yet will be at the next activation."""
        if self._soon is not None:
            self._soon.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._store is not None:
            await self._save(self._store)

    async def _run(self) -> None:
        delay_s = _FIRST_RETRY_S
        while True:
            try:
                if self._store is None:
                    self._store = await self._load()
                while self._done < self._state.n_slots:
                    await self._advance()
                    delay_s = _FIRST_RETRY_S
                    if len(self._unsaved) >= _CHUNK:
                        await self._save(self._store)
            except Exception as error:  # whatever it is, searches must not wait for a task that has ended
                log.warning(
                    "vectors are behind by %d memories, next try in %.1f s: %s", self.pending, delay_s, error
                )
                await self._tell(error)
                await asyncio.sleep(delay_s)
                delay_s = min(_LAST_RETRY_S, 2 * delay_s)
                continue
            await self._tell(None)
            self._wake.clear()
            if self._done >= self._state.n_slots:
                await self._rest(self._store)

    async def _load(self) -> VectorStore:
        await self._embedder.ready()
        store = self._open_store(self._embedder.fingerprint, self._embedder.dim)
        rows, matrix = await asyncio.to_thread(store.load)
        dense = DenseIndex(self._embedder.dim)
        if rows:
            keys = self._keys(range(self._state.n_slots))
            found = [(slot, row) for slot, key in enumerate(keys) if (row := rows.get(key)) is not None]
            if found:
                dense.set([slot for slot, _ in found], matrix[[row for _, row in found]])
        self.dense = dense
        await self._skip_embedded()
        return store

    async def _rest(self, store: VectorStore) -> None:
        """Until there is something to do; saves if that takes long."""
        if self._unsaved:
            try:
                # Not wait_for: Python 3.11's loses a cancellation that comes with what it waits for.
                async with asyncio.timeout(_SAVE_AFTER_S):
                    await self._wake.wait()
            except TimeoutError:
                await self._save(store)
        else:
            await self._wake.wait()

    async def _advance(self) -> None:
        dense = self.dense
        assert dense is not None
        stop = min(self._done + _CHUNK, self._state.n_slots)
        known = dense.embedded
        slots = [s for s in range(self._done, stop) if s >= len(known) or not known[s]]
        if slots:
            dense.set(slots, await self._embedder.embed(self._state.texts(slots)))
            self._unsaved += slots
        self._done = stop
        await self._skip_embedded()

    async def _save(self, store: VectorStore) -> None:
        slots, self._unsaved = self._unsaved, []
        if not slots or self.dense is None:
            return
        try:
            await asyncio.to_thread(store.append, self._keys(slots), self.dense.vectors(slots))
        except MemosError as error:  # searches have the vectors; the next activation makes them again
            log.warning("%s", error)

    async def _skip_embedded(self) -> None:
        assert self.dense is not None
        known = self.dense.embedded[self._done : self._state.n_slots]
        gaps = np.flatnonzero(~known)
        self._done += int(gaps[0]) if len(gaps) else len(known)
        async with self._progress:
            self._progress.notify_all()

    async def _tell(self, failing: Exception | None) -> None:
        self._failing = failing
        async with self._progress:
            self._progress.notify_all()

    def _keys(self, slots: Sequence[int] | range) -> list[VectorKey]:
        state = self._state
        ids, memory, version = state.ids, state.slot_memory.view, state.slot_version.view
        texts = state.texts(slots)
        return [(ids[memory[s]], int(version[s]), text_hash(t)) for s, t in zip(slots, texts, strict=True)]
