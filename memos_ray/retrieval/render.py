"""The text of a hit, as a reader (a person or a model) is given it: when, who, what."""

from __future__ import annotations

from memos_ray.types import Kind, MemoryItem


def render(item: MemoryItem) -> str:
    """`2023-05-08 Ada: text`. The day is UTC's: when it was said, else from when on it is true. It is left out where it
    says nothing (documents). The time of day is in the item; here it would cost six tokens a memory, a tenth of what a
    short message takes.

    A document's passage has its heading instead of a speaker. A closed period is shown with both ends.
    """
    source = item.source
    who = source.speaker or source.heading or (source.role if item.kind is Kind.MESSAGE else None)
    when = "" if item.kind is Kind.DOCUMENT else f"{source.said_at or item.valid_from:%Y-%m-%d}"
    if when and item.valid_to is not None:
        when += f" to {item.valid_to:%Y-%m-%d}"
    prefix = " ".join(part for part in (when, f"{who}:" if who else "") if part)
    return f"{prefix} {item.text}" if prefix else item.text
