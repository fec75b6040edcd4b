"""Batches across callers, without a timer: what queued during one batch goes into the next.

`Batcher` decides which texts go next and knows neither time nor models; `BatchingEmbedder` runs it around an
embedder.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from memos_ray import telemetry
from memos_ray.errors import MemosError, Overloaded, Retryable
from memos_ray.models.embedder import check_contexts, check_texts
from memos_ray.models.encoded import Documents, Encoded, TokenRows, Vectors, as_documents, as_query
from memos_ray.protocols import Embedder
from memos_ray.retrieval.query_vectors import QueryVectors

_INLINE = 8  # so many texts are sketched where they are, in a few milliseconds; more of them in a thread
_WINDOW_BATCHES = 4  # so many batches' worth of waiting documents are sorted by length together


Row = tuple[Vectors, TokenRows | None]
"""A text's vector (dim,), and its tokens."""


@dataclass(eq=False, slots=True)
class Job:
    """One caller's texts. `rows` fills up as batches return; `missing` counts what is not there yet."""

    texts: Sequence[str]
    query: bool
    contexts: Sequence[str] | None = None
    tokens: bool = False
    rows: list[Row | None] = field(default_factory=list)
    missing: int = 0
    done: asyncio.Future[list[Row]] | None = None

    def __post_init__(self) -> None:
        self.missing = len(self.texts)
        self.rows = [None] * self.missing

    def context(self, i: int) -> str:
        """What goes before text i."""
        return self.contexts[i] if self.contexts is not None else ""


Part = tuple[Job, int]  # a text: its job and its position there


@dataclass(slots=True)
class Batcher:
    """Which texts are embedded next: queries before documents; documents of all jobs in turn, a batch's worth each.

    Documents are taken in windows of `4 * max_batch` and sorted by length inside one, because a batch costs what its
    longest text costs. A query waits for one batch at most; a job of documents for the rest of a window and then for
    one batch of each other job, however long these are.
    """

    max_batch: int
    waiting: int = 0
    _queries: deque[Part] = field(default_factory=deque)
    _documents: deque[deque[Part]] = field(
        default_factory=deque
    )  # what is left of each job, the next one first
    _window: deque[list[Part]] = field(default_factory=deque)

    def put(self, job: Job) -> None:
        """Queues all texts of `job`."""
        parts = [(job, i) for i in range(len(job.texts))]
        if job.query:
            self._queries.extend(parts)
        elif parts:
            self._documents.append(deque(parts))
        self.waiting += len(parts)

    def take(self) -> list[Part]:
        """The next batch, `max_batch` texts at most, none if nothing waits. Drops texts of ended jobs."""
        while self.waiting:
            if self._queries:
                batch = _first(self._queries, self.max_batch)
            else:
                if not self._window:
                    window = sorted(self._in_turn(_WINDOW_BATCHES * self.max_batch), key=_length)
                    starts = range(0, len(window), self.max_batch)
                    self._window.extend(window[i : i + self.max_batch] for i in starts)
                batch = self._window.popleft()
            self.waiting -= len(batch)
            batch = [part for part in batch if part[0].done is None or not part[0].done.done()]
            if batch:
                return batch
        return []

    def _in_turn(self, count: int) -> list[Part]:
        """Up to `count` texts: of each job a batch's worth, then it goes to the end."""
        taken: list[Part] = []
        while self._documents and len(taken) < count:
            parts = self._documents.popleft()
            taken += _first(parts, min(self.max_batch, count - len(taken)))
            if parts:
                self._documents.append(parts)
        return taken


