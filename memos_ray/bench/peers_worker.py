"""Runs one peer on conversations, in the peer's own environment and process: `python -I peers_worker.py NAME IN OUT`.

Imports nothing of memos_ray: it is not installed there. IN holds conversations, turns as text and questions, and no
evidence. Progress goes to stdout, a JSON line each; OUT gets a result file of the LoCoMo scorer's shape, with what was
held at the end, versions, and every attempt to reach the network. Such attempts fail: nothing may leave the machine.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

K = 200
_QUIET = {
    "MEM0_TELEMETRY": "False",
    "OPENAI_API_KEY": "unused",  # mem0's constructor wants one; no LLM is called
    "LANGSMITH_TRACING": "false",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_attempts: list[str] = []


def _stay_offline() -> None:
    """Every connection but those to sockets of this machine's file system is noted and refused."""
    connect = socket.socket.connect

    def refuse(sock: socket.socket, address: Any) -> None:
        if sock.family == socket.AF_UNIX:
            connect(sock, address)
            return
        _attempts.append(str(address))
        raise OSError(f"no network in a benchmark: {address}")

    def no_names(host: Any, *_: Any, **__: Any) -> Any:
        _attempts.append(str(host))
        raise socket.gaierror(f"no network in a benchmark: {host}")

    socket.socket.connect = socket.socket.connect_ex = refuse  # type: ignore[assignment,method-assign]
    socket.getaddrinfo = no_names


class Mem0:
    """mem0 as its users run it without an LLM: `infer=False`, a local embedder, embedded qdrant on disk."""

    packages = ("mem0ai", "qdrant-client", "sentence-transformers", "torch")

    def __init__(self, folder: str, model: str) -> None:
        os.environ["MEM0_DIR"] = folder  # read when the package is imported
        memory = importlib.import_module("mem0").Memory
        store = {"path": f"{folder}/qdrant", "on_disk": True, "embedding_model_dims": 384}
        self._memory: Any = memory.from_config(
            {
                "embedder": {"provider": "huggingface", "config": {"model": model, "embedding_dims": 384}},
                "vector_store": {"provider": "qdrant", "config": store | {"collection_name": "bench"}},
                "llm": {"provider": "openai", "config": {"api_key": "unused"}},
                "history_db_path": f"{folder}/history.db",
            }
        )

    def add(self, who: str, turn: str, text: str) -> None:
        """One turn a call: its id is metadata, which a call gives to all its messages."""
        message = [{"role": "user", "content": text}]
        self._memory.add(message, user_id=who, infer=False, metadata={"turn": turn})

    def search(self, who: str, query: str) -> list[tuple[str, str]]:
        """(text, turn), best first. Without the threshold, which would only hide what ranks low."""
        found = self._memory.search(query, filters={"user_id": who}, top_k=K, threshold=0.0)
        return [(hit["memory"], hit["metadata"]["turn"]) for hit in found["results"]]

    def held(self, who: str) -> list[str]:
        """Turns that are there."""
        found = self._memory.get_all(filters={"user_id": who}, top_k=100_000)
        return [hit["metadata"]["turn"] for hit in found["results"]]


class LangGraph:
    """LangGraph's in-memory store with an embedding function, a namespace for each conversation."""

    packages = ("langgraph", "langgraph-checkpoint", "sentence-transformers", "torch")

    def __init__(self, folder: str, model: str) -> None:
        store = importlib.import_module("langgraph.store.memory").InMemoryStore
        embedder = importlib.import_module("sentence_transformers").SentenceTransformer(model, device="cpu")

        def embed(texts: list[str]) -> list[list[float]]:
            rows: list[list[float]] = embedder.encode(texts, show_progress_bar=False).tolist()
            return rows

        self._store: Any = store(index={"dims": 384, "embed": embed, "fields": ["text"]})

    def add(self, who: str, turn: str, text: str) -> None:
        """One turn."""
        self._store.put((who,), turn, {"text": text})

    def search(self, who: str, query: str) -> list[tuple[str, str]]:
        """(text, turn), best first."""
        return [(hit.value["text"], hit.key) for hit in self._store.search((who,), query=query, limit=K)]

    def held(self, who: str) -> list[str]:
        """Turns that are there."""
        return [item.key for item in self._store.search((who,), limit=100_000)]


PEERS: dict[str, Any] = {"mem0": Mem0, "langgraph": LangGraph}


def run(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The result file's contents."""
    kind = PEERS[name]
    with tempfile.TemporaryDirectory(prefix="memos-ray-peer-", ignore_cleanup_errors=True) as folder:
        _say("starting", 0, 1)
        peer = kind(folder, given["model"])
        peer.search("nobody", "warm up")  # the first call loads what the constructor did not
        ingest, queries, held = [], [], {}
        for conversation in given["conversations"]:
            who, turns = conversation["id"], conversation["turns"]
            begun, cpu = time.perf_counter(), time.process_time()
            for n, (turn, text) in enumerate(turns):
                if n % 20 == 0:
                    _say(f"{who}: turns", n, len(turns))
                peer.add(who, turn, text)
            seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
            ingest.append({"conv": who, "turns": len(turns), "seconds": seconds, "cpu": cpu})
            held[who] = len(set(peer.held(who)))
            for n, (question, text) in enumerate(conversation["questions"]):
                if n % 20 == 0:
                    _say(f"{who}: questions", n, len(conversation["questions"]))
                begun, cpu = time.perf_counter(), time.process_time()
                hits = peer.search(who, text)
                seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
                items = [{"text": said, "sources": [turn]} for said, turn in hits]
                queries.append({"qid": question, "seconds": seconds, "cpu": cpu, "items": items})
    return {
        "system": name,
        "ingest": ingest,
        "queries": queries,
        "held": held,
        "versions": {package: metadata.version(package) for package in kind.packages},
        "network": _attempts,
        "load": os.getloadavg()[0],
    }


def _say(what: str, done: int, of: int) -> None:
    sys.stdout.write(json.dumps([what, done, of]) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    os.environ.update(_QUIET)
    _stay_offline()
    Path(sys.argv[3]).write_text(
        json.dumps(run(sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))))
    )
