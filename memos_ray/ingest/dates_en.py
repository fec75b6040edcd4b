"""English dates in text, relative and absolute -> periods of days. Knows the words; `dates` knows time zones.

Readings where English is not of one mind:
"last Friday" is the latest Friday before the day of speaking; "next Friday" the Friday of the week after;
"this Friday" the one of this week, or the coming one if that has passed. A bare weekday or a date without
a year goes by the tense of its sentence. "a few" stands for two to five; "two weeks ago" for the whole week
in which that day falls, and so for months and years; "the past two weeks" for the days up to this one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date, timedelta

from memos_ray.ingest import periods
from memos_ray.ingest.dates_en_relative import doubtful, relative, weekend_by_tense
from memos_ray.ingest.dates_en_words import (
    ORDINALS,
    PATTERN,
    WEEKDAY_NUMBER,
    WITH_YEAR,
    count,
    may_hold_date,
    month_of,
)
from memos_ray.ingest.found import Found, Speech
from memos_ray.ingest.periods import Period

_ASCII_LOWER = {c: c + 32 for c in range(ord("A"), ord("Z") + 1)}
_STANDALONE = re.compile(r"\s*(?:[.,;!?)…]|$)")


def find(speech: Speech) -> Iterator[Found]:
    """All English dates of the text, from left to right, never overlapping."""
    text = speech.text
    lowered = _lower(text)
    if not may_hold_date(lowered):
        return
    waiting: re.Match[str] | None = None  # "the Friday before", until the date that it counts from comes
    latest: Period | None = None
    for match in PATTERN.finditer(lowered):
        name = match.lastgroup or ""
        if name == "near" and _STANDALONE.match(text, match.end()) is None:
            waiting = match
            continue
        try:
            if name == "near":
                period: Period | None = _near(match, latest or _start_of(match, speech))
            else:
                period = _READERS[name](match, speech, latest)
            start, end = match.span(name)
            if period and waiting is not None and match.start() <= waiting.end() + 1:
                start, period = waiting.start(), _near(waiting, period)
        except (ValueError, OverflowError):  # no such day, or a year outside 1 to 9999: no date
            continue
        if period is not None:
            waiting, latest = None, period
            yield Found(start, end, period, absolute=any(match[g] for g in WITH_YEAR))


def _lower(text: str) -> str:
    """Lower case of the same length, so that positions stay (the lower case of "İ" has two characters)."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else text.translate(_ASCII_LOWER)


def _dated(groups: str, match: re.Match[str], speech: Speech) -> Period | None:
    month, day, year = (
        month_of(match["m" + groups]),
        int(match["d" + groups].rstrip("stndrh")),
        match["y" + groups],
    )
    if year is None:
        if doubtful(match, "m" + groups, speech):
            return None
        year = periods.nearest_year(speech.day, month, day, speech.tense(*match.span()))
    return periods.day(date(int(year), month, day))


def _month_alone(match: re.Match[str], speech: Speech, _: Period | None) -> Period | None:
    if doubtful(match, "m4", speech):
        return None
    number, tense = month_of(match["m4"]), speech.tense(*match.span("mon"))
    return periods.month(periods.nearest_year(speech.day, number, 0, tense), number)


def _week_of_month(match: re.Match[str], speech: Speech, _: Period | None) -> Period | None:
    number = month_of(match["om"])
    year = match["oy"] or periods.nearest_year(speech.day, number, 0, speech.tense(*match.span()))
    first, after = periods.month(int(year), number)
    index, weekday = ORDINALS[match["ord"]], 5 if match["ow"] == "weekend" else 0
    start = (
        periods.weekday_before(after, weekday)
        if index < 0
        else periods.weekday_from(first, weekday) + timedelta(7 * index)
    )
    return start, start + timedelta(2 if weekday else 7)


def _word(match: re.Match[str], speech: Speech, _: Period | None) -> Period | None:
    words, day = match["word"].split(), speech.day
    if "other" in words:
        return (day - timedelta(21), day - timedelta(7)) if "week" in words else (day - timedelta(7), day)
    if "yesterday" in words or words == ["last", "night"]:
        return periods.shift(day, "day", -2 if "before" in words else -1)
    if "tomorrow" in words:
        return periods.shift(day, "day", 2 if "after" in words else 1)
    return periods.day(day)


