"""Facts from messages that are already committed: by the configured extractor, by rules if that gives up."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from memos_ray.errors import Unavailable
from memos_ray.ids import memory_id
from memos_ray.ingest.drafts import MemoryDraft
from memos_ray.ingest.extract_rules import RuleExtractor
from memos_ray.protocols import Extractor

log = logging.getLogger(__name__)


def derived_op_id(op_id: str, portion: int = 0) -> str:
    """The operation that adds what was derived from what `op_id` added, or a portion of it: repeats with it."""
    return memory_id("derived", op_id, portion)


async def derive(
    extractor: Extractor, messages: Sequence[MemoryDraft], context: Sequence[str] = ()
) -> list[MemoryDraft]:
    """What `extractor` finds in `messages`; what the rules find if it raises `Unavailable`."""
    try:
        return await extractor.extract(messages, context)
    except Unavailable as error:
        log.warning("%s gave up, deriving by rules instead: %s", extractor.name, error)
        return await RuleExtractor().extract(messages, context)
