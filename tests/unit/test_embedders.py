import asyncio
import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from memos_ray.config import Settings
from memos_ray.errors import Invalid, Unavailable
from memos_ray.models.embedder import HashEmbedder
from memos_ray.models.factory import make_embedder
from memos_ray.models.openai_embedder import OpenAIEmbedder
from memos_ray.protocols import Embedder


@contextmanager
def server(script):
    """An embeddings server on this machine. `script(number, body)` gives (status, headers, answer)."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append((self.path, self.headers.get("Authorization"), body))
            status, headers, answer = script(len(requests), body)
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

    httpd = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}/v1", requests
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def answer(body):
    """Vectors (length of the text, 1, 0), last one first, as servers may."""
    data = [{"index": i, "embedding": [len(t), 1, 0]} for i, t in enumerate(body["input"])]
    return {"data": data[::-1]}


def good(_, body):
    return 200, {}, answer(body)


def embedder(url, **options):
    return OpenAIEmbedder("m", url=url, **{"backoff_s": 0.001, **options})


async def test_openai_vectors_are_in_order_normalised_and_batched():
    with server(good) as (url, requests):
        model = embedder(url, api_key="secret", batch=2)
        with pytest.raises(Unavailable, match="dimension"):
            _ = model.dim
        vectors = await model.embed(["a", "bb", "ccc"])
        await model.close()
    expected = np.array([[1, 1, 0], [2, 1, 0], [3, 1, 0]], np.float32)
    np.testing.assert_allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)
    assert vectors.dtype == np.float32
    assert model.dim == 3
    assert [r[2]["input"] for r in requests] == [["a", "bb"], ["ccc"]]
    assert requests[0][:2] == ("/v1/embeddings", "Bearer secret")


async def test_openai_retries_what_may_pass():
    def flaky(number, body):
        return (
            (503, {}, b"busy")
            if number == 1
            else (429, {"Retry-After": "0"}, b"")
            if number == 2
            else good(3, body)
        )

    with server(flaky) as (url, requests):
        model = embedder(url)
        assert (await model.embed(["a"])).shape == (1, 3)
        assert len(requests) == 3
        await model.close()


@pytest.mark.parametrize(
    ("reply", "error", "calls"),
    [
        ((500, {}, b"broken"), Unavailable, 2),
        ((401, {}, b"who are you"), Unavailable, 1),
        ((400, {}, b"too long"), Invalid, 1),
        ((200, {}, b"not json"), Unavailable, 1),
        ((200, {}, {"data": []}), Unavailable, 1),
        ((200, {}, {"data": [{"index": 0, "embedding": [float("nan"), 1]}]}), Unavailable, 1),
        ((200, {}, {"data": [{"index": 0, "embedding": ["x"]}]}), Unavailable, 1),
    ],
)
async def test_openai_failures_are_typed(reply, error, calls):
    with server(lambda *_: reply) as (url, requests):
        model = embedder(url, attempts=2)
        with pytest.raises(error):
            await model.embed(["a"])
        assert len(requests) == calls
        await model.close()


async def test_openai_server_that_is_not_there():
    with server(good) as (url, _):
        pass
    model = embedder(url, attempts=2)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
        await model.embed(["a"])
    await model.close()


async def test_openai_another_dimension_is_refused():
    def changing(number, body):
        return 200, {}, {"data": [{"index": 0, "embedding": [1.0] * (2 + number)}]}

    with server(changing) as (url, _):
        model = embedder(url)
        await model.embed(["a"])
        with pytest.raises(Unavailable, match="shape"):
            await model.embed(["a"])
        await model.close()


async def test_openai_empty_list_learns_the_dimension():
    with server(good) as (url, requests):
        model = embedder(url)
        assert (await model.embed([])).shape == (0, 3)
        assert (await model.embed([])).shape == (0, 3)
        assert len(requests) == 1
        await model.close()


def test_openai_fingerprints_tell_servers_and_models_apart():
    models = [OpenAIEmbedder(m, url=u) for m in ("a/b", "c") for u in ("http://x/v1", "http://y/v1")]
    prints = {m.fingerprint for m in models}
    assert len(prints) == 4
    assert all(set(p) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-") for p in prints)


async def test_hash_vectors():
    model = HashEmbedder(64)
    texts = ["a grey cat", "the grey cat", "quantum chromodynamics", "", "猫"]
    vectors = await model.embed(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert vectors.dtype == np.float32
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2]
    np.testing.assert_array_equal(
        vectors,
        await HashEmbedder(64).embed(["a grey cat", "the grey cat", "quantum chromodynamics", "", "猫"]),
    )
    assert (await model.embed([])).shape == (0, 64)
    assert isinstance(model, Embedder)


@pytest.mark.parametrize("wrong", ["text", b"x", [None], ["ok", 3], ["\ud83d"], 7])
async def test_wrong_input_is_refused(wrong):
    with pytest.raises(Invalid, match="texts"):
        await HashEmbedder().embed(wrong)


def test_factory():
    assert make_embedder(Settings(embedder="hash")).dim == 384
    assert make_embedder(Settings(embedder="openai:big")).fingerprint.startswith("openai-big-")
    for name in ("openai:", " "):
        with pytest.raises(Invalid) as refused:
            make_embedder(Settings(embedder=name))
        assert refused.value.argument == "embedder"


def test_choosing_an_embedder_without_a_model_imports_no_torch():
    code = (
        "import sys; from memos_ray.config import Settings; from memos_ray.models.factory import make_embedder;"
        "import memos_ray.models.batching, memos_ray.retrieval.search, memos_ray.retrieval.merge;"
        "make_embedder(Settings(embedder='hash')); make_embedder(Settings(embedder='openai:x'));"
        "assert not {'torch', 'transformers', 'sentence_transformers', 'onnxruntime', 'ray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_openai_encodes_without_tokens():
    with server(good) as (url, _):
        model = embedder(url)
        found = await model.encode(["a", "bb"], contexts=["x", ""], tokens=True)
        with pytest.raises(Invalid, match="contexts"):
            await model.encode(["a"], contexts=[])
        await model.close()
    assert isinstance(model, Embedder)
    assert (found.vectors.shape, found.tokens, model.token_dim) == ((2, 3), None, 0)


async def test_many_calls_at_once():
    with server(good) as (url, _):
        model = embedder(url)
        results = await asyncio.gather(*(model.embed(["x" * i]) for i in range(1, 9)))
        await model.close()
    assert [round(float(v[0, 0] / v[0, 1])) for v in results] == list(range(1, 9))
