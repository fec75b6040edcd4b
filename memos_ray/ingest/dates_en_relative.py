"""English dates that "last", "this" or "next" make of a weekday, weekend, month, season or other unit.

Part of `dates_en`, which says how ambiguous ones are read.
"""

from __future__ import annotations

import re
from datetime import date, timedelta

from memos_ray.ingest import periods
from memos_ray.ingest.dates_en_words import WEEKDAY_NUMBER, month_of
from memos_ray.ingest.found import Speech
from memos_ray.ingest.periods import Period


def doubtful(match: re.Match[str], group: str, speech: Speech) -> bool:
    """Whether the month's name in `group` may be a common word: "may", "march" without a capital."""
    return speech.text[match.start(group) : match.end(group)] in ("may", "march", "mar")


def weekend_by_tense(day: date, tense: int) -> Period:
    """The weekend of this week; in the past tense the last one that has begun before `day`."""
    return periods.shift(day, "weekend", -1 if tense < 0 and day.weekday() < 6 else 0)


def relative(match: re.Match[str], speech: Speech, latest: Period | None) -> Period | None:
    """The period of a match of the alternative "rel"; `latest` is what "the following week" counts from."""
    which, what = " ".join(match["which"].split()), match["what"].split()[0]
    day = speech.day
    if which == "following":
        if latest is None:
            return None
        day, which = latest[1] - timedelta(1), "next"
    side = (
        0
        if which in ("this", "this coming")
        else -1
        if which in ("last", "previous", "past", "this past")
        else 1
    )
    if what in WEEKDAY_NUMBER:
        return periods.day(_relative_weekday(day, WEEKDAY_NUMBER[what], which, side))
    if what == "weekend":
        if which in ("this", "this past"):
            return weekend_by_tense(day, -1 if which == "this past" else _tense_early(match, speech))
        return periods.shift(day, "weekend", side)
    if what in ("week", "month", "quarter", "year"):
        if which in ("past", "this past"):
            return periods.days_from(
                day, "month" if what == "quarter" else what, -3 if what == "quarter" else -1
            ), day
        return periods.shift(day, what, side)
    if which == "this" and doubtful(match, "what", speech):
        return None
    return _recurring(day, what, side)


def _tense_early(match: re.Match[str], speech: Speech) -> int:
    """ "This weekend" in the past tense is the last one if said before Friday."""
    return -1 if speech.day.weekday() < 4 and speech.tense(*match.span()) < 0 else 0


def _relative_weekday(day: date, weekday: int, which: str, side: int) -> date:
    if side < 0:
        return periods.weekday_before(day, weekday)
    if which == "next":
        return periods.weekday_of_week(day, weekday, 1)
    return periods.weekday_from(day if side == 0 else day + timedelta(1), weekday)


def _recurring(day: date, what: str, side: int) -> Period:
    """A season or month of the year: the last over, the one of this year, the first yet to begin."""

    def of(year: int) -> Period:
        return periods.season(year, what) if what in periods.SEASONS else periods.month(year, month_of(what))

    year = day.year - (what == "winter" and day.month < 3)
    if side < 0 and of(year)[1] > day:
        return of(year - 1)
    if side > 0 and of(year)[0] <= day:
        return of(year + 1)
    return of(year)
