"""Chat completions from any OpenAI-compatible server (OpenAI, Ollama, vLLM) over HTTP. Knows no prompts.

What is retried: connection errors, timeouts, 408, 409, 429 and 5xx, with exponential waits and the server's
`Retry-After`, a bounded number of times within a bounded time.
Everything else fails at once. Every failure is `Unavailable`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from memos_ray.errors import Unavailable
from memos_ray.models.certificates import certificates

if TYPE_CHECKING:
    import httpx

_RETRIED = frozenset({408, 409, 425, 429})
_LONGEST_WAIT_S = 30.0
_SHOWN = 300  # characters of a server's complaint
_REFUSALS = frozenset({400, 415, 422, 501})  # of a form of answer that the server does not know

Mode = Literal["json_schema", "json_object", "plain"]
_MODES: tuple[Mode, ...] = ("json_schema", "json_object", "plain")


@dataclass(frozen=True, slots=True)
class Reply:
    """A completion. `seconds` is what the request took that was answered, without those before it and the waits.

    Tokens are as the server counted them; None where it does not say.
    """

    text: str
    seconds: float
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class OpenAIChat:
    """`ChatModel` behind `<base_url>/chat/completions`.

    `timeout_s` bounds one request, `deadline_s` a call with all its retries, waits included. A server that
    refuses `response_format` (400, 415, 422, 501) is asked again with `json_object`, then without, and the
    form that it took is remembered. One instance serves many calls at once, in one event loop.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str = "http://localhost:11434/v1",
        api_key: str | None = None,
        timeout_s: float = 60.0,
        deadline_s: float = 180.0,
        retries: int = 3,
        first_wait_s: float = 0.5,
        temperature: float | None = 0.0,
        max_tokens: int | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._model, self._base_url, self._api_key = model, base_url.rstrip("/"), api_key
        self._timeout_s, self._deadline_s = timeout_s, deadline_s
        self._retries, self._first_wait_s = retries, first_wait_s
        self._options = {"temperature": temperature, "max_tokens": max_tokens}
        self._sleep = sleep
        self._mode: Mode = "json_schema"
        self._client: httpx.AsyncClient | None = None

    @property
    def model(self) -> str:
        """The model's name on the server."""
        return self._model

    async def complete(
        self, messages: Sequence[dict[str, Any]], *, json_schema: dict[str, Any] | None = None
    ) -> str:
        """The assistant's reply to `messages` (OpenAI's form). `json_schema` asks for JSON of that schema.

        Servers differ in how strictly they keep to a schema: the caller validates. Raises `Unavailable`.
        """
        return (await self.ask(messages, json_schema=json_schema)).text

    async def ask(
        self, messages: Sequence[dict[str, Any]], *, json_schema: dict[str, Any] | None = None
    ) -> Reply:
        """As `complete`, with what it took."""
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._complete(list(messages), json_schema)
        except TimeoutError:
            raise self._unavailable(f"gave no answer within {self._deadline_s:g} s") from None

    async def _complete(self, messages: list[dict[str, Any]], json_schema: dict[str, Any] | None) -> Reply:
        start = len(_MODES) - 1 if json_schema is None else _MODES.index(self._mode)
        for mode in _MODES[start:]:
            body = self._body(messages, json_schema, mode)
            response = await self._post(body)
            if response.status_code == 200:
                if json_schema is not None:
                    self._mode = mode
                return self._reply(response)
            if mode == "plain" or response.status_code not in _REFUSALS:
                raise self._unavailable(f"answered {response.status_code}: {response.text[:_SHOWN]}")
        raise AssertionError("the last mode returns or raises")

    def _body(
        self, messages: list[dict[str, Any]], schema: dict[str, Any] | None, mode: Mode
    ) -> dict[str, Any]:
        options = {key: value for key, value in self._options.items() if value is not None}
        body: dict[str, Any] = {"model": self._model, "messages": messages, "stream": False, **options}
        if mode == "json_schema":
            named = {"name": "answer", "schema": schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        elif mode == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body

    async def _post(self, body: dict[str, Any]) -> httpx.Response:
        """The first answer that is worth no retry, or the last one."""
        import httpx

        url = f"{self._base_url}/chat/completions"
        headers = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=self._timeout_s, verify=certificates())
        for attempt in range(self._retries + 1):
            last = attempt == self._retries
            wanted_wait = 0.0
            try:
                response = await self._client.post(url, json=body, headers=headers)
            except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
                raise self._unavailable(f"cannot be asked: {error}") from error
            except httpx.TransportError as error:
                if last:
                    said = str(error) or type(error).__name__
                    raise self._unavailable(f"failed {attempt + 1} times, at last with: {said}") from error
            else:
                status = response.status_code
                if last or status in _REFUSALS or (status < 500 and status not in _RETRIED):
                    return response
                wanted_wait = _retry_after_s(response.headers.get("retry-after"))
            await self._sleep(max(wanted_wait, self._backoff_s(attempt)))
        raise AssertionError("the last attempt returns or raises")

    def _backoff_s(self, attempt: int) -> float:
        """Doubles with each attempt; the random part keeps many callers from coming back at once."""
        return min(_LONGEST_WAIT_S, self._first_wait_s * 2.0**attempt) * random.uniform(0.75, 1.25)

    def _reply(self, response: httpx.Response) -> Reply:
        try:
            body = response.json()
            content = body["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            shown = response.text[:_SHOWN]
            raise self._unavailable(f"answered something that is no chat completion: {shown}") from None
        if not isinstance(content, str):
            raise self._unavailable("answered without text")
        prompt, completion = (_tokens(body, key) for key in ("prompt_tokens", "completion_tokens"))
        return Reply(content, response.elapsed.total_seconds(), prompt, completion)

    def _unavailable(self, what_happened: str) -> Unavailable:
        return Unavailable(
            f"chat model {self._model!r} at {self._base_url} {what_happened}", what="chat model"
        )

    async def aclose(self) -> None:
        """Closes the connections; the next call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def __aenter__(self) -> Self:
        """Nothing to do: connections open when they are needed."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See `aclose`."""
        await self.aclose()


def _tokens(body: dict[str, Any], key: str) -> int | None:
    """A count of `usage`; None if there is none that makes sense. Some servers send zeros for "not counted"."""
    usage = body.get("usage")
    count = usage.get(key) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and not isinstance(count, bool) and count > 0 else None


def _retry_after_s(header: str | None) -> float:
    """`Retry-After` in seconds, bounded; 0 for none, or for a date, which chat servers do not send."""
    try:
        seconds = float(header or 0)
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), _LONGEST_WAIT_S) if seconds == seconds else 0.0
