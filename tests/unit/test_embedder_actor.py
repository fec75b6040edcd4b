"""The shared embedder's process and how cubes see it, without Ray: whatever goes wrong has a type."""

from __future__ import annotations

import asyncio
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from actors import embedder as module
from actors.embedder import EmbedderActor
from actors.remote_embedder import RemoteEmbedder
from memos_ray.config import Settings
from memos_ray.errors import Invalid, Unavailable
from memos_ray.models.embedder import HashEmbedder
from memos_ray.models.encoded import Encoded, TokenRows, Tokens
from memos_ray.models.factory import from_hub
from memos_ray.retrieval.sketch import Sketcher
from memos_ray.wire import EmbedderInfo, Reply


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch):
    """As it is outside of tests; what the actor sets in its process is taken back."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "taken back")
    monkeypatch.delenv("HF_HUB_OFFLINE")


@pytest.fixture
def actor() -> EmbedderActor:
    return EmbedderActor(Settings(embedder="hash"))


async def test_it_embeds(actor: EmbedderActor):
    info: EmbedderInfo = (await actor.info()).unwrap()
    found = (await actor.encode_documents(["a", "b"], ["", "so"])).unwrap()
    assert found.vectors.shape == (2, info.dim)
    query = (await actor.encode_query("b")).unwrap()
    np.testing.assert_array_equal(query.vector, found.vectors[1])
    assert info.token_dim == 0
    assert found.tokens is query.token_vectors is None
    for wrong in (
        actor.encode_documents([1], [""]),
        actor.encode_documents(["a"], []),
        actor.encode_query(1),
    ):
        assert isinstance((await wrong).error, Invalid)


async def test_any_failure_to_load_is_typed_and_tried_again(
    actor: EmbedderActor, monkeypatch: pytest.MonkeyPatch
):
    attempts = []

    def loading(_: Settings) -> HashEmbedder:
        attempts.append(1)
        if len(attempts) == 1:
            raise ZeroDivisionError("broken weights")
        return HashEmbedder()

    monkeypatch.setattr(module, "make_embedder", loading)
    first, second = await asyncio.gather(actor.info(), actor.encode_query("x"))
    for reply in (first, second):
        assert isinstance(reply.error, Unavailable)
        assert "broken weights" in str(reply.error)
    assert (await actor.info()).error is None
    assert len(attempts) == 2


async def test_two_waiters_of_a_failed_load_share_the_next_one(
    actor: EmbedderActor, monkeypatch: pytest.MonkeyPatch
):
    loads = []

    async def loading() -> int:
        loads.append(1)
        number = len(loads)
        await asyncio.sleep(0)
        if number == 1:
            raise Unavailable("down", what="embedder")
        return number

    async def waiter() -> object:
        try:
            return await actor._ready()
        except Unavailable:
            return await actor._ready()

    monkeypatch.setattr(actor, "_load", loading)
    assert await asyncio.gather(waiter(), waiter()) == [2, 2]


async def test_a_waiter_that_leaves_does_not_end_the_load(
    actor: EmbedderActor, monkeypatch: pytest.MonkeyPatch
):
    loaded = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(actor, "_load", lambda: asyncio.wait_for(loaded, None))
    waiter = asyncio.create_task(actor._ready())
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    loaded.set_result("embedder")
    assert await actor._ready() == "embedder"


async def test_any_failure_to_embed_is_typed(actor: EmbedderActor, monkeypatch: pytest.MonkeyPatch):
    class Failing(HashEmbedder):
        async def encode(self, texts, *, contexts=None, tokens=False):
            if "bad" in texts:
                raise RuntimeError("CUDA error")
            return await super().encode(texts, contexts=contexts, tokens=tokens)

    monkeypatch.setattr(module, "make_embedder", lambda _: Failing())
    reply = await actor.encode_documents(["bad"], [""])
    assert isinstance(reply.error, Unavailable)
    assert "CUDA error" in str(reply.error)
    assert (await actor.encode_query("good")).error is None


class Handle:
    """An actor handle whose `info` answers as told."""

    def __init__(self, outcome: object) -> None:
        self.info = self
        self._outcome = outcome

    async def remote(self) -> Reply:
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return Reply(error=self._outcome) if isinstance(self._outcome, type) else Reply(self._outcome)


async def test_what_a_cube_sees_is_typed_too():
    with pytest.raises(Unavailable, match="OSError: lost"):
        await RemoteEmbedder(Handle(OSError("lost"))).ready()
    with pytest.raises(Invalid, match="mine"):
        await RemoteEmbedder(Handle(Invalid("mine"))).ready()
    remote = RemoteEmbedder(Handle(EmbedderInfo("f", 3, 2)))
    await remote.ready()
    assert (remote.fingerprint, remote.dim, remote.token_dim) == ("f", 3, 2)


LETTERS = np.array([[1, 2, 3], [-1, 2, -3]], np.float32)


class Lettered(HashEmbedder):
    """Two tokens, of the text "ab"."""

    token_dim = 3

    async def encode(self, texts, *, contexts=None, tokens=False):
        found = await super().encode(texts, contexts=contexts)
        n = [len(text) if text == "ab" else 0 for text in texts]
        rows = [TokenRows(np.arange(k), LETTERS[:k], np.array([[0, 1], [1, 2]], np.int32)[:k]) for k in n]
        return Encoded(found.vectors, Tokens.join(rows, 3) if tokens else None)


async def test_tokens_and_contexts_cross_over(actor: EmbedderActor, monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(module, "make_embedder", lambda _: Lettered())

    class Through:
        """An actor handle that calls the actor here, and passes on what Ray would pickle."""

        def __getattr__(self, method: str) -> object:
            class Method:
                async def remote(self, *arguments: object) -> Reply:
                    asked.append(arguments)
                    answer = await getattr(actor, method)(*pickle.loads(pickle.dumps(arguments)))
                    return pickle.loads(pickle.dumps(answer))

            return Method()

    remote = RemoteEmbedder(Through())
    await remote.ready()
    found = await remote.encode_documents(("ab", ""), ("x", ""))
    assert asked[-1] == (["ab", ""], ["x", ""])
    np.testing.assert_array_equal(found.vectors, await HashEmbedder().embed(["ab", ""]))
    assert found.tokens.counts.tolist() == [2, 0]
    assert found.tokens.codes.tolist() == Sketcher(3).sketch(LETTERS)[0].tolist()
    query = await remote.encode_query("ab")
    np.testing.assert_array_equal(query.token_vectors, Sketcher(3).rotate(LETTERS))
    assert query.spans.tolist() == [[0, 1], [1, 2]]


@pytest.mark.parametrize(
    ("name", "hub"),
    [
        ("minilm", False),
        ("minilm-fp32", False),
        ("hash", False),
        ("openai:m", False),
        ("org/model", True),
        ("all-MiniLM-L6-v2", True),
    ],
)
async def test_only_a_hub_id_may_use_the_hub(name: str, hub: bool, monkeypatch: pytest.MonkeyPatch):
    assert from_hub(name) is hub
    monkeypatch.setattr(module, "make_embedder", lambda _: HashEmbedder())
    query = (await EmbedderActor(Settings(embedder=name)).encode_query("x")).unwrap()
    assert np.isfinite(query.vector).all()
    assert ("HF_HUB_OFFLINE" in os.environ) is not hub


def test_a_folder_is_no_hub_id_and_is_found_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    folder = Settings(embedder="./model").embedder
    assert folder == str(tmp_path / "model")
    assert not from_hub(folder)
