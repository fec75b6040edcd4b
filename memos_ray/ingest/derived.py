"""What every extractor gives the drafts that it derives from a message: its source, scope and expiry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from memos_ray.ingest.drafts import MemoryDraft
from memos_ray.ingest.entities import unique
from memos_ray.types import Kind, Link

_SCOPE = ("user_id", "agent_id", "run_id")


def derive(
    message: MemoryDraft,
    *,
    text: str,
    kind: Kind,
    valid_from: datetime,
    entities: Iterable[str],
    derived_from: tuple[int, ...],
    extractor: str,
    valid_to: datetime | None = None,
    links: tuple[Link, ...] = (),
    metadata: Mapping[str, Any] | None = None,
    supersedes_key: tuple[str, str] | None = None,
) -> MemoryDraft:
    """A draft derived from `message`: of its conversation, scope and expiry, with a text of its own."""
    scope = {key: message.metadata[key] for key in _SCOPE if key in message.metadata}
    return MemoryDraft(
        text=text,
        kind=kind,
        valid_from=valid_from,
        valid_to=valid_to,
        entities=unique(entities),
        links=links,
        times=tuple(time for time in message.times if time.text in text),
        source=replace(message.source, extractor=extractor),
        metadata={**scope, **(metadata or {})},
        expires_at=message.expires_at,
        derived_from=derived_from,
        supersedes_key=supersedes_key,
        said_at=message.said_at,
    )
