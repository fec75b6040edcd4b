"""Vectors follow what is live: through edits, deletions, failures and activations, on a real table."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest

from memos_ray.cube.contexts import Contexts
from memos_ray.cube.requests import (
    AddMemories,
    ArchiveMemory,
    CreateSnapshot,
    DeleteAll,
    DeleteMemories,
    RestoreMemory,
    RestoreSnapshot,
    UpdateMemory,
)
from memos_ray.cube.state import CubeState
from memos_ray.cube.upkeep import VectorUpkeep
from memos_ray.cube.vector_store import LanceVectorStore, MemoryVectorStore, VectorKeys, hashes
from memos_ray.errors import Unavailable
from memos_ray.ingest.drafts import MemoryDraft
from memos_ray.models.batching import BatchingEmbedder
from memos_ray.models.embedder import HashEmbedder
from memos_ray.models.encoded import Documents, Encoded, TokenRows, Tokens
from memos_ray.retrieval.sketch import Sketches
from memos_ray.testing.plain_journal import PlainJournal
from memos_ray.types import Kind, Source

T = datetime(2024, 5, 1, tzinfo=UTC)
DIM = 24


class Reader(HashEmbedder):
    """Vectors of a text and its context together, and one for each word of the text, of the same."""

    def __init__(self, token_dim: int = DIM) -> None:
        super().__init__(DIM)
        self._token_dim = token_dim
        self.asked: list[tuple[str, str]] = []
        self.broken = False
        self.during = None

    @property
    def token_dim(self) -> int:
        return self._token_dim

    async def encode(
        self, texts: Sequence[str], *, contexts: Sequence[str] | None = None, tokens: bool = False
    ) -> Encoded:
        before = contexts or [""] * len(texts)
        self.asked += zip(texts, before, strict=True)
        if self.during is not None:
            during, self.during = self.during, None
            during()
        if self.broken:
            raise Unavailable("down", what="embedder")
        vectors = await self.embed([f"{c} | {t}" for c, t in zip(before, texts, strict=True)])
        rows = []
        for text, context in zip(texts, before, strict=True):
            words = text.split()
            found = await self.embed([f"{context} | {word}" for word in words])
            rows.append(TokenRows(np.arange(len(words), dtype=np.int32), found))
        return Encoded(vectors, Tokens.join(rows, DIM) if tokens and self._token_dim else None)


class Followed:
    """A journal whose state an upkeep follows, as a cube's does."""

    def __init__(self, embedder: Reader, uri: Path | None) -> None:
        self.embedder, self.uri = embedder, uri
        self.upkeep: VectorUpkeep | None = None
        self.journal = PlainJournal(on_apply=lambda slots, rows: self.upkeep.changed())

    async def __aenter__(self) -> "Followed":
        await self.activate(self.journal.state)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.upkeep.close()

    async def activate(self, state: CubeState) -> None:
        if self.upkeep is not None:
            await self.upkeep.close()
        self.state, self.embedder.asked = state, []

        def stored(fingerprint: str, dim: int, token_dim: int) -> LanceVectorStore | MemoryVectorStore:
            if self.uri is None:
                return MemoryVectorStore()
            return LanceVectorStore(str(self.uri / f"{fingerprint}.lance"), dim, token_dim)

        self.upkeep = VectorUpkeep(state, BatchingEmbedder(self.embedder), stored)
        self.upkeep.start()
        assert await self.upkeep.settled() is not self.embedder.broken

    async def again(self) -> None:
        """Another activation, of the rows as they are stored."""
        await self.activate(CubeState.from_table("cube", self.journal.state.store.to_table()))

    async def submit(self, request: object) -> object:
        answer = self.journal.submit(request)
        assert await self.upkeep.settled()
        return answer

    def arrays(self) -> list[np.ndarray]:
        slots = np.arange(self.state.n_slots)
        tokens = self.upkeep.tokens
        kept = tokens.of(slots) if tokens is not None else Sketches(*[np.empty(0)] * 3)
        return [self.upkeep.dense.vectors(slots), kept.counts, kept.codes, kept.scales]

    async def check(self) -> None:
        """What is live has the vectors that its text has in its context as it is now."""
        slots = np.flatnonzero(self.state.slot_active.view)
        fresh = Contexts(self.state).of(slots)
        made = await BatchingEmbedder(Reader(self.embedder.token_dim)).encode_documents(
            self.state.texts(slots), fresh
        )
        np.testing.assert_array_equal(self.upkeep.dense.vectors(slots), made.vectors)
        if made.tokens is not None:
            kept = self.upkeep.tokens.of(slots)
            for name in ("counts", "codes", "scales"):
                np.testing.assert_array_equal(getattr(kept, name), getattr(made.tokens, name))


