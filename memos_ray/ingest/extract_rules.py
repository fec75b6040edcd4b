"""Facts and preferences from first-person statements, by patterns, in English and Chinese. Calls no model.

Precision before recall: a sentence counts only if it is a plain statement of its speaker about themselves,
now. Questions, negations, conditions, wishes, memories and reported speech are left alone, and so is all
that no pattern fits (see `statements`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from datetime import datetime

from memos_ray.ingest.dates import read_times
from memos_ray.ingest.derived import derive
from memos_ray.ingest.drafts import MemoryDraft
from memos_ray.ingest.entities import find_entities
from memos_ray.ingest.statements import CHINESE, ENGLISH, NOT_PLAIN, NOT_PLAIN_ZH, Statement
from memos_ray.text.script import has_cjk
from memos_ray.text.sentences import sentence_spans
from memos_ray.types import Kind, Link

MAX_DRAFTS = 8  # of one message
_LOOKED_AT = 20_000  # characters of one message
_INLINE = 2_000  # characters; these take some 5 ms
_PEOPLE = (None, "user", "human", "other")  # roles; what an assistant says of itself is no memory
_CLAUSE = re.compile(
    r"[,;:—–]\s*(?:and |but |so )?| (?:but|so) |[，；：]"
)  # not "and": "my wife and I love …"
_DEICTIC = re.compile(r"\b(?:my|me|mine|myself|we|us|our|this|these|here)\b|[我咱这]")  # lost out of context
_NAMING = ("lives_in", "comes_from", "works_at", "is_called")  # whose object is a name


class RuleExtractor:
    """`Extractor` that needs no model; the fallback of the one that does."""

    @property
    def name(self) -> str:
        """`Source.extractor` of what it derives."""
        return "rules"

    async def extract(self, messages: Sequence[MemoryDraft], context: Sequence[str]) -> list[MemoryDraft]:
        """See `extract_statements`; `context` is not needed. Much text is read in a thread."""
        if sum(len(message.text) for message in messages) > _INLINE:
            return await asyncio.to_thread(extract_statements, messages, self.name)
        return extract_statements(messages, self.name)


def extract_statements(messages: Sequence[MemoryDraft], extractor: str = "rules") -> list[MemoryDraft]:
    """Facts and preferences that speakers state of themselves, at most 8 for each message.

    The subject is the message's speaker, "the user" (用户) if it names none. Of a functional relation
    (lives_in, works_at, …) a draft has the `supersedes_key` (subject, relation).
    """
    drafts: list[MemoryDraft] = []
    for position, message in enumerate(messages):
        if message.kind is Kind.MESSAGE and message.source.role in _PEOPLE:
            drafts += list(_from_message(message, position, extractor))[:MAX_DRAFTS]
    return drafts


def _from_message(message: MemoryDraft, position: int, extractor: str) -> Iterator[MemoryDraft]:
    text = message.text[:_LOOKED_AT]
    said_at = message.said_at or message.valid_from
    seen: set[str] = set()
    for start, end in sentence_spans(text):
        for statement, match in _statements(text, start, end):
            draft = _draft(statement, match, message, position, text[start:end], said_at, extractor)
            if draft.text not in seen:
                seen.add(draft.text)
                yield draft


def _statements(text: str, start: int, end: int) -> Iterator[tuple[Statement, re.Match[str]]]:
    """The statement that fits at each clause's beginning, if any."""
    sentence = text[start:end]
    chinese = has_cjk(sentence)
    if chinese:
        plain = (
            "我" in sentence and NOT_PLAIN_ZH.search(sentence) is None and not sentence.endswith(("吗", "呢"))
        )
    else:
        plain = ("I" in sentence or "y " in sentence) and NOT_PLAIN.search(sentence) is None
    if not plain or sentence.rstrip("\"'”’)").endswith(("?", "？")):
        return
    for begin in (start, *(clause.end() for clause in _CLAUSE.finditer(text, start, end))):
        for statement in CHINESE if chinese else ENGLISH:
            match = statement.pattern.match(text, begin, end)
            if match is not None:
                if _DEICTIC.search(match["o"]) is None:
                    yield statement, match
                break


def _draft(
    statement: Statement,
    match: re.Match[str],
    message: MemoryDraft,
    position: int,
    sentence: str,
    said_at: datetime,
    extractor: str,
) -> MemoryDraft:
    groups = match.groupdict()
    subject = message.source.speaker or ("用户" if has_cjk(sentence) else "the user")
    obj, key = groups["o"].strip(), (groups.get("k") or "").strip()
    relation = f"{statement.relation} {key}" if key else statement.relation
    speakers = (subject,) if message.source.speaker else ()
    _, valid_from = read_times(sentence, said_at)
    text = statement.text.format(s=subject, o=obj, k=key)
    return derive(
        message,
        text=text[0].upper() + text[1:],
        kind=statement.kind,
        valid_from=valid_from,
        entities=(*speakers, *((obj,) if statement.relation in _NAMING else find_entities(obj))),
        links=(Link(type=relation.replace(" ", "_"), target=f"entity:{obj}"),),
        derived_from=(position,),
        extractor=extractor,
        metadata={"subject": subject, "relation": relation, "object": obj},
        supersedes_key=(subject, relation) if statement.functional else None,
    )
