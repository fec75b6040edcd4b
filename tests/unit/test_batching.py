import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_ray.errors import Invalid, Overloaded, Unavailable
from memos_ray.models.batching import Batcher, BatchingEmbedder, Job
from memos_ray.models.embedder import HashEmbedder
from memos_ray.models.encoded import Encoded, TokenRows, Tokens
from memos_ray.retrieval.sketch import Sketcher


class Recorder:
    """A hash embedder that notes its batches, holds them while `gate` is shut, and fails on order."""

    def __init__(self):
        self.inner = HashEmbedder(32)
        self.fingerprint, self.dim = self.inner.fingerprint, self.inner.dim
        self.batches = []
        self.started, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.errors = {}
        self.token_dim = 0

    async def encode(self, texts, *, contexts=None, tokens=False):
        self.batches.append(list(texts))
        self.started.set()
        await self.gate.wait()
        for text in texts:
            if text in self.errors:
                raise self.errors[text]
        return await self.inner.encode(texts)


class Lettered(Recorder):
    """With tokens: the letters of a text, each with a vector that tells the letter and the context's length."""

    def __init__(self):
        super().__init__()
        self.token_dim = 3
        self.asked = []

    async def encode(self, texts, *, contexts=None, tokens=False):
        self.asked.append(tokens)
        found = await super().encode(texts)
        if not tokens:
            return found
        return Encoded(found.vectors, letters(texts, contexts or [""] * len(texts)))


def letters(texts, contexts):
    rows = []
    for text, context in zip(texts, contexts, strict=True):
        ids = np.array([ord(c) for c in text], np.int32)
        vectors = np.array([[i, len(context), 1] for i in ids], np.float32).reshape(len(ids), 3)
        spans = np.array([(i, i + 1) for i in range(len(ids))], np.int32).reshape(-1, 2)
        rows.append(TokenRows(ids, vectors, spans))
    return Tokens.join(rows, 3)


def same_tokens(found, expected):
    for name in ("offsets", "ids", "vectors", "spans"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


async def started_tasks(*coroutines):
    tasks = [asyncio.create_task(c) for c in coroutines]
    await asyncio.sleep(0)  # each runs up to its first wait: its texts are queued
    return tasks


@pytest.fixture
async def held():
    """A recorder that is busy with a first batch, and the embedder around it."""
    recorder = Recorder()
    recorder.gate.clear()
    embedder = BatchingEmbedder(recorder, max_batch=4, queue_limit=20)
    first = asyncio.create_task(embedder.embed(["first"]))
    await recorder.started.wait()
    yield recorder, embedder
    recorder.gate.set()
    await first


async def test_what_queued_during_a_batch_goes_into_the_next(held):
    recorder, embedder = held
    tasks = await started_tasks(*(embedder.embed([f"text {i}"]) for i in range(4)))
    recorder.gate.set()
    vectors = await asyncio.gather(*tasks)
    assert recorder.batches == [["first"], [f"text {i}" for i in range(4)]]
    for i, vector in enumerate(vectors):
        np.testing.assert_array_equal(vector, await HashEmbedder(32).embed([f"text {i}"]))


async def test_every_caller_gets_its_own_in_its_order(held):
    recorder, embedder = held
    asked = [[f"{'x' * ((i * 7 + j * 3) % 11)} {i} {j}" for j in range(i)] for i in range(1, 6)]
    tasks = await started_tasks(*(embedder.embed(texts) for texts in asked))
    recorder.gate.set()
    for texts, vectors in zip(asked, await asyncio.gather(*tasks), strict=True):
        np.testing.assert_array_equal(vectors, await HashEmbedder(32).embed(texts))
    assert max(map(len, recorder.batches)) <= 4


async def test_queries_go_first_and_are_remembered(held):
    recorder, embedder = held
    tasks = await started_tasks(embedder.embed([f"doc {i}" for i in range(6)]), embedder.encode_query("why?"))
    recorder.gate.set()
    await asyncio.gather(*tasks)
    assert recorder.batches[1] == ["why?"]
    count = len(recorder.batches)
    assert await embedder.encode_query("why?") is await tasks[1]
    assert len(recorder.batches) == count


async def test_a_query_that_many_ask_at_once_is_embedded_once(held):
    recorder, embedder = held
    tasks = await started_tasks(*(embedder.encode_query(text) for text in ("why?", "why?", "who?", "why?")))
    recorder.gate.set()
    found = await asyncio.gather(*tasks)
    assert recorder.batches[1:] == [["why?", "who?"]]
    assert found[0] is found[1] is found[3]
    assert (embedder.passes, embedder.texts) == (2, 3)


async def test_one_who_leaves_does_not_take_the_query_from_the_others(held):
    recorder, embedder = held
    first, second, alone = await started_tasks(*(embedder.encode_query(text) for text in ("a", "a", "b")))
    first.cancel()
    alone.cancel()
    recorder.gate.set()
    np.testing.assert_array_equal((await second).vector, (await HashEmbedder(32).embed(["a"]))[0])
    assert first.cancelled()
    np.testing.assert_array_equal(
        (await embedder.encode_query("b")).vector, (await HashEmbedder(32).embed(["b"]))[0]
    )


async def test_a_query_that_fails_is_told_to_each_and_tried_again(held):
    recorder, embedder = held
    recorder.errors["a"] = Unavailable("down", what="embedder")
    tasks = await started_tasks(*(embedder.encode_query("a") for _ in range(2)))
    recorder.gate.set()
    failures = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(f) for f in failures] == [Unavailable, Unavailable]
    assert failures[0] is not failures[1]
    recorder.errors.clear()
    assert (await embedder.encode_query("a")).vector.shape == (32,)


