"""The JSON in a chat model's reply."""

from __future__ import annotations

import json
import re
from typing import Any

_FENCED = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)


def json_of(reply: str) -> Any:
    """The value that the reply is. A code fence around it and thoughts before it are forgiven.

    ValueError says what is wrong, in words for the model.
    """
    text = _THOUGHTS.sub("", reply)
    fenced = _FENCED.match(text)
    try:
        return json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON: {error}") from None
