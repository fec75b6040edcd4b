"""What follows a commit: vectors for new versions, kept in memory and in the vector table.

Responsible for every slot getting its vectors sooner or later, whatever the embedder does in between, for making
them again when the context changes that they were read in, and for telling a search when all that is done. Nothing
here is ever on the acknowledgement path, and nothing is lost with it: vectors are derived.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from memos_ray.cube.checkpoint import (
    CONTEXTS,
    DENSE,
    READ_AFTER,
    SKETCHES,
    Checkpoints,
    Opened,
    vectors_form,
    vectors_name,
)
from memos_ray.cube.columns import Growable
from memos_ray.cube.contexts import Contexts
from memos_ray.cube.state import CubeState
from memos_ray.cube.vector_match import NO_ROW, stored_rows
from memos_ray.cube.vector_store import VectorKeys, VectorStore
from memos_ray.errors import MemosError, Overloaded
from memos_ray.models.encoded import Documents
from memos_ray.retrieval.arrays import Saved, array_of
from memos_ray.retrieval.dense import DenseIndex
from memos_ray.retrieval.query_vectors import QueryVectors
from memos_ray.retrieval.token_index import TokenIndex

log = logging.getLogger(__name__)

OpenVectors = Callable[[str, int, int], VectorStore]
"""(fingerprint, dim, token_dim) -> where such vectors are kept."""

_CHUNK = (
    256  # slots embedded, and stored, at a time: a search waits for one chunk more than it needs, at most
)
_SAVE_AFTER_S = (
    2.0  # without new slots; a commit to the vector table for every added memory would double its cost
)
_BEGIN_AFTER_S = 0.005  # the answer to whoever added leaves this process first: it needs the interpreter too
_LOOK_AGAIN_S = 0.1  # after a search that was sent away; it then waits here once more
_FIRST_RETRY_S = 0.5
_LAST_RETRY_S = 30.0
_LACKING = 0.05  # share of the slots of a checkpoint of vectors that may be new before it is written again
_HASHED = 2_000  # slots whose texts are hashed before others get the loop: some 4 ms


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """What a checkpoint had: vectors of the first slots, the contexts they were read in, and after how many rows of
    the vector table it was made."""

    dense: DenseIndex
    tokens: TokenIndex | None
    contexts: NDArray[np.int64]
    stored: int


class LateEmbedder(Protocol):
    """An embedder as cubes take it: shared by many, and ready only after `ready` returned (a model that is being
    loaded elsewhere)."""

    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    @property
    def dim(self) -> int: ...  # noqa: D102

    @property
    def token_dim(self) -> int:
        """0: it gives no vectors of tokens."""
        ...

    async def ready(self) -> object:
        """Waits for it. Raises `Unavailable`."""
        ...

    async def encode_documents(self, texts: Sequence[str], contexts: Sequence[str]) -> Documents:
        """Vectors and sketches of the texts alone, read after their contexts ("" for none)."""
        ...

    async def encode_query(self, text: str) -> QueryVectors:
        """Goes before all documents."""
        ...


class VectorUpkeep:
    """Follows the state's slots with vectors. One per active cube; `start` it on the loop, `close` it at the end."""

    def __init__(
        self,
        state: CubeState,
        embedder: LateEmbedder,
        open_store: OpenVectors,
        checkpoints: Checkpoints | None = None,
        index: Opened | None = None,
    ) -> None:
        """`checkpoints` may have vectors, `index` the contexts, of the state's first rows."""
        self._state = state
        self._embedder = embedder
        self._open_store = open_store
        self._checkpoints = checkpoints
        self._index = index
        self._kept = 0  # slots whose vectors the checkpoint has…
        self._redone = 0  # …and how often one of these was made again since
        self._contexts = Contexts(state)
        self._context = Growable(np.empty(0, np.int64))  # by slot: hash of the context that its vectors have
        self._done = 0  # slots below this have a vector
        self._seen = 0  # events below this were asked for contexts that they change
        self._stale: dict[int, None] = {}  # slots to embed again, in order of appearance
        self._unsaved: dict[int, None] = {}  # slots whose vectors are not in the table yet
        self._failing: Exception | None = None
        self._wake = asyncio.Event()
        self._soon: asyncio.TimerHandle | None = None
        self._progress = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._store: VectorStore | None = None
        self.dense: DenseIndex | None = None
        self.tokens: TokenIndex | None = None  # stays None if the embedder gives no vectors of tokens

    def start(self) -> None:
        """Loads what is stored, then embeds what is missing, and goes on with what is added."""
        self._task = asyncio.create_task(self._run())

    def changed(self) -> None:
        """The state has applied rows. They are taken up in a moment, or at once if a search comes."""
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(_BEGIN_AFTER_S, self._begin)

    def _begin(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        self._wake.set()

    @property
    def pending(self) -> int:
        """Slots without a vector, or with one that is to be made again."""
        return self._state.n_slots - self._done + len(self._stale)

    @property
    def _behind(self) -> bool:
        return self._seen < self._state.event_row.size or self.pending > 0

    def _reached(self, slots: int, events: int) -> bool:
        return self._done >= slots and self._seen >= events and not self._stale

    async def settled(self, within_s: float | None = None) -> bool:
        """Waits until every slot of this moment has its vectors, made in its context of this moment.

        False as soon as the embedder turns out to fail. Raises `Overloaded` if it takes longer than `within_s`.
        """
        target = self._state.n_slots, self._state.event_row.size
        if self._reached(*target):
            return True
        self._begin()
        try:
            async with asyncio.timeout(within_s), self._progress:
                await self._progress.wait_for(lambda: self._reached(*target) or self._failing is not None)
        except TimeoutError:
            raise Overloaded(
                f"{self.pending:,} memories wait for their vectors; a search answers once it can see all of them",
                retry_after_s=_LOOK_AGAIN_S,
                pending=self.pending,
            ) from None
        return self._reached(*target)

    async def encode_query(self, text: str) -> QueryVectors | None:
        """The query's vectors, or None while the embedder fails (searches then do without)."""
        if self._behind:
            self._begin()
        try:
            await self._embedder.ready()
            return await self._embedder.encode_query(text)
        except Exception as error:
            log.warning("the query could not be embedded, searching without its vector: %s", error)
            return None

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
                while self._behind:
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
            if not self._behind:
                await self._rest(self._store)

    async def _load(self) -> VectorStore:
        embedder, state = self._embedder, self._state
        await embedder.ready()
        store = self._open_store(embedder.fingerprint, embedder.dim, embedder.token_dim)
        self._restore_contexts()
        kept, _ = await asyncio.gather(
            asyncio.to_thread(self._open_kept), asyncio.to_thread(state.store.unpack)
        )
        keys, stored = await asyncio.to_thread(store.load, kept.stored if kept else 0)
        dense = kept.dense if kept else DenseIndex(embedder.dim)
        tokens = TokenIndex(embedder.token_dim) if embedder.token_dim else None
        if kept is not None:
            tokens = kept.tokens
        seen = state.event_row.size  # what comes while this is going on is looked at afterwards
        some = len(keys) and (tokens is None or stored.tokens is not None)
        if some or kept is not None:
            whole = False
            while not whole:
                whole = self._contexts.catch_up(_HASHED)
                await asyncio.sleep(0)
        at = np.arange(state.n_slots)
        if kept is not None:
            self._note_contexts(at[: len(dense)], kept.contexts)
        if some:
            rows = stored_rows(state, keys, self._contexts.text_hashes(at), self._contexts.hashes(at))
            slots = np.flatnonzero(rows != NO_ROW)
            rows = rows[slots]
            dense.set(slots, stored.vectors[rows])
            if tokens is not None and stored.tokens is not None:
                sketches = stored.tokens.of(rows)
                tokens.set(slots, sketches.counts, sketches.codes, sketches.scales)
            self._note_contexts(slots, keys.contexts[rows])
        if kept is not None:
            self._kept = len(kept.contexts)
            live = np.flatnonzero(dense.embedded & state.slot_active.view[: len(dense)])
            other = self._contexts.hashes(live) != self._context.view[live]
            self._stale.update(dict.fromkeys(live[other].tolist()))
        self._seen = seen
        self.dense, self.tokens = dense, tokens
        await self._skip_embedded()
        return store

    def _open_kept(self) -> _Kept | None:
        """The vectors of a checkpoint, of the state's first slots."""
        embedder, state = self._embedder, self._state
        if self._checkpoints is None:
            return None
        opened = self._checkpoints.open(
            vectors_name(embedder.fingerprint), vectors_form(embedder.dim, embedder.token_dim)
        )
        if opened is None:
            return None
        dense = opened.restored(lambda saved: DenseIndex.restored(embedder.dim, saved), DENSE)
        tokens = None
        if embedder.token_dim:
            tokens = opened.restored(lambda saved: TokenIndex.restored(embedder.token_dim, saved), SKETCHES)
        contexts = opened.restored(lambda saved: array_of(saved, "hash", np.int64), READ_AFTER)
        if dense is None or contexts is None or (embedder.token_dim and tokens is None):
            return None
        if len(contexts) != len(dense) or len(dense) > state.n_slots:
            log.warning("a checkpoint of vectors is not used: it is of other slots than it says")
            return None
        return _Kept(dense, tokens, contexts, opened.made.stored)

    def _restore_contexts(self) -> None:
        index, self._index = self._index, None
        if index is not None:
            index.restored(self._contexts.restore, CONTEXTS)

    @property
    def checkpoint(self) -> tuple[str, str]:
        """(name, form) of the checkpoint that this keeps its vectors in."""
        embedder = self._embedder
        return vectors_name(embedder.fingerprint), vectors_form(embedder.dim, embedder.token_dim)

    def read_contexts(self) -> bool:
        """Reads some of the slots that `contexts` needs. Says whether these were all."""
        self._restore_contexts()
        return self._contexts.catch_up(_HASHED)

    def contexts(self) -> Saved:
        """A part of a checkpoint of all slots of this moment."""
        self._restore_contexts()
        return self._contexts.saved()

    def saved(self) -> tuple[int, int, dict[str, Saved]] | None:
        """(slots, rows of the vector table that are in it, parts) for a checkpoint of the vectors of this moment; None
        if the one that there is lacks few of them. What is missing or outdated can be told from it as from the table.
        """
        dense, tokens = self.dense, self.tokens
        if dense is None or self._store is None:
            return None
        slots = len(dense)
        if slots - self._kept + self._redone <= _LACKING * self._kept:
            return None
        parts: dict[str, Saved] = {
            DENSE: dense.saved(),
            READ_AFTER: {"hash": self._context.view[:slots].copy()},
        }
        if tokens is not None:
            parts[SKETCHES] = tokens.saved()
        return slots, self._store.count(), parts

    def kept(self, slots: int) -> None:
        """What `saved` returned last is in a file now."""
        self._kept, self._redone = slots, 0

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
        """Embeds a chunk: first what has no vectors, then what has outdated ones."""
        dense = self.dense
        assert dense is not None
        self._look_at_changes(dense)
        stop = min(self._done + _CHUNK, self._state.n_slots)
        known = dense.embedded
        slots = [s for s in range(self._done, stop) if s >= len(known) or not known[s]]
        again = list(self._stale)[: _CHUNK - len(slots)]
        await self._embed(slots + again, dense)
        for slot in again:
            del self._stale[slot]
        self._done = max(self._done, stop)
        await self._skip_embedded()

    def _look_at_changes(self, dense: DenseIndex) -> None:
        """Finds the slots whose vectors were read in another context than theirs is now."""
        events = self._state.event_memory.view[self._seen :]
        slots = self._contexts.affected(np.unique(events).tolist())
        slots = slots[slots < len(dense)]
        slots = slots[dense.embedded[slots]]
        if len(slots):
            other = self._contexts.hashes(slots) != self._context.view[slots]
            self._stale.update(dict.fromkeys(slots[other].tolist()))
        self._seen += len(events)

    async def _embed(self, slots: list[int], dense: DenseIndex) -> None:
        if not slots:
            return
        contexts, found = self._contexts.of(slots), self._contexts.hashes(slots)
        made = await self._embedder.encode_documents(self._state.texts(slots), contexts)
        dense.set(slots, made.vectors)
        if self.tokens is not None and made.tokens is not None:
            self.tokens.set(slots, made.tokens.counts, made.tokens.codes, made.tokens.scales)
        self._note_contexts(slots, found)
        self._unsaved.update(dict.fromkeys(slots))
        self._redone += sum(slot < self._kept for slot in slots)

    def _note_contexts(self, slots: Sequence[int] | NDArray[np.integer], found: NDArray[np.int64]) -> None:
        self._context.extend(np.zeros(self._state.n_slots - self._context.size, np.int64))
        self._context.view[np.asarray(slots, np.intp)] = found

    async def _save(self, store: VectorStore) -> None:
        slots, self._unsaved = list(self._unsaved), {}
        if not slots or self.dense is None:
            return
        state = self._state
        at = np.array(slots)
        keys = VectorKeys(
            [state.ids[m] for m in state.slot_memory.view[at].tolist()],
            state.slot_version.view[at],
            self._contexts.text_hashes(at),
            self._context.view[at],
        )
        rows = Documents(self.dense.vectors(at), None if self.tokens is None else self.tokens.of(at))
        try:
            await asyncio.to_thread(store.append, keys, rows)
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
