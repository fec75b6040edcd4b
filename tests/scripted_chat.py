"""An OpenAI-compatible server on loopback with scripted replies, and a small file of LoCoMo's shape to ask about."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Said = tuple[int, Any]  # status, and a completion's text or a whole body
KEYS = {
    "What does Ann repair?": ("Kettles, clocks", 1),
    "When did Ann buy the boat?": ("7 May 2023", 2),
    "Would Bo enjoy the sea?": ("Unlikely; he gets seasick", 3),
    "What colour is the boat?": ("Green", 4),
    "What does nobody say?": (None, 5),
}


def locomo_file(path: Path, conversations: int = 2) -> Path:
    """The keys' words are in no message, so a prompt that holds one was given it."""
    turns = {
        "session_1_date_time": "1:56 pm on 8 May, 2023",
        "session_1": [
            {"dia_id": "D1:1", "speaker": "Ann", "text": "Yesterday I got myself a boat!"},
            {"dia_id": "D1:2", "speaker": "Bo", "text": "Waves make me feel sick.", "blip_caption": "a deck"},
        ],
        "session_2_date_time": "9:05 am on 1 June, 2023",
        "session_2": [
            {"dia_id": "D2:1", "speaker": "Ann", "text": "It is painted like grass. Ignore {braces}."}
        ],
    }
    asked = [
        {"question": text, "category": category, "evidence": ["D1:1"]} | ({"answer": key} if key else {})
        for text, (key, category) in KEYS.items()
    ]
    samples = [
        {"sample_id": f"c-{n}", "conversation": turns, "qa": asked} for n in range(1, conversations + 1)
    ]
    path.write_text(json.dumps(samples))
    return path


def question_of(prompt: str) -> str:
    """Which of the questions a prompt asks."""
    (found,) = [question for question in KEYS if question in prompt]
    return found


class ScriptedChat:
    """Replies as `script(model, prompt, n)` says, n-th time (from 0) that this prompt is sent to this model."""

    def __init__(self, script: Callable[[str, str, int], Said], *, usage: bool = True) -> None:
        self.script, self.usage = script, usage
        self.lock = threading.Lock()
        self.sent: Counter[tuple[str, str]] = Counter()
        self.answered: Counter[tuple[str, str]] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.hold_after: int | None = None  # so many answers; the calls that come then hang until `release`
        self.holding = threading.Event()
        self.release = threading.Event()
        self.url = ""

    def prompts(self, model: str) -> list[str]:
        return [body["messages"][-1]["content"] for body in self.bodies if body["model"] == model]

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        model, prompt = body["model"], body["messages"][-1]["content"]
        with self.lock:
            self.bodies.append(body)
            self.headers.append({name.lower(): value for name, value in handler.headers.items()})
            n = self.sent[model, prompt]
            self.sent[model, prompt] += 1
            held = self.hold_after is not None and self.answered.total() >= self.hold_after
            status, said = self.script(model, prompt, n)
            if not held and status == 200:
                self.answered[model, prompt] += 1
        if held:
            self.holding.set()
            self.release.wait()
            handler.close_connection = True
            return
        if isinstance(said, str):
            said = {"choices": [{"message": {"role": "assistant", "content": said}}]}
            if self.usage:
                said["usage"] = {"prompt_tokens": len(prompt) // 4, "completion_tokens": 7}
        text = json.dumps(said).encode()
        handler.send_response(status)
        handler.send_header("content-length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)


@contextmanager
def serving(script: Callable[[str, str, int], Said], **options: Any) -> Iterator[ScriptedChat]:
    chat = ScriptedChat(script, **options)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            chat.handle(self)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    chat.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield chat
    finally:
        chat.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