def _twice(match: re.Match[str], speech: Speech, _: Period | None) -> Period | None:
    return periods.shift(speech.day, match["tu"], -2 if "last" in match["tw"] else 2)


def _span(match: re.Match[str], speech: Speech, _: Period | None) -> Period | None:
    most, unit, day = count(match["sn"])[1], match["su"], speech.day
    if match["dir"] in ("last", "past"):
        return periods.days_from(day, unit, -most), day
    return day, periods.days_from(day, unit, most)


def _ago(match: re.Match[str], speech: Speech, _: Period | None) -> Period | None:
    fewest, most = count(match["an"])
    unit, sign = match["au"], 1 if match["aw"] == "from now" else -1
    if unit in ("minute", "hour"):
        return periods.day((speech.at + sign * timedelta(**{unit + "s": most})).date())
    return _between(speech.day, unit, sign * fewest, sign * most)


def _between(day: date, unit: str, one: int, other: int) -> Period:
    """From the earlier of two shifted units to the end of the later one."""
    low, high = min(one, other), max(one, other)
    return periods.shift(day, unit, low)[0], periods.shift(day, unit, high)[1]


def _in(match: re.Match[str], speech: Speech, _: Period | None) -> Period | None:
    fewest, most = count(match["fn"])
    unit, tense = match["fu"], speech.tense(*match.span())
    if tense < 0 or (tense == 0 and match["fn"] in ("a", "an", "one")):
        return None  # "finished it in two days", "twice in a day": how long, not when
    return _between(speech.day, unit, fewest, most)


def _start_of(match: re.Match[str], speech: Speech) -> Period:
    """What "the week before" counts from where no date was named. "The week after" then names none."""
    if match["nw"] in ("after", "following"):
        raise ValueError("nothing to count from")
    return periods.day(speech.day)


def _near(match: re.Match[str], anchor: Period) -> Period:
    sign = -1 if match["nw"] in ("before", "prior to") else 1
    base, unit = anchor[0] if sign < 0 else anchor[1] - timedelta(1), match["nu"]
    if unit in WEEKDAY_NUMBER:
        weekday = WEEKDAY_NUMBER[unit]
        found = (
            periods.weekday_before(base, weekday)
            if sign < 0
            else periods.weekday_from(base + timedelta(1), weekday)
        )
        return periods.day(found)
    fewest, most = (1, 1) if match["nn"] == "the" else count(match["nn"])
    return _between(base, unit, sign * fewest, sign * most)


def _weekday(word: str, preposition: str, match: re.Match[str], speech: Speech) -> Period | None:
    weekday, folded = WEEKDAY_NUMBER[word], preposition
    tense = {"since": -1, "until": 1, "by": 1}.get(folded) or speech.tense(*match.span())
    if tense < 0:
        return periods.day(periods.weekday_before(speech.day, weekday))
    return periods.day(periods.weekday_from(speech.day, weekday))


def _weekend(match: re.Match[str], speech: Speech, _: Period | None) -> Period | None:
    tense = speech.tense(*match.span())
    return None if tense == 0 else weekend_by_tense(speech.day, tense)


def _year(digits: str) -> Period:
    return periods.year(int(digits))


_READERS: dict[str, Callable[[re.Match[str], Speech, Period | None], Period | None]] = {
    "iso": lambda m, s, _: periods.day(date(int(m["iy"]), int(m["im"]), int(m["id"]))),
    "dmy": lambda m, s, _: _dated("1", m, s),
    "mdy": lambda m, s, _: _dated("2", m, s),
    "my": lambda m, s, _: periods.month(int(m["y3"]), month_of(m["m3"])),
    "of": _week_of_month,
    "word": _word,
    "twice": _twice,
    "rel": relative,
    "span": _span,
    "ago": _ago,
    "inn": _in,
    "wd": lambda m, s, _: _weekday(m["w1"], m["pre"], m, s),
    "wdp": lambda m, s, _: _weekday(m["w2"], "on", m, s),
    "wknd": _weekend,
    "mon": _month_alone,
    "yr": lambda m, s, _: _year(m["y4"]),
    "sy": lambda m, s, _: periods.season(int(m["y5"]), m["ss"]),
    "dec": lambda m, s, _: (_year(m["y6"] + "0")[0], _year(m["y6"] + "9")[1]),
}