async def test_only_the_last_queries_are_remembered():
    recorder = Recorder()
    embedder = BatchingEmbedder(recorder, cached_queries=2)
    for text in ["a", "b", "a", "c", "a", "b"]:
        await embedder.encode_query(text)
    assert recorder.batches == [["a"], ["b"], ["c"], ["b"]]


async def test_a_full_queue_refuses_but_an_empty_one_takes_any_call(held):
    recorder, embedder = held
    (waiting,) = await started_tasks(embedder.embed(["x"] * 30))
    with pytest.raises(Overloaded) as refused:
        await embedder.embed(["y"])
    assert refused.value.retry_after_s > 0
    recorder.gate.set()
    assert (await waiting).shape == (30, 32)


async def test_a_caller_that_goes_away_costs_nothing_and_hurts_nobody(held):
    recorder, embedder = held
    gone, stays = await started_tasks(embedder.embed(["gone"] * 3), embedder.embed(["stays"]))
    gone.cancel()
    recorder.gate.set()
    assert (await stays).shape == (1, 32)
    assert all("gone" not in batch for batch in recorder.batches)


async def test_one_callers_bad_text_does_not_fail_the_others(held):
    recorder, embedder = held
    recorder.errors["bad"] = Invalid("too long", argument="texts")
    bad, good = await started_tasks(embedder.embed(["bad"]), embedder.embed(["good"]))
    recorder.gate.set()
    assert (await good).shape == (1, 32)
    with pytest.raises(Invalid, match="too long"):
        await bad


async def test_an_unreachable_model_fails_its_batch_once_and_the_next_call_works(held):
    recorder, embedder = held
    recorder.errors["a"] = Unavailable("down", what="embedder")
    tasks = await started_tasks(embedder.embed(["a"]), embedder.embed(["b"]))
    recorder.gate.set()
    failures = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(f) for f in failures] == [Unavailable, Unavailable]
    assert failures[0] is not failures[1]
    assert len(recorder.batches) == 2
    assert (await embedder.embed(["b"])).shape == (1, 32)


async def test_a_call_that_fails_half_way_fails_as_a_whole(held):
    recorder, embedder = held
    recorder.errors["zzzzzzzz"] = Unavailable("down", what="embedder")
    (task,) = await started_tasks(embedder.embed(["a", "b", "c", "d", "zzzzzzzz", "e" * 30]))
    recorder.gate.set()
    with pytest.raises(Unavailable):
        await task
    assert (await embedder.embed(["after"])).shape == (1, 32)


async def test_tokens_come_to_who_asked_for_them_each_in_its_place():
    recorder = Lettered()
    recorder.gate.clear()
    embedder = BatchingEmbedder(recorder, max_batch=4)
    texts, before = ["long text", "", "b", "ccc", "dd"], ["x", "", "yy", "", "zzz"]
    tasks = await started_tasks(
        embedder.encode(["first"]),
        embedder.encode(texts, contexts=before, tokens=True),
        embedder.encode(["other", "texts"]),
    )
    recorder.gate.set()
    first, found, other = await asyncio.gather(*tasks)
    assert first.tokens is other.tokens is None
    assert found.vectors.shape == (5, 32)
    same_tokens(found.tokens, letters(texts, before))
    assert any(recorder.asked)
    await embedder.encode(["last"])
    assert recorder.asked[-1] is False  # nobody in that batch wants them


