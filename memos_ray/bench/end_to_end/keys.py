"""The answer key. It is read apart from the conversations, and only judging and scoring are given it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from memos_ray.errors import Invalid


def read_keys(path: Path) -> dict[str, str]:
    """Question id -> the right answer, for every question that has one. Ids are those of `read_locomo`.

    Raises `Invalid` if the file is not of LoCoMo's shape.
    """
    try:
        samples = json.loads(path.read_text(encoding="utf-8"))
        return {
            f"{sample['sample_id']}/{i}": str(question["answer"])
            for sample in samples
            for i, question in enumerate(sample["qa"])
            if question.get("answer") is not None
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Invalid(
            f"{path} is not a LoCoMo file ({type(error).__name__}: {error})", argument="data"
        ) from error


def data_fingerprint(path: Path) -> str:
    """Names the data: 16 hex digits of the file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
