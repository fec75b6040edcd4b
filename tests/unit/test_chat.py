import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from memos_ray.errors import Unavailable
from memos_ray.ingest.extract_llm import LlmExtractor
from memos_ray.ingest.messages import parse_messages
from memos_ray.models.chat import OpenAIChat

HANG, DROP = "hang", "drop"


def reply(text: Any) -> tuple[int, dict[str, str], str]:
    return 200, {}, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


def status(code: int, **headers: str) -> tuple[int, dict[str, str], str]:
    return code, {name.replace("_", "-"): value for name, value in headers.items()}, '{"error": "no"}'


class Server:
    """An HTTP server on loopback that answers each request with the next step of its script."""

    def __init__(self, steps: list[Any]) -> None:
        self.steps, self.requests = steps, []
        self.released = asyncio.Event()
        self.handlers: list[asyncio.Task[None]] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.handlers.append(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *fields = head.decode().split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (f.partition(":") for f in fields if f)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.requests.append({"line": first, "headers": headers, "body": json.loads(body)})
                step = self.steps.pop(0)
                if step == HANG:
                    await self.released.wait()
                if step in (HANG, DROP):
                    break
                code, extra, text = step
                lines = "".join(f"{k}: {v}\r\n" for k, v in extra.items())
                size = len(text.encode())
                writer.write(f"HTTP/1.1 {code} X\r\ncontent-length: {size}\r\n{lines}\r\n{text}".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def serving(*steps: Any, **options: Any) -> AsyncIterator[tuple[Server, OpenAIChat, list[float]]]:
    scripted = Server(list(steps))
    listening = await asyncio.start_server(scripted.handle, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    waits: list[float] = []

    async def record(seconds: float) -> None:
        waits.append(seconds)

    url = f"http://127.0.0.1:{port}/v1/"
    async with OpenAIChat("m", base_url=url, **{"api_key": "k", "sleep": record, **options}) as chat:
        yield scripted, chat, waits
    scripted.released.set()
    listening.close()
    await listening.wait_closed()
    await asyncio.gather(*scripted.handlers)


ASK = [{"role": "user", "content": "你好"}]
SCHEMA = {"type": "object"}


async def test_what_is_sent_and_what_comes_back() -> None:
    async with serving(reply("hi"), max_tokens=9) as (server, chat, _):
        assert await chat.complete(ASK) == "hi"
    (request,) = server.requests
    assert request["line"].startswith("POST /v1/chat/completions ")
    assert request["headers"]["authorization"] == "Bearer k"
    assert request["body"] == {
        "model": "m",
        "messages": ASK,
        "stream": False,
        "temperature": 0.0,
        "max_tokens": 9,
    }


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 12, "completion_tokens": 3}, (12, 3)),
        ({"prompt_tokens": 0, "completion_tokens": "3"}, (None, None)),
        ([], (None, None)),
        (None, (None, None)),
    ],
)
async def test_a_reply_says_what_it_took(usage: Any, counted: tuple[int | None, int | None]) -> None:
    said = {"choices": [{"message": {"content": "hi"}}], "usage": usage}
    async with serving(status(500), (200, {}, json.dumps(said))) as (_, chat, _):
        found = await chat.ask(ASK)
    assert (found.text, found.prompt_tokens, found.completion_tokens) == ("hi", *counted)
    assert 0 < found.seconds < 60


async def test_servers_trouble_is_waited_out() -> None:
    steps = (status(500), status(429, retry_after="7"), DROP, reply("ok"))
    async with serving(*steps) as (server, chat, waits):
        assert await chat.complete(ASK) == "ok"
    assert len(server.requests) == 4
    assert 0.3 < waits[0] < 0.7
    assert waits[1] == 7.0
    assert 1.4 < waits[2] < 2.6


