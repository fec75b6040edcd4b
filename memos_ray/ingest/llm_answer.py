"""The form of a model's answer in extraction: its schema, and the way from its text to checked values."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from memos_ray.errors import Invalid
from memos_ray.ingest.timestamps import parse_utc
from memos_ray.models.answers import json_of

MAX_ITEMS = 32  # of one answer; the rest is dropped
MAX_TEXT = 500  # characters of one memory: longer ones are no single statement
_MAX_ENTITIES = 12
_SURROGATE = re.compile("[\ud800-\udfff]")

Name = Annotated[str, Field(max_length=200)]


class Extracted(BaseModel):
    """One memory as the model states it. `messages` are positions of those that it derives from."""

    model_config = ConfigDict(extra="ignore")

    text: str = Field(min_length=1, max_length=MAX_TEXT)
    kind: Literal["fact", "preference", "event"]
    messages: list[int] = Field(min_length=1, max_length=64)
    valid_from: str | None = None
    valid_to: str | None = None
    entities: list[Name] = Field(default_factory=list, max_length=64)

    @field_validator("text")
    @classmethod
    def _has_words(cls, value: str) -> str:
        if not value.strip() or _SURROGATE.search(value):
            raise ValueError("must be text with something in it")
        return value.strip()

    @field_validator("valid_from", "valid_to")
    @classmethod
    def _is_time(cls, value: str | None) -> str | None:
        if value is None or not value.strip():
            return None
        try:
            return parse_utc(value, "time").isoformat()
        except Invalid as error:
            raise ValueError(error.message) from None

    @field_validator("entities")
    @classmethod
    def _bounded(cls, value: list[str]) -> list[str]:
        return [name for name in value if name.strip() and not _SURROGATE.search(name)][:_MAX_ENTITIES]


def answer_schema() -> dict[str, Any]:
    """JSON Schema of an answer, strict as OpenAI wants it: everything required, nothing else allowed."""
    time = {"type": ["string", "null"], "description": "ISO 8601"}
    item = {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "kind": {"type": "string", "enum": ["fact", "preference", "event"]},
            "messages": {"type": "array", "items": {"type": "integer"}},
            "valid_from": time,
            "valid_to": time,
            "entities": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["text", "kind", "messages", "valid_from", "valid_to", "entities"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"memories": {"type": "array", "items": item}},
        "required": ["memories"],
        "additionalProperties": False,
    }


def read_answer(reply: str, message_count: int) -> list[Extracted]:
    """The memories of a reply, at most 32. ValueError says what is wrong with it, in words for the model.

    A code fence around the JSON and thoughts before it are forgiven. A position of a message that does not
    exist is not: where a memory comes from must be right.
    """
    data = json_of(reply)
    items = data.get("memories") if isinstance(data, dict) else None
    if not isinstance(items, list):
        raise ValueError('the answer must be an object with a list under "memories"')  # noqa: TRY004 - told to the model
    memories = []
    for index, item in enumerate(items[:MAX_ITEMS]):
        try:
            memory = Extracted.model_validate(item)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"memories[{index}].{where}: {first['msg']}") from None
        wrong = [position for position in memory.messages if not 0 <= position < message_count]
        if wrong:
            allowed = f"0 to {message_count - 1}"
            raise ValueError(f"memories[{index}].messages: there is no message {wrong[0]}, only {allowed}")
        memories.append(memory)
    return memories
