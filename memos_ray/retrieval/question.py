"""What kind of answer a question wants: told from its words, by rules, for English and Chinese.

Feeds the ranker (a "when" wants a memory that holds a date) and the time signal. Pure functions of the text.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass

KINDS = ("how many", "how long", "who", "what", "when", "where", "why", "which", "how")
OTHER = "other"
Span = tuple[int, int]
"""[start, end) in microseconds since 1970, UTC."""

_ENGLISH = [(kind, re.compile(rf"\b{kind}\b", re.IGNORECASE)) for kind in KINDS]
_CHINESE = (
    ("how many", re.compile("多少|几[个次本只条件位家]")),
    ("how long", re.compile("多久|多长时间")),
    ("when", re.compile("什么时候|何时|哪天|哪一天|几月|几号|哪年")),
    ("where", re.compile("哪里|哪儿|何处|什么地方|在哪")),
    ("why", re.compile("为什么|为何|怎么会")),
    ("who", re.compile("谁")),
    ("which", re.compile("哪[个些种本位家]")),
    ("how", re.compile("怎么|怎样|如何")),
    ("what", re.compile("什么|何")),
)
_LISTING = re.compile(
    r"\b(?:what|which)\s+(?:\w+\s+){0,3}\w+(?:s|ies)\b.*\b(?:has|have|does|do|did|are|were)\b"
    r"|\b(?:activities|things|ways|types|kinds|items|events|books|hobbies|all)\b|\bhow many\b"
    r"|哪些|所有|多少",
    re.IGNORECASE,
)
_MONTHS = [name.casefold() for name in calendar.month_name[1:]]
_SEASONS = {
    "spring": (3, 4, 5),
    "summer": (6, 7, 8),
    "autumn": (9, 10, 11),
    "fall": (9, 10, 11),
    "winter": (12, 1, 2),
}
_MONTH = re.compile(rf"\b({'|'.join(_MONTHS)})\b", re.IGNORECASE)
# "may" and "march" are words too, and so is "fall": these count after a word that makes them a time.
AT_A_TIME = r"\b(?:in|of|during|since|by|before|after|last|early|late|mid|this|next)[ -](?:the )?"
_AMBIGUOUS = re.compile(rf"{AT_A_TIME}(may|march|fall|spring|summer|autumn|winter)\b", re.IGNORECASE)
_CHINESE_MONTH = re.compile(r"(?<!\d)(1[0-2]|[1-9])月")


@dataclass(frozen=True, slots=True)
class Question:
    """`kind` is one of `KINDS` or "other"; `listing`: several things are wanted; `spans`: the times that it names
    outright, `months`: those that recur every year ("in July"), 1 to 12."""

    kind: str = OTHER
    listing: bool = False
    spans: tuple[Span, ...] = ()
    months: frozenset[int] = frozenset()

    @property
    def timed(self) -> bool:
        """Whether the question names a time."""
        return bool(self.spans or self.months)


NO_QUESTION = Question()


def kind_of(text: str) -> str:
    """The first of `KINDS` whose words the question holds, or "other"."""
    for kind, pattern in (*_ENGLISH, *_CHINESE):
        if pattern.search(text):
            return kind
    return OTHER


def is_listing(text: str) -> bool:
    """Whether it asks for several things ("which books…", "how many times…")."""
    return _LISTING.search(text) is not None


def months_of(text: str) -> frozenset[int]:
    """Months and seasons that the question names without a year, as months."""
    found: set[int] = set()
    for match in _MONTH.finditer(text):
        name = match[1].casefold()
        if name not in ("may", "march"):
            found.add(_MONTHS.index(name) + 1)
    for match in _AMBIGUOUS.finditer(text):
        name = match[1].casefold()
        found.update((_MONTHS.index(name) + 1,) if name in _MONTHS else _SEASONS[name])
    found.update(int(m[1]) for m in _CHINESE_MONTH.finditer(text))
    return frozenset(found)
