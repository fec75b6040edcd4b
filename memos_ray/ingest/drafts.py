"""What ingestion hands to the cube: memories that have no id, version or recording time yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from memos_ray.types import Kind, Link, Source, TimeMention


@dataclass(frozen=True, slots=True)
class MemoryDraft:
    """One memory to add.

    `derived_from` and `supersedes_key` are resolved by the cube: the first holds positions in the same
    request, the second (subject, relation) of a functional triple, whose earlier active holders it closes.
    `said_at` is when a message was said, in the zone in which it was: what "yesterday" means depends on it.
    `valid_from` may be the earlier time that the message tells of.
    """

    text: str
    kind: Kind
    valid_from: datetime
    valid_to: datetime | None = None
    entities: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    times: tuple[TimeMention, ...] = ()
    source: Source = field(default_factory=Source)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    expires_at: datetime | None = None
    derived_from: tuple[int, ...] = ()
    supersedes_key: tuple[str, str] | None = None
    said_at: datetime | None = None
