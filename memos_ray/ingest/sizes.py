"""How much text a call brings, found before any of it is parsed.

Knows where texts stand in messages and triples, not what they mean: what is of a wrong form counts nothing here
and is refused by the parser.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from memos_ray.errors import Invalid


def text_size(text: object, what: str, argument: str, most: int) -> int:
    """Bytes of UTF-8; 0 for what is no text. `Invalid` above `most`."""
    return _checked((text,), what, argument, most)


def message_sizes(messages: object, *, most: int, max_batch: int) -> int:
    """Bytes of UTF-8 in the contents of all messages. `Invalid` if one has more than `most`, or for too many."""
    items = _items(messages, "messages", max_batch)
    return sum(_checked(_texts(item), f"messages[{i}]", "messages", most) for i, item in enumerate(items))


def triple_sizes(triples: object, *, most: int, max_batch: int) -> int:
    """Bytes of UTF-8 in all triples. `Invalid` if one has more than `most`, or for too many."""
    items = _items(triples, "triples", max_batch)
    return sum(
        _checked(item.values() if isinstance(item, Mapping) else item, f"triples[{i}]", "triples", most)
        for i, item in enumerate(items)
        if isinstance(item, (Mapping, list, tuple))
    )


def _items(given: object, argument: str, max_batch: int) -> Sequence[Any]:
    if not isinstance(given, Sequence) or isinstance(given, (str, bytes, bytearray)):
        return [given]
    if len(given) > max_batch:
        raise Invalid(
            f"{len(given)} {argument} in one call; at most {max_batch} are taken (max_batch): split it",
            argument=argument,
        )
    return given


def _texts(item: object) -> Iterator[object]:
    if not isinstance(item, Mapping):
        yield item
        return
    content = item.get("content") or item.get("text")
    parts = content if isinstance(content, (list, tuple)) else (content,)
    for part in parts:
        yield part.get("text") if isinstance(part, Mapping) else part
    calls = item.get("tool_calls")
    for call in calls if isinstance(calls, (list, tuple)) else (calls,):
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping):
            yield function.get("arguments")


def _checked(texts: Iterable[object], what: str, argument: str, most: int) -> int:
    size = 0
    for text in texts:
        if isinstance(text, str):
            # a text has at least as many bytes as characters, so an over-long one is never encoded
            exact = text.isascii() or size + len(text) > most
            size += len(text) if exact else len(text.encode(errors="surrogatepass"))
        if size > most:
            raise Invalid(
                f"{what} has {size} bytes of UTF-8 or more; one memory holds at most {most} (max_text_bytes). "
                "Add longer texts as a document: it is split into memories with spans",
                argument=argument,
            )
    return size
