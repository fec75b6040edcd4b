"""The form of a judge's reply, and the way from a model's text to what counts."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

Label = Literal["CORRECT", "WRONG"]
_FENCED = re.compile(r"\A```(?:json)?\s*(.*?)\s*```\Z", re.DOTALL | re.IGNORECASE)
_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)


class _Verdict(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    label: Label

    @field_validator("label", mode="before")
    @classmethod
    def _any_case(cls, value: Any) -> Any:
        return value.strip().upper() if isinstance(value, str) else value


def verdict_schema() -> dict[str, Any]:
    """JSON Schema of a verdict, strict as OpenAI wants it."""
    return {
        "type": "object",
        "properties": {"label": {"type": "string", "enum": ["CORRECT", "WRONG"]}},
        "required": ["label"],
        "additionalProperties": False,
    }


def read_verdict(reply: str) -> Label | None:
    """The label of a reply, or None: neither right nor wrong, but no verdict.

    Thoughts before the JSON and a code fence around it are forgiven, nothing else: words that merely contain a
    label may say anything about it.
    """
    text = without_thoughts(reply)
    fenced = _FENCED.match(text)
    try:
        return _Verdict.model_validate(json.loads(fenced[1] if fenced else text)).label
    except (ValueError, RecursionError, ValidationError):
        return None


def without_thoughts(reply: str) -> str:
    """A reply without the `<think>…</think>` that some servers leave in front of it, and without outer white space."""
    return _THOUGHTS.sub("", reply).strip()
