"""Calendar arithmetic: days, weeks, weekends, months, seasons and years as half-open periods of dates.

Weeks start on Monday. Seasons are the meteorological ones of the northern hemisphere; a winter is named
by the year in which it begins. Functions raise ValueError or OverflowError outside the years 1 to 9999.
"""

from __future__ import annotations

from datetime import date, timedelta

Period = tuple[date, date]  # [first, after the last)

SEASONS = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}  # first month
UNITS = ("day", "week", "weekend", "month", "quarter", "year", "decade")


def day(d: date) -> Period:
    """That day."""
    return d, d + timedelta(1)


def week(d: date) -> Period:
    """The week that holds `d`, from Monday."""
    monday = d - timedelta(d.weekday())
    return monday, monday + timedelta(7)


def weekend(d: date) -> Period:
    """Saturday and Sunday of the week that holds `d`."""
    monday, after = week(d)
    return monday + timedelta(5), after


def month(year_: int, month_: int) -> Period:
    """A month; `month_` may lie outside 1 to 12 and is carried into the year."""
    carried, index = divmod(month_ - 1, 12)
    following, next_index = divmod(month_, 12)
    return date(year_ + carried, index + 1, 1), date(year_ + following, next_index + 1, 1)


def quarter(d: date) -> Period:
    """The calendar quarter that holds `d`."""
    first = (d.month - 1) // 3 * 3 + 1
    return month(d.year, first)[0], month(d.year, first + 2)[1]


def season(year_: int, name: str) -> Period:
    """A season of `SEASONS` that begins in `year_`."""
    first = SEASONS[name]
    return month(year_, first)[0], month(year_, first + 2)[1]


def year(year_: int) -> Period:
    """A calendar year."""
    return date(year_, 1, 1), date(year_ + 1, 1, 1)


def shift(d: date, unit: str, count: int) -> Period:
    """The `unit` of `UNITS` that lies `count` units after the one that holds `d` (before, if negative)."""
    if unit == "day":
        return day(d + timedelta(count))
    if unit == "week":
        return week(d + timedelta(7 * count))
    if unit == "weekend":
        return weekend(d + timedelta(7 * count))
    if unit == "month":
        return month(d.year, d.month + count)
    if unit == "quarter":
        return quarter(month(d.year, d.month + 3 * count)[0])
    return year(d.year + count * (10 if unit == "decade" else 1))


def days_from(day: date, unit: str, count: int) -> date:
    """The day `count` units from `day`; the last of a month if that month is shorter."""
    if unit in ("day", "week", "weekend"):
        return day + timedelta(count * (1 if unit == "day" else 7))
    first, after = month(day.year, day.month + count * {"month": 1, "year": 12, "decade": 120}[unit])
    return min(first + timedelta(day.day - 1), after - timedelta(1))


def weekday_before(d: date, weekday: int) -> date:
    """The last such weekday (Monday is 0) strictly before `d`."""
    return d - timedelta((d.weekday() - weekday - 1) % 7 + 1)


def weekday_from(d: date, weekday: int) -> date:
    """The first such weekday on or after `d`."""
    return d + timedelta((weekday - d.weekday()) % 7)


def weekday_of_week(d: date, weekday: int, weeks: int) -> date:
    """That weekday of the week `weeks` weeks after the one that holds `d`."""
    return week(d)[0] + timedelta(7 * weeks + weekday)


def nearest_year(d: date, month_: int, day_: int, tense: int) -> int:
    """The year in which a date without one falls, seen from `d`.

    `tense` -1: on or before `d`; 1: on or after it; 0: whichever is nearer. `day_` 0 stands for the whole
    month, which `d`'s own month satisfies in every tense.
    """
    if day_ == 0:
        months = month_ - d.month
        if tense < 0:
            return d.year - (months > 0)
        if tense > 0:
            return d.year + (months < 0)
        return d.year - (months > 6) + (months < -6)
    key, here = (month_, day_), (d.month, d.day)
    if tense < 0:
        return d.year - (key > here)
    if tense > 0:
        return d.year + (key < here)
    days = (month_ - d.month) * 30.5 + day_ - d.day
    return d.year - (days > 183) + (days < -183)