def said(*texts: str) -> AddMemories:
    return AddMemories(tuple(MemoryDraft(t, Kind.MESSAGE, T, source=Source(session="s")) for t in texts))


async def test_every_kind_of_change_reaches_those_that_follow(tmp_path: Path):
    reader = Reader()
    async with Followed(reader, tmp_path) as cube:
        ids = (await cube.submit(said("Where is my red bike?", "In the cellar", "Thanks", "Bye then"))).ids
        assert reader.asked[1] == ("In the cellar", "Where is my red bike?")
        await cube.check()
        fact = MemoryDraft("A fact", Kind.FACT, T)
        steps = [
            (UpdateMemory(ids[0], text="Where is my blue bike?"), 4, "blue"),
            (AddMemories((fact,)), 1, None),
            (ArchiveMemory(ids[0]), 4, None),
            (RestoreMemory(ids[0]), 4, "blue"),
            (CreateSnapshot("S"), 0, None),
            (DeleteMemories((ids[0],)), 3, None),
            (UpdateMemory(ids[3], metadata={"mood": "good"}), 1, None),
            (RestoreSnapshot("S"), 4, "blue"),
            (said("More"), 1, "blue"),
            (DeleteAll({}, everything=True), 0, None),
            (said("New"), 1, None),
        ]
        for request, made, word in steps:
            reader.asked = []
            await cube.submit(request)
            assert len(reader.asked) == made, request
            assert all("red" not in context for _, context in reader.asked)
            if word is not None:
                assert any(word in context for _, context in reader.asked)
            await cube.check()
            assert cube.upkeep.pending == 0
        before = cube.arrays()
        await cube.again()
        assert reader.asked == []
        for array, other in zip(cube.arrays(), before, strict=True):
            np.testing.assert_array_equal(array, other)
        await cube.check()


async def test_what_is_read_before_a_message_is_the_end_of_its_session_only(tmp_path: Path):
    reader = Reader()
    async with Followed(reader, tmp_path) as cube:
        ids = (await cube.submit(said(*(f"message {i} " + f"word{i} " * 17 for i in range(12))))).ids
        reader.asked = []
        await cube.submit(DeleteMemories((ids[2],)))
        assert [text.split()[1] for text, _ in reader.asked] == ["3", "4"]
        await cube.check()


async def test_nothing_that_was_deleted_meanwhile_stays(tmp_path: Path):
    """The first message goes while the second is being embedded after it."""
    reader = Reader()
    async with Followed(reader, tmp_path) as cube:
        (first,) = (await cube.submit(said("My secret is 1234"))).ids
        reader.during = lambda: cube.journal.submit(DeleteMemories((first,)))
        cube.journal.submit(said("Forget that"))
        assert await cube.upkeep.settled()
        assert await cube.upkeep.settled()
        assert reader.asked[-2:] == [("Forget that", "My secret is 1234"), ("Forget that", "")]
        await cube.check()


async def test_a_change_while_the_embedder_fails_is_made_good_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("memos_ray.cube.upkeep._FIRST_RETRY_S", 0.01)
    reader = Reader()
    async with Followed(reader, tmp_path) as cube:
        ids = (await cube.submit(said("one", "two"))).ids
        reader.broken = True
        cube.journal.submit(UpdateMemory(ids[0], text="uno"))
        assert not await cube.upkeep.settled()
        assert cube.upkeep.pending == 2
        assert await cube.upkeep.encode_query("x") is None
        reader.broken = False
        async with asyncio.timeout(20):
            while not await cube.upkeep.settled():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await cube.check()
        query = await cube.upkeep.encode_query("one two")
        assert query.vector.shape == (DIM,)
        assert query.token_vectors.shape == (2, DIM)


