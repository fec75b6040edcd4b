"""When the checkpoints of an active cube are written: as it is passivated, and now and then while it grows.

Responsible for what is in them being of one moment, and for nobody waiting for them. What fails is logged: a
checkpoint only saves time. Knows which parts there are, and nothing of how they are kept or restored.
"""

from __future__ import annotations

import asyncio
import logging

import numpy as np

from memos_ray.cube.checkpoint import COLUMNS, CONTEXTS, INDEX, Checkpoints, Made, Opened, index_form, prefix
from memos_ray.cube.checkpoint_file import table_bytes
from memos_ray.cube.journal import Journal, beside
from memos_ray.cube.searching import CubeSearcher
from memos_ray.cube.state import CubeState
from memos_ray.cube.upkeep import VectorUpkeep
from memos_ray.errors import MemosError
from memos_ray.retrieval.arrays import Saved

log = logging.getLogger(__name__)

_LEAST = 64  # slots: below this, making everything again takes no longer than reading it
_LACKING = (
    0.05  # share of its rows that a checkpoint may lack when a cube is passivated; they are taken in on top
)
_GROWTH = 2_000  # rows since the last checkpoint, and as many as it has, before one is written in between
_PORTION = 250  # slots indexed before others get the loop: some 4 ms


class CheckpointKeeper:
    """Of one active cube. `index` is the checkpoint that it was activated from."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        index: Opened | None,
        journal: Journal,
        state: CubeState,
        searcher: CubeSearcher,
        upkeep: VectorUpkeep,
    ) -> None:
        self._checkpoints = checkpoints
        self._journal = journal
        self._state = state
        self._searcher = searcher
        self._upkeep = upkeep
        self._index = index
        self._written = 0  # rows that the one has which was written last
        self._task: asyncio.Task[None] | None = None

    @property
    def _had(self) -> int:
        """Rows that the last checkpoint has; 0 if it turned out to be damaged."""
        if self._index is None or not self._index.sound:
            return self._written
        return self._index.made.rows

    def applied(self) -> None:
        """The state has grown."""
        had = self._had
        if len(self._state.store) - had >= max(_GROWTH, had) and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self.write(), name="memos-checkpoint")

    async def close(self) -> None:
        """Writes what is worth it. Comes last: after the queue was drained and the vectors were saved."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        await self.write()

    async def write(self) -> None:
        """Both files, as far as they lack much. Raises nothing but a cancellation."""
        try:
            if self._state.n_slots < _LEAST:
                return
            had = self._had
            if not had or len(self._state.store) - had > _LACKING * had:
                await self._write_index()
            await self._write_vectors()
        except MemosError as error:
            log.warning("no checkpoint of %s: %s", self._state.cube_id, error)
        except Exception:
            log.exception("no checkpoint of %s", self._state.cube_id)

    async def _write_index(self) -> None:
        while not (self._searcher.catch_up(_PORTION) and self._upkeep.read_contexts()):  # noqa: ASYNC110
            await asyncio.sleep(0)  # others get their turn
        parts: dict[str, Saved] = {**self._searcher.saved(), CONTEXTS: self._upkeep.contexts()}
        made, store = self._made(index_form()), self._state.store
        appended = store.appended[:]

        def write() -> None:
            parts[COLUMNS] = {"table": table_bytes(store.unpacked(appended))}
            self._checkpoints.write(INDEX, made, parts)

        # A cube that another owner has taken over may have been made to forget something by now.
        await self._journal.confirm(latest=True)
        await asyncio.wrap_future(beside(write))
        self._written, self._index = made.rows, None

    async def _write_vectors(self) -> None:
        found = self._upkeep.saved()
        if found is None:
            return
        slots, stored, parts = found
        name, form = self._upkeep.checkpoint
        made = self._made(form, slots, stored)
        await self._journal.confirm(latest=True)
        await asyncio.wrap_future(beside(lambda: self._checkpoints.write(name, made, parts)))
        self._upkeep.kept(slots)

    def _made(self, form: str, slots: int | None = None, stored: int = 0) -> Made:
        store = self._state.store
        columns = [
            np.concatenate(
                (store.numbers[name], np.array([getattr(r, name) for r in store.appended], np.int64))
            )
            for name in ("epoch", "seq")
        ]
        found = prefix(columns[0], columns[1])
        return Made(found.rows, found.digest, self._state.n_slots if slots is None else slots, form, stored)