def _length(part: Part) -> int:
    job, i = part
    return len(job.texts[i]) + len(job.context(i))


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
        """At most `queue_limit` texts wait; what became of the last `cached_queries` queries is kept."""
        self._inner = inner
        self._batcher = Batcher(max_batch)
        self._queue_limit = queue_limit
        self._cached_queries = cached_queries
        self._cache: OrderedDict[str, QueryVectors] = OrderedDict()
        self._asked: dict[str, asyncio.Future[list[Row]]] = {}  # queries that are being embedded
        self._worker: asyncio.Task[None] | None = None
        self.passes = 0  # batches that the inner embedder was given, and the texts in them
        self.texts = 0
        self._texts_per_s = 500.0  # a first guess, for `retry_after_s`

    @property
    def waiting(self) -> int:
        """Texts that wait."""
        return self._batcher.waiting

    @property
    def fingerprint(self) -> str:
        """The inner embedder's."""
        return self._inner.fingerprint

    @property
    def dim(self) -> int:
        """The inner embedder's."""
        return self._inner.dim

    @property
    def token_dim(self) -> int:
        """The inner embedder's."""
        return self._inner.token_dim

    async def ready(self) -> None:
        """Learns the dimensions, where only a call tells them. Raises what the inner embedder raises."""
        await self._inner.embed([])

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """(len(texts), dim) float32 unit vectors; see `encode`."""
        return (await self.encode(texts)).vectors

    async def encode_documents(self, texts: Sequence[str], contexts: Sequence[str]) -> Documents:
        """What a cube keeps of texts; `contexts` go before them. See `encode`."""
        found = await self.encode(texts, contexts=contexts, tokens=True)
        return as_documents(found) if len(texts) < _INLINE else await asyncio.to_thread(as_documents, found)

    async def encode_query(self, text: str) -> QueryVectors:
        """What a cube is asked with. Goes before all documents, and is remembered. See `encode`.

        Who asks for a text that is being embedded for another gets that one's vectors: a search asks many cubes at
        once, and all but those that know a name in the query want the same text.
        """
        check_texts([text], "text")
        known = self._cache.get(text)
        if known is not None:
            self._cache.move_to_end(text)
            telemetry.count(telemetry.EMBED_QUERIES, cache="hit")
            return known
        tokens = self.token_dim > 0
        asked = self._asked.get(text)
        telemetry.count(telemetry.EMBED_QUERIES, cache="miss" if asked is None else "joined")
        if asked is None:
            asked = self._asked[text] = self._put(Job([text], query=True, tokens=tokens))
            asked.add_done_callback(lambda done: self._answered(text, done))
        try:
            rows = await asyncio.shield(asked)  # a caller that leaves does not take it from the others
        except Exception as error:
            raise _own(error) from None
        known = self._cache.get(text)  # another who waited may have made it of the rows already
        if known is None:
            known = self._cache[text] = as_query(self._joined(rows, tokens))
            while len(self._cache) > self._cached_queries:
                self._cache.popitem(last=False)
        return known

    def _answered(self, text: str, done: asyncio.Future[list[Row]]) -> None:
        del self._asked[text]
        if not done.cancelled():
            done.exception()  # told to those who waited, if anybody still does

    async def encode(
        self,
        texts: Sequence[str],
        *,
        contexts: Sequence[str] | None = None,
        tokens: bool = False,
    ) -> Encoded:
        """See `Embedder.encode`.

        Raises `Invalid` for anything but strings, `Overloaded` when too much waits already (a single call is
        never too long for an empty queue), and what the inner embedder raises.
        """
        check_texts(texts)
        check_contexts(contexts, texts)
        tokens = tokens and self._inner.token_dim > 0
        if not len(texts):
            return await self._inner.encode(texts, tokens=tokens)
        job = Job(list(texts), False, contexts if contexts is None else list(contexts), tokens)
        return self._joined(await self._put(job), tokens)

    def _joined(self, rows: list[Row], tokens: bool) -> Encoded:
        return Encoded.join(rows, len(rows[0][0]), self.token_dim if tokens else 0)

    def _put(self, job: Job) -> asyncio.Future[list[Row]]:
        """Queues it; what comes back are its rows."""
        waiting = self._batcher.waiting
        if waiting and waiting + len(job.texts) > self._queue_limit:
            message = f"{waiting} texts wait to be embedded; with {len(job.texts)} more it would be over"
            raise Overloaded(
                f"{message} {self._queue_limit}", retry_after_s=round(waiting / self._texts_per_s, 3)
            )
        loop = asyncio.get_running_loop()
        job.done = loop.create_future()
        self._batcher.put(job)
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._work())
        return job.done

    async def _work(self) -> None:
        while batch := self._batcher.take():
            await self._run(batch)

    async def _run(self, batch: list[Part]) -> None:
        started = asyncio.get_running_loop().time()
        self.passes, self.texts = self.passes + 1, self.texts + len(batch)
        contexts = [job.context(i) for job, i in batch]
        try:
            found = await self._inner.encode(
                [job.texts[i] for job, i in batch],
                contexts=contexts if any(contexts) else None,
                tokens=any(job.tokens for job, _ in batch),
            )
        except Exception as error:
            self._note(batch, started, "failed")
            jobs = list(dict.fromkeys(job for job, _ in batch))
            if len(jobs) == 1 or isinstance(error, Retryable):
                _fail(jobs, error)
                return
            for job in jobs:  # one caller's texts must not fail the others'
                await self._run([part for part in batch if part[0] is job])
            return
        elapsed_s = max(self._note(batch, started, "ok"), 1e-6)
        self._texts_per_s += 0.2 * (len(batch) / elapsed_s - self._texts_per_s)
        _deliver(batch, found)

    def _note(self, batch: Sequence[Part], started: float, outcome: str) -> float:
        """Seconds that a batch took."""
        took_s = asyncio.get_running_loop().time() - started
        telemetry.observe(telemetry.EMBED_TEXTS, len(batch))
        telemetry.observe(telemetry.EMBED_SECONDS, took_s, outcome=outcome)
        return took_s


def _deliver(batch: Iterable[Part], found: Encoded) -> None:
    for (job, i), (vector, tokens) in zip(batch, found.rows(), strict=True):
        job.rows[i] = vector, tokens if job.tokens else None
        job.missing -= 1
        if not job.missing and job.done is not None and not job.done.done():
            job.done.set_result([row for row in job.rows if row is not None])


def _fail(jobs: Iterable[Job], error: Exception) -> None:
    for job in jobs:
        if job.done is not None and not job.done.done():
            job.done.set_exception(_own(error))


def _own(error: Exception) -> Exception:
    """Each caller gets an exception of its own: a shared one would collect all their tracebacks."""
    return type(error)(error.message, **error.fields) if isinstance(error, MemosError) else error
