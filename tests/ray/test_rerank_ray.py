"""Reranking in a real system: an actor of its own with a real cross-encoder, shared by cubes in other processes."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import ray
from typer.testing import CliRunner

from cluster.cli.app import app
from memos_ray import Invalid, MemOS
from memos_ray.models.cross_encoder import CrossEncoderReranker
from memos_ray.retrieval.render import render
from memos_ray.sync import _Loop

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

TURNS = ("Tea is at four.", "Coffee is for the morning.", "Bread needs an hour.", "The tea is from Assam.")


def fill(memory: MemOS) -> None:
    for cube in ("one", "two"):
        memory.add([{"role": "user", "content": f"{text} ({cube})"} for text in TURNS], cube_id=cube)


def found(answer: dict[str, Any]) -> list[str]:
    return [hit["memory"] for hit in answer["results"]]


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory, cross_encoder_folder: Path) -> Iterator[MemOS]:
    with MemOS(
        data=str(tmp_path_factory.mktemp("data")),
        address="local",
        namespace="test-rerank",
        embedder="hash",
        reranker=f"cross-encoder:{cross_encoder_folder}",
    ) as memory:
        fill(memory)
        yield memory


def test_the_order_is_the_cross_encoders_across_cubes(memory: MemOS, cross_encoder_folder: Path):
    asked = {"cube_ids": ["one", "two"], "top_k": 8}
    answer = memory.search("when is tea?", rerank=True, explain=True, **asked)
    plain = memory.search("when is tea?", **asked)
    assert sorted(found(answer)) == sorted(found(plain))
    here = CrossEncoderReranker(str(cross_encoder_folder))
    items = {i.text: i for cube in asked["cube_ids"] for i in memory.cube(cube).get_all()}
    texts = [render(items[text]) for text in found(plain)]
    scores = _Loop.run(here.rerank("when is tea?", texts))
    assert found(answer) == [found(plain)[i] for i in (-scores).argsort(kind="stable")]
    assert answer["rerank"] == {"by": here.fingerprint, "reranked": 8, "error": None}
    best = answer["results"][0]["explanation"]["rerank"]
    assert best["score"] == pytest.approx(scores.max(), abs=1e-4)
    assert best["before"] == found(plain).index(found(answer)[0]) + 1
    pids = {memory.stats(cube)["pid"] for cube in asked["cube_ids"]}
    actor = ray.get_actor("reranker", namespace="test-rerank")
    assert ray.get(actor.pid.remote()) not in pids
    assert memory.status()["reranker"] == f"cross-encoder:{cross_encoder_folder}"


def test_another_reranker_than_the_systems_is_refused(memory: MemOS):
    with pytest.raises(Invalid, match="another reranker"):
        MemOS(namespace="test-rerank", reranker="openai:m")


def test_the_command_line_reranks(memory: MemOS, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MEMOS_RAY_NAMESPACE", "test-rerank")
    arguments = ["search", "when is tea?", "--cube", "one", "--rerank", "--explain"]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "250"})
    assert result.exit_code == 0, result.output
    assert "reranked #" in result.stdout


@pytest.mark.fault
def test_the_reranker_may_die(memory: MemOS):
    actor = ray.get_actor("reranker", namespace="test-rerank")
    os.kill(ray.get(actor.pid.remote()), signal.SIGKILL)
    answer = memory.search("when is tea?", cube_id="one", rerank=True)
    assert answer["rerank"]["error"] is None
    assert answer["rerank"]["reranked"] == 4


@contextmanager
def chat_server(script: Callable[[int, dict[str, Any]], str]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A chat server whose answer number n to a body is `script(n, body)`."""
    bodies: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            bodies.append(body)
            content = script(len(bodies), body)
            data = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}/v1", bodies
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def test_a_chat_model_reranks_and_its_failures_are_told(memory: MemOS, tmp_path: Path):
    """A second system in another namespace of the same Ray."""

    def script(number: int, body: dict[str, Any]) -> str:
        if number > 1:
            return "As an AI, I would put tea first."
        candidates = json.loads(body["messages"][1]["content"])["candidates"]
        return json.dumps({"order": [c["number"] for c in candidates if "Bread" in c["text"]]})

    with (
        chat_server(script) as (url, bodies),
        MemOS(
            data=str(tmp_path),
            namespace="test-chat-rerank",
            embedder="hash",
            reranker="openai:m",
            reranker_url=url,
        ) as chat,
    ):
        fill(chat)
        plain = found(chat.search("when is tea?", cube_ids=["one", "two"]))
        answer = chat.search("when is tea?", cube_ids=["one", "two"], rerank=True)
        bread = [text for text in plain if "Bread" in text]
        assert found(answer) == bread + [text for text in plain if text not in bread]
        assert len(bodies) == 1
        assert answer["rerank"]["by"].startswith("chat-m-")
        failed = chat.search("when is tea?", cube_ids=["one", "two"], rerank=True)
        assert found(failed) == plain
        assert "not valid JSON" in failed["rerank"]["error"]
        assert len(bodies) == 3


def test_without_a_reranker_it_says_how_to_configure_one(memory: MemOS, tmp_path: Path):
    with MemOS(data=str(tmp_path), namespace="test-no-rerank", embedder="hash") as plain:
        with pytest.raises(Invalid, match="MEMOS_RAY_RERANKER") as caught:
            plain.search("x", user_id="u", rerank=True)
        assert caught.value.argument == "rerank"
        with pytest.raises(ValueError, match="reranker"):
            ray.get_actor("reranker", namespace="test-no-rerank")
