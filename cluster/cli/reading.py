"""Files -> requests: what `ingest` sends for a JSON, JSONL, Markdown or text file.

Every request gets an op id derived from all that it says and where it goes, so that ingesting a file again
changes nothing, and ingesting it after an interruption goes on where that stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from memos_ray.errors import Invalid

_BATCH = 200  # messages in one request: a commit of 100 rows costs little more than one of 1
_MARKDOWN = frozenset({".md", ".markdown"})


@dataclass(frozen=True, slots=True)
class Ingestion:
    """One request: `verb` of the client with `arguments`. `units` is what the progress bar counts."""

    verb: Literal["add", "add_document", "add_triples"]
    arguments: Mapping[str, Any]
    units: int

    def op_id(self, target: Mapping[str, Any]) -> str:
        """Same request to the same target, same id (64 hex digits)."""
        said = json.dumps([self.verb, self.arguments, target], sort_keys=True, ensure_ascii=True, default=str)
        return hashlib.sha256(said.encode()).hexdigest()


def read_file(path: Path) -> list[Ingestion]:
    """What to send for a file, in order. Raises `Invalid`, naming file and place, for what makes no sense."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid(f"{path} is not UTF-8 text (byte {error.start})", argument="file") from error
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _from_json(_parse(text, str(path)), path)
    if suffix in (".jsonl", ".ndjson"):
        lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
        return _messages([_parse(line, f"{path}, line {n}") for n, line in lines], _modified(path), str(path))
    arguments = {
        "text": text,
        "document": path.name,
        "format": "markdown" if suffix in _MARKDOWN else "text",
        "timestamp": _modified(path),
    }
    return [Ingestion("add_document", arguments, 1)] if text.strip() else []


def _from_json(value: Any, path: Path) -> list[Ingestion]:
    """A conversation with sessions, a list of messages, {"messages": […]} or {"triples": […]}."""
    if isinstance(value, list):
        return _messages(value, _modified(path), str(path))
    if isinstance(value, dict) and isinstance(value.get("sessions"), list):
        name = str(value.get("conversation") or path.stem)
        return [x for entry in value["sessions"] for x in _session(entry, name, str(path))]
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        return _messages(value["messages"], _modified(path), str(path))
    if isinstance(value, dict) and isinstance(value.get("triples"), list):
        arguments = {"triples": value["triples"], "functional": bool(value.get("functional", False))}
        return [Ingestion("add_triples", arguments, len(value["triples"]))]
    raise Invalid(
        f'{path}: expected a list of messages, or an object with "sessions", "messages" or "triples"',
        argument="file",
    )


def _session(entry: Any, conversation: str, where: str) -> Iterator[Ingestion]:
    """One dated session -> requests whose messages carry speaker and turn id."""
    if not isinstance(entry, dict) or not isinstance(entry.get("turns"), list) or "date" not in entry:
        raise Invalid(f'{where}: every session needs a "date" and a list of "turns"', argument="file")
    turns: list[Mapping[str, Any]] = entry["turns"]
    for n, turn in enumerate(turns, 1):
        if not isinstance(turn, dict) or not isinstance(turn.get("text"), str):
            raise Invalid(
                f'{where}: turn {n} of session {entry.get("session")} has no "text"', argument="file"
            )
    for start in range(0, len(turns), _BATCH):
        chunk = turns[start : start + _BATCH]
        arguments = {
            "messages": [turn_message(turn) for turn in chunk],
            "timestamp": entry["date"],
            "conversation": conversation,
            "session": str(entry.get("session", "")) or None,
        }
        yield Ingestion("add", arguments, len(chunk))


def turn_message(turn: Mapping[str, Any]) -> dict[str, Any]:
    """A turn of an example file -> a message as `add` takes it."""
    message = {
        "role": "user",
        "content": turn["text"],
        "speaker": turn.get("speaker"),
        "turn": turn.get("turn"),
    }
    return {name: value for name, value in message.items() if value is not None}


def _messages(messages: Sequence[Any], default_time: str, where: str) -> list[Ingestion]:
    """Messages as `add` takes them (strings, or objects with "content"), in batches.

    What has no time of its own gets the file's, so that the request is the same when it is sent again.
    """
    for n, message in enumerate(messages, 1):
        if not isinstance(message, (str, dict)):
            raise Invalid(f"{where}: message {n} is neither a string nor an object", argument="file")
    return [
        Ingestion(
            "add",
            {"messages": list(messages[i : i + _BATCH]), "timestamp": default_time},
            len(messages[i : i + _BATCH]),
        )
        for i in range(0, len(messages), _BATCH)
    ]


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Invalid(f"{where} is not JSON: {error}", argument="file") from error


def _modified(path: Path) -> str:
    return datetime.fromtimestamp(int(path.stat().st_mtime), UTC).isoformat()