async def test_what_changed_while_no_cube_was_active_is_embedded_again(tmp_path: Path):
    """An owner that went down before it was done; the next one finds vectors of another context."""
    reader = Reader()
    async with Followed(reader, tmp_path) as cube:
        ids = (await cube.submit(said("one", "two", "three"))).ids
        await cube.upkeep.close()
        cube.journal.submit(UpdateMemory(ids[0], text="uno"))
        await cube.again()
        assert sorted(reader.asked) == [("three", "uno two"), ("two", "uno"), ("uno", "")]
        await cube.check()
        await cube.again()
        assert reader.asked == []
        await cube.check()


async def test_an_embedder_without_tokens(tmp_path: Path):
    async with Followed(Reader(token_dim=0), tmp_path) as cube:
        ids = (await cube.submit(said("one", "two"))).ids
        await cube.submit(UpdateMemory(ids[0], text="uno"))
        assert cube.upkeep.tokens is None
        await cube.check()
        assert (await cube.upkeep.encode_query("one")).token_vectors is None
        await cube.again()
        assert cube.embedder.asked == []
        await cube.check()


async def test_without_storage_everything_is_embedded_at_each_activation():
    async with Followed(Reader(), None) as cube:
        await cube.submit(said("one", "two"))
        await cube.again()
        assert len(cube.embedder.asked) == 2
        await cube.check()


def old_table(uri: str) -> None:
    """As tables were before there were tokens."""
    vector = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(DIM, np.float32)), DIM)
    columns = {"memory_id": ["x"], "version": pa.array([1], pa.int32()), "text_hash": [1], "vector": vector}
    lance.write_dataset(pa.table(columns), uri)


def other_values(uri: str) -> None:
    """Tokens that end within a code."""
    table = lance.dataset(uri).to_table()
    (name,) = (n for n in table.column_names if n.startswith("tokens"))
    spoilt = table.set_column(table.column_names.index(name), name, pa.array([b"x"] * len(table)))
    lance.write_dataset(spoilt, uri, mode="overwrite")


@pytest.mark.parametrize("spoil", [old_table, other_values])
async def test_a_table_of_another_form_counts_as_empty_and_is_made_anew(tmp_path: Path, spoil):
    reader = Reader()
    uri = str(tmp_path / f"{reader.fingerprint}.lance")
    if spoil is old_table:
        spoil(uri)
    async with Followed(reader, tmp_path) as cube:
        await cube.submit(said("one", "two"))
        await cube.check()
        if spoil is other_values:
            await cube.upkeep.close()
            spoil(uri)
        await cube.again()
        assert len(reader.asked) == (2 if spoil is other_values else 0)
        await cube.again()
        assert reader.asked == []
        await cube.check()


def test_a_table_gives_back_what_it_took(tmp_path: Path):
    rng = np.random.default_rng(0)
    store = LanceVectorStore(str(tmp_path / "v.lance"), 5, 12, compact_every=2)
    assert len(store.load()[0]) == 0
    parts = []
    for n in (3, 1, 4, 2):
        counts = rng.integers(0, 4, n)
        total = int(counts.sum())
        tokens = Sketches(
            counts, rng.integers(0, 256, (total, 2), np.uint8), rng.random(total).astype(np.float16)
        )
        texts = [f"{n} {i}" for i in range(n)]
        keys = VectorKeys(texts, np.arange(n, dtype=np.int32), hashes(texts), hashes(["c"] * n))
        parts.append((keys, Documents(rng.random((n, 5), np.float32), tokens)))
        store.append(*parts[-1])
    for opened in (store, LanceVectorStore(store.uri, 5, 12)):
        keys, rows = opened.load()
        assert keys.ids == [i for k, _ in parts for i in k.ids]
        for name in ("versions", "texts", "contexts"):
            expected = np.concatenate([getattr(k, name) for k, _ in parts])
            np.testing.assert_array_equal(getattr(keys, name), expected)
        np.testing.assert_array_equal(rows.vectors, np.concatenate([r.vectors for _, r in parts]))
        for name in ("counts", "codes", "scales"):
            expected = np.concatenate([getattr(r.tokens, name) for _, r in parts])
            np.testing.assert_array_equal(getattr(rows.tokens, name), expected)


def test_hashes_tell_texts_apart():
    found = hashes(["a", "b", "", "a"])
    assert (found.dtype, len(set(found.tolist()))) == (np.int64, 3)
    assert found[0] == found[3]
    assert hashes([]).shape == (0,)
