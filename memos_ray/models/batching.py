"""Batches across callers, without a timer: what queued during one batch goes into the next.

`Batcher` decides which texts go next and knows neither time nor models; `BatchingEmbedder` runs it around an
embedder.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from memos_ray.errors import MemosError, Overloaded, Retryable
from memos_ray.models.embedder import Vectors, check_texts
from memos_ray.protocols import Embedder

_WINDOW_BATCHES = 16  # so many batches' worth of waiting documents are sorted by length together


@dataclass(eq=False, slots=True)
class Job:
    """One caller's texts. `vectors` fills up as batches return; `missing` counts what is not there yet."""

    texts: Sequence[str]
    query: bool
    vectors: Vectors
    missing: int
    done: asyncio.Future[Vectors] | None = None


Part = tuple[Job, int]  # a text: its job and its position there


@dataclass(slots=True)
class Batcher:
    """Which texts are embedded next: queries before documents; documents in order of arrival, roughly.

    Documents are taken in windows of `16 * max_batch` and sorted by length inside one, because a batch costs
    what its longest text costs. A query waits for one batch at most.
    """

    max_batch: int
    waiting: int = 0
    _queries: deque[Part] = field(default_factory=deque)
    _documents: deque[Part] = field(default_factory=deque)
    _window: deque[list[Part]] = field(default_factory=deque)

    def put(self, job: Job) -> None:
        """Queues all texts of `job`."""
        queue = self._queries if job.query else self._documents
        queue.extend((job, i) for i in range(len(job.texts)))
        self.waiting += len(job.texts)

    def take(self) -> list[Part]:
        """The next batch, `max_batch` texts at most, none if nothing waits. Drops texts of ended jobs."""
        while self.waiting:
            if self._queries:
                batch = _first(self._queries, self.max_batch)
            else:
                if not self._window:
                    window = _first(self._documents, _WINDOW_BATCHES * self.max_batch)
                    window.sort(key=lambda part: len(part[0].texts[part[1]]))
                    starts = range(0, len(window), self.max_batch)
                    self._window.extend(window[i : i + self.max_batch] for i in starts)
                batch = self._window.popleft()
            self.waiting -= len(batch)
            batch = [part for part in batch if part[0].done is None or not part[0].done.done()]
            if batch:
                return batch
        return []


def _first(queue: deque[Part], count: int) -> list[Part]:
    return [queue.popleft() for _ in range(min(count, len(queue)))]


class BatchingEmbedder:
    """An embedder for many callers at once around one that takes one batch at a time."""

    def __init__(
        self,
        inner: Embedder,
        *,
        max_batch: int = 64,
        queue_limit: int = 100_000,
        cached_queries: int = 10_000,
    ) -> None:
        """At most `queue_limit` texts wait; the vectors of the last `cached_queries` queries are kept."""
        self._inner = inner
        self._batcher = Batcher(max_batch)
        self._queue_limit = queue_limit
        self._cached_queries = cached_queries
        self._cache: OrderedDict[str, Vectors] = OrderedDict()
        self._worker: asyncio.Task[None] | None = None
        self._texts_per_s = 500.0  # a first guess, for `retry_after_s`

    @property
    def fingerprint(self) -> str:
        """The inner embedder's."""
        return self._inner.fingerprint

    @property
    def dim(self) -> int:
        """The inner embedder's."""
        return self._inner.dim

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
        """(len(texts), dim) float32 unit vectors. Queries go before documents, and are remembered.

        Raises `Invalid` for anything but strings, `Overloaded` when too much waits already (a single call is
        never too long for an empty queue), and what the inner embedder raises.
        """
        check_texts(texts)
        if not len(texts):
            return await self._inner.embed(texts)
        if query and (known := self._remembered(texts)) is not None:
            return known
        waiting = self._batcher.waiting
        if waiting and waiting + len(texts) > self._queue_limit:
            message = f"{waiting} texts wait to be embedded; with {len(texts)} more it would be over"
            raise Overloaded(
                f"{message} {self._queue_limit}", retry_after_s=round(waiting / self._texts_per_s, 3)
            )
        loop = asyncio.get_running_loop()
        job = Job(list(texts), query, np.empty((0, 0), np.float32), len(texts), loop.create_future())
        self._batcher.put(job)
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._work())
        assert job.done is not None
        vectors = await job.done
        if query:
            self._remember(texts, vectors)
        return vectors

    async def _work(self) -> None:
        while batch := self._batcher.take():
            await self._run(batch)

    async def _run(self, batch: list[Part]) -> None:
        started = asyncio.get_running_loop().time()
        try:
            vectors = await self._inner.embed([job.texts[i] for job, i in batch])
        except Exception as error:
            jobs = list(dict.fromkeys(job for job, _ in batch))
            if len(jobs) == 1 or isinstance(error, Retryable):
                _fail(jobs, error)
                return
            for job in jobs:  # one caller's texts must not fail the others'
                await self._run([part for part in batch if part[0] is job])
            return
        elapsed_s = max(asyncio.get_running_loop().time() - started, 1e-6)
        self._texts_per_s += 0.2 * (len(batch) / elapsed_s - self._texts_per_s)
        _deliver(batch, vectors)

    def _remembered(self, texts: Sequence[str]) -> Vectors | None:
        found = [self._cache.get(text) for text in texts]
        vectors = [v for v in found if v is not None]
        if len(vectors) < len(found):
            return None
        for text in texts:
            self._cache.move_to_end(text)
        return np.stack(vectors)

    def _remember(self, texts: Sequence[str], vectors: Vectors) -> None:
        for text, vector in zip(texts, vectors, strict=True):
            self._cache[text] = vector.copy()
            self._cache.move_to_end(text)
        while len(self._cache) > self._cached_queries:
            self._cache.popitem(last=False)


def _deliver(batch: Iterable[Part], vectors: Vectors) -> None:
    for (job, i), vector in zip(batch, vectors, strict=True):
        if not job.vectors.size:
            job.vectors = np.empty((len(job.texts), vectors.shape[1]), np.float32)
        job.vectors[i] = vector
        job.missing -= 1
        if not job.missing and job.done is not None and not job.done.done():
            job.done.set_result(job.vectors)


def _fail(jobs: Iterable[Job], error: Exception) -> None:
    for job in jobs:
        if job.done is not None and not job.done.done():
            # Each caller gets an exception of its own: a shared one would collect all their tracebacks.
            own = type(error)(error.message, **error.fields) if isinstance(error, MemosError) else error
            job.done.set_exception(own)
