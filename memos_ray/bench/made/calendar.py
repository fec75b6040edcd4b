"""Past days as people name them, and the days that they mean."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, datetime, timedelta

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_NUMBERS = ("two", "three", "four", "five", "six")


@dataclass(frozen=True, slots=True)
class Past:
    """`said` by somebody, meaning `first` to `last` (both included); `answer` as a reader would put it."""

    said: str
    first: date
    last: date
    answer: str

    @property
    def on(self) -> str:
        """The time as a question names it: "on 4 May, 2023", "in the week of 1 May, 2023"."""
        days = (self.last - self.first).days
        if days == 0:
            return f"on {long(self.first)}"
        if days == 1:
            return f"on the weekend of {long(self.first)}"
        if days < 7:
            return f"in the week of {long(self.first)}"
        return f"in {self.first:%B %Y}"


def long(day: date) -> str:
    """'8 May, 2023'."""
    return f"{day.day} {day:%B, %Y}"


def session_time(when: datetime) -> str:
    """LoCoMo's way: '1:56 pm on 8 May, 2023'."""
    return f"{when.hour % 12 or 12}:{when:%M} {when:%p} on ".replace("AM", "am").replace("PM", "pm") + long(
        when
    )


def past(rng: random.Random, today: date) -> Past:
    """A time before `today`."""
    kind = rng.choice(
        ("yesterday", "days", "weekday", "weekday", "weekend", "week", "weeks", "month", "exact")
    )
    if kind == "yesterday":
        day = today - timedelta(days=1)
        return Past(rng.choice(("yesterday", "last night")), day, day, long(day))
    if kind == "days":
        n = rng.randrange(2, 7)
        day = today - timedelta(days=n)
        return Past(f"{_NUMBERS[n - 2]} days ago", day, day, long(day))
    if kind == "weekday":
        day = today - timedelta(days=rng.randrange(2, 8))
        name = _WEEKDAYS[day.weekday()]
        return Past(f"last {name}", day, day, f"the {name} before {long(today)}")
    if kind == "weekend":
        saturday = today - timedelta(days=today.weekday() + 2)
        return Past(
            "last weekend", saturday, saturday + timedelta(days=1), f"the weekend before {long(today)}"
        )
    if kind in ("week", "weeks"):
        back = 1 if kind == "week" else 2
        monday = today - timedelta(days=today.weekday() + 7 * back)
        said = "last week" if back == 1 else rng.choice(("two weeks ago", "a fortnight ago"))
        return Past(said, monday, monday + timedelta(days=6), f"the week of {long(monday)}")
    if kind == "month":
        end = today.replace(day=1) - timedelta(days=1)
        return Past("last month", end.replace(day=1), end, f"{end:%B %Y}")
    day = today - timedelta(days=rng.randrange(3, 20))
    return Past(f"on the {_ordinal(day.day)} of {day:%B}", day, day, long(day))


def _ordinal(n: int) -> str:
    ending = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"
