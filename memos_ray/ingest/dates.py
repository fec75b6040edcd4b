"""Dates in text -> `TimeMention`s, and from them when a message holds. Knows time zones.

English and Chinese are read by rules of their own, five more languages by way of `dateparser`.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from itertools import chain, islice

from memos_ray.ingest import dates_en, dates_other, dates_zh
from memos_ray.ingest.found import Found, Speech
from memos_ray.text.script import has_cjk
from memos_ray.text.sentences import sentence_at
from memos_ray.types import TimeMention

MAX_MENTIONS = 32  # of one text
_READ = 4 * MAX_MENTIONS  # relative ones among them may not be wanted


def find_mentions(text: str, said_at: datetime, *, absolute_only: bool = False) -> tuple[TimeMention, ...]:
    """Dates in `text`, resolved against the aware time `said_at`, in the order of the text; 32 at most.

    Days are days of `said_at`'s own time zone; [start, end) is UTC. `absolute_only` leaves out what depends
    on `said_at` ("yesterday", "7 May"). What does not exist ("30 February") is left out.
    """
    speech = Speech(text, said_at)
    return tuple(mention for found in _find(speech, absolute_only) if (mention := _mention(speech, found)))


def read_times(text: str, said_at: datetime) -> tuple[tuple[TimeMention, ...], datetime]:
    """(mentions, valid_from) of a message said at the aware time `said_at`.

    `valid_from` is the start of the earliest mention that was over by `said_at` and whose sentence is no
    question, for then the message tells of that time; else it is `said_at`. UTC.
    """
    speech = Speech(text, said_at)
    mentions: list[TimeMention] = []
    valid_from = said_at.astimezone(UTC)
    said = valid_from
    for found in _find(speech, absolute_only=False):
        mention = _mention(speech, found)
        if mention is None:
            continue
        mentions.append(mention)
        if mention.end <= said and mention.start < valid_from and not _in_question(text, found):
            valid_from = mention.start
    return tuple(mentions), valid_from


def _find(speech: Speech, absolute_only: bool) -> list[Found]:
    """The first `MAX_MENTIONS` dates; the rest of a long text is not even read."""
    readers = [dates_en.find(speech), dates_other.find(speech)]
    if has_cjk(speech.text):
        readers.append(dates_zh.find(speech))
    wanted = ([f for f in islice(r, _READ) if f.absolute or not absolute_only] for r in readers)
    found = sorted(chain.from_iterable(wanted), key=lambda f: (f.start, -f.end))
    kept: list[Found] = []
    for one in found:  # "mai 2022" is a date in three languages
        if not kept or one.start >= kept[-1].end:
            kept.append(one)
    return kept[:MAX_MENTIONS]


def _mention(speech: Speech, found: Found) -> TimeMention | None:
    try:
        start, end = (_midnight(day, speech.at) for day in found.period)
    except (OverflowError, ValueError):  # beyond the years that a datetime can hold
        return None
    return TimeMention(speech.text[found.start : found.end], start, end) if start < end else None


def _midnight(day: date, at: datetime) -> datetime:
    """The start of `day` in the zone of `at`, in UTC."""
    if at.tzinfo is UTC:
        return datetime(day.year, day.month, day.day, tzinfo=UTC)
    return datetime.combine(day, time(), at.tzinfo).astimezone(UTC)


def _in_question(text: str, found: Found) -> bool:
    first, last = sentence_at(text, found.start, found.end)
    return text[first:last].rstrip("\"'”’)」』").endswith(("?", "？", "吗", "呢"))