async def test_retries_end() -> None:
    async with serving(*[status(503)] * 3, retries=2) as (server, chat, waits):
        with pytest.raises(Unavailable, match="answered 503"):
            await chat.complete(ASK)
    assert (len(server.requests), len(waits)) == (3, 2)


@pytest.mark.parametrize("code", [401, 403, 404])
async def test_what_will_not_get_better_fails_at_once(code: int) -> None:
    async with serving(status(code)) as (server, chat, _):
        with pytest.raises(Unavailable, match=f"answered {code}"):
            await chat.complete(ASK, json_schema=SCHEMA)
    assert len(server.requests) == 1


async def test_a_hanging_server_is_left_after_the_timeout() -> None:
    async with serving(HANG, HANG, timeout_s=0.3, retries=1) as (server, chat, waits):
        with pytest.raises(Unavailable, match="failed 2 times, at last with: ReadTimeout"):
            await chat.complete(ASK)
    assert (len(server.requests), len(waits)) == (2, 1)


async def test_a_call_has_a_deadline() -> None:
    # It ends between two tries: a connection that is cancelled while it is being made leaks its socket in asyncio.
    async with serving(status(503), sleep=asyncio.sleep, first_wait_s=60.0, deadline_s=0.6) as (
        server,
        chat,
        _,
    ):
        with pytest.raises(Unavailable, match=r"no answer within 0\.6 s"):
            await chat.complete(ASK)
    assert len(server.requests) == 1


async def test_nobody_listens() -> None:
    async with serving() as (_, chat, _):
        pass
    with pytest.raises(Unavailable, match="failed 4 times"):
        await chat.complete(ASK)
    await chat.aclose()


@pytest.mark.parametrize("url", ["ftp://x/v1", "http://x:port", "no-scheme"])
async def test_an_impossible_address(url: str) -> None:
    async with OpenAIChat("m", base_url=url) as chat:
        with pytest.raises(Unavailable, match="cannot be asked"):
            await chat.complete(ASK)


async def test_forms_of_json_answers_from_strict_to_none() -> None:
    async with serving(status(400), status(400), reply("{}"), reply("{}")) as (server, chat, _):
        assert await chat.complete(ASK, json_schema=SCHEMA) == "{}"
        assert await chat.complete(ASK, json_schema=SCHEMA) == "{}"
    forms = [r["body"].get("response_format", {}).get("type") for r in server.requests]
    assert forms == ["json_schema", "json_object", None, None]
    assert server.requests[0]["body"]["response_format"]["json_schema"]["schema"] == SCHEMA


async def test_a_refusal_of_every_form_is_told() -> None:
    async with serving(*[status(400)] * 3, reply("{}")) as (server, chat, _):
        with pytest.raises(Unavailable, match="answered 400"):
            await chat.complete(ASK, json_schema=SCHEMA)
        assert await chat.complete(ASK, json_schema=SCHEMA) == "{}"
    assert server.requests[3]["body"]["response_format"]["type"] == "json_schema"


@pytest.mark.parametrize(
    "step", [(200, {}, "not json"), (200, {}, "{}"), (200, {}, '{"choices": []}'), reply(None)]
)
async def test_no_chat_completion(step: Any) -> None:
    async with serving(step) as (_, chat, _):
        with pytest.raises(Unavailable, match="answered"):
            await chat.complete(ASK)


async def test_extraction_through_http_recovers_from_a_bad_answer() -> None:
    good = {"memories": [{"text": "Maya lives in Porto", "kind": "fact", "messages": [0]}]}
    messages = parse_messages("I live in Porto", speaker="Maya", timestamp="2023-07-19", now=None)  # type: ignore[arg-type]
    async with serving(status(502), reply("{broken"), reply(json.dumps(good))) as (server, chat, _):
        (draft,) = await LlmExtractor(chat).extract(messages, [])
    assert draft.text == "Maya lives in Porto"
    assert "not valid JSON" in server.requests[2]["body"]["messages"][-1]["content"]