async def test_a_query_has_its_tokens_turned_and_where_they_are():
    recorder = Lettered()
    embedder = BatchingEmbedder(recorder)
    found = await embedder.encode_query("why")
    expected = letters(["why"], [""])
    np.testing.assert_array_equal(found.vector, (await HashEmbedder(32).embed(["why"]))[0])
    np.testing.assert_array_equal(found.token_vectors, Sketcher(3).rotate(expected.vectors))
    assert found.spans.tolist() == [[0, 1], [1, 2], [2, 3]]
    empty = await embedder.encode_query("")
    assert (empty.token_vectors.shape, empty.spans.shape) == ((0, 3), (0, 2))
    plain = await BatchingEmbedder(HashEmbedder(8)).encode_query("why")
    assert plain.token_vectors is plain.spans is None
    with pytest.raises(Invalid, match="text"):
        await embedder.encode_query(["why"])


@pytest.mark.parametrize("times", [1, 20])
async def test_documents_are_vectors_and_sketches(times):
    embedder = BatchingEmbedder(Lettered(), max_batch=4)
    texts, before = ["ab", "", "c"] * times, ["x", "", "xx"] * times
    found = await embedder.encode_documents(texts, before)
    expected = letters(texts, before)
    codes, scales = Sketcher(3).sketch(expected.vectors)
    assert found.tokens.counts.tolist() == [2, 0, 1] * times
    np.testing.assert_array_equal(found.tokens.codes, codes)
    np.testing.assert_array_equal(found.tokens.scales, scales)
    np.testing.assert_array_equal(found.vectors, await HashEmbedder(32).embed(texts))
    assert (await BatchingEmbedder(HashEmbedder(8)).encode_documents(["a"], ["b"])).tokens is None
    empty = await embedder.encode_documents([], [])
    assert (len(empty.tokens), empty.tokens.codes.shape, empty.vectors.shape) == (0, (0, 1), (0, 32))


async def test_an_embedder_without_tokens_gives_none():
    found = await BatchingEmbedder(HashEmbedder(8)).encode(["a"], contexts=["b"], tokens=True)
    assert found.tokens is None
    assert found.vectors.shape == (1, 8)


@pytest.mark.parametrize("contexts", ["b", ["b"], ["b", None], ["b", "\ud800"], 3])
async def test_wrong_contexts_are_refused(contexts):
    with pytest.raises(Invalid, match="context"):
        await BatchingEmbedder(HashEmbedder(8)).encode(["a", "c"], contexts=contexts)


async def test_empty_and_wrong_input():
    embedder = BatchingEmbedder(HashEmbedder(32))
    assert (await embedder.embed([])).shape == (0, 32)
    for wrong in ("text", [1], ["\ud800"], None):
        with pytest.raises(Invalid):
            await embedder.embed(wrong)
    assert (embedder.fingerprint, embedder.dim) == ("hash-v1-32", 32)


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 50), min_size=1, max_size=9), st.booleans()), max_size=12),
    st.data(),
)
def test_batcher_takes_everything_once_queries_first(jobs, data):
    batcher = Batcher(max_batch=3)
    put, taken = [], []
    for lengths, query in jobs:
        job = Job(["x" * n for n in lengths], query)
        batcher.put(job)
        put += [(id(job), i) for i in range(len(lengths))]
        if data.draw(st.booleans()):
            taken.append(batcher.take())
    while batch := batcher.take():
        taken.append(batch)
    assert batcher.waiting == 0
    assert sorted((id(job), i) for batch in taken for job, i in batch) == sorted(put)
    assert all(len(batch) <= 3 and len({job.query for job, _ in batch}) == 1 for batch in taken)


def test_a_short_job_does_not_wait_for_a_long_one_to_end():
    batcher = Batcher(max_batch=4)
    long, short = Job(["x" * i for i in range(1, 201)], query=False), Job(["one", "two"], query=False)
    batcher.put(long)
    first = batcher.take()  # opens a window of sixteen
    batcher.put(short)
    taken = [batcher.take() for _ in range(5)]
    assert all(job is long for job, _ in [*first, *(p for batch in taken[:3] for p in batch)])
    assert {i for batch in taken[3:] for job, i in batch if job is short} == {0, 1}
