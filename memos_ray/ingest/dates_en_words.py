"""The English ways of naming a date as one regular expression. `dates_en` says what they mean.

Every alternative is linear in the text: counts are bounded and nothing repeats inside a repetition.
"""

from __future__ import annotations

import re

_MONTHS = (
    "january|february|march|april|may|june|july|august|september|october|november|december",
    "jan|feb|mar|apr|jun|jul|aug|sept|sep|oct|nov|dec",
)
MONTH_NUMBER = {name[:3]: i + 1 for i, name in enumerate(_MONTHS[0].split("|"))}
_WEEKDAYS = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
_SHORT_WEEKDAYS = "mon|tue|tues|wed|thu|thur|thurs|fri|sat"  # "sun" shines too often
WEEKDAY_NUMBER = {name: i for i, name in enumerate(_WEEKDAYS.split("|"))}
WEEKDAY_NUMBER |= {
    short: number
    for name, number in tuple(WEEKDAY_NUMBER.items())
    for short in _SHORT_WEEKDAYS.split("|")
    if name.startswith(short)
}
COUNTS = {
    "a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "fifteen": 15, "twenty": 20, "thirty": 30, "couple": 2,
}  # fmt: skip
ORDINALS = {"first": 0, "second": 1, "third": 2, "fourth": 3, "last": -1}

_N = (
    r"\d{1,3}|an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|"
    r"(?:a )?couple(?: of)?|(?:a )?few|several|some"
)
_UNIT = r"day|week|weekend|month|year|decade"
_PART = r"(?: (?:morning|afternoon|evening|night))?"
_MONTH = rf"(?:{_MONTHS[0]}|(?:{_MONTHS[1]})\b\.?)"
_YEAR = r"(?:1[89]|20)\d\d(?!\d)"
_DAY = r"(?:3[01]|[12]\d|0?[1-9])(?:st|nd|rd|th)?"
_SEASON = "spring|summer|autumn|fall|winter"
_LEAD = (
    r"(?:in|since|from|until|till|by|during|around|before|after|of|early|mid|late|year|circa)"
    r"(?: (?:early|mid|late)| the (?:beginning|start|middle|end) of)?[ -]"
)

# One alternative per way of saying it; the outermost group names the reader. A space is any white space.
_ALTERNATIVES = (
    r"(?P<iso>(?P<iy>(?:1[89]|20)\d\d)(?P<sep>[-/.])(?P<im>\d{1,2})(?P=sep)(?P<id>\d{1,2})(?![\d/-])"
    r"(?:[t ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:z|[+-]\d\d:?\d\d)?)?)",
    rf"(?P<dmy>(?P<d1>{_DAY})(?: of)? (?P<m1>{_MONTH})(?:,? (?P<y1>{_YEAR}))?(?!\w))",
    rf"(?P<mdy>(?P<m2>{_MONTH}) (?:the )?(?P<d2>{_DAY})(?!\d|:)(?:,? (?P<y2>{_YEAR}))?\b)",
    rf"(?P<my>(?P<m3>{_MONTH})(?:,| of)? (?P<y3>{_YEAR}))",
    rf"(?P<of>(?:the )?(?P<ord>{'|'.join(ORDINALS)}) (?P<ow>week|weekend) (?:of|in) (?P<om>{_MONTHS[0]})\b"
    rf"(?: (?P<oy>{_YEAR}))?)",
    rf"(?P<word>(?:the )?day (?:before yesterday|after tomorrow)|(?:yesterday|tomorrow){_PART}|today|tonight"
    r"|last night|this (?:morning|afternoon|evening)|the other (?:day|night|week))\b",
    r"(?P<twice>(?:the )?(?P<tu>week|weekend|month|year) (?P<tw>before last|after next))\b",
    r"(?P<rel>(?:the )?(?P<which>last|previous|past|this(?: past| coming)?|next|coming|upcoming|following) "
    rf"(?P<what>week(?:end)?|month|quarter|year|{_SEASON}|{_MONTHS[0]}"
    rf"|(?:{_WEEKDAYS}|{_SHORT_WEEKDAYS}){_PART}))(?!\w)",
    rf"(?P<span>(?:the )?(?P<dir>last|past|next|coming) (?P<sn>{_N}) (?P<su>{_UNIT})s?)\b",
    rf"(?P<ago>(?P<an>{_N}) (?P<au>minute|hour|{_UNIT})s?(?: and a half)? "
    r"(?P<aw>ago|back\b(?! (?:to|in|and))|from now))\b",
    rf"(?P<inn>in (?P<fn>{_N}) (?P<fu>{_UNIT})s?(?:['’]s?)?(?: time)?)\b",
    rf"(?P<near>(?P<nn>the|{_N}) (?P<nu>{_UNIT}|{_WEEKDAYS})s? (?P<nw>before|after|prior to|following))\b",
    rf"(?P<pre>on|since|until|by) (?P<wd>(?P<w1>{_WEEKDAYS}){_PART})\b(?!{_PART}s)",
    rf"(?P<wdp>(?P<w2>{_WEEKDAYS}) (?:morning|afternoon|evening|night))\b",
    r"(?P<wknd>(?:over|at|on|during) (?:the )?weekend)\b",
    rf"{_LEAD}(?P<mon>(?P<m4>{_MONTHS[0]}))\b(?!,? (?:of )?\d)",
    rf"{_LEAD}(?P<yr>(?P<y4>(?:19|20)\d\d)(?!\d|[,.]\d|%| (?:people|dollars|miles|words|users|steps)))\b",
    rf"(?P<sy>(?P<ss>{_SEASON})(?: of)?,? (?P<y5>{_YEAR}))",
    r"(?:the |mid-|early |late )(?P<dec>(?P<y6>(?:19|20)\d)0['’]?s)\b",
)
# For text in lower case: ignoring case in the expression itself is twice as slow.
PATTERN = re.compile(rf"(?<![a-z0-9_.])(?:{'|'.join(_ALTERNATIVES)})".replace(" ", r"\s"))
# Every alternative needs a year in digits or one of these; looking for them costs little where there is none.
_FOUR_DIGITS = re.compile(r"\d{4}")
_PARTS_OF_DATES = (
    "day night tomorrow morning noon evening week month year ago quarter decade "
    "hour minute summer spring winter autumn fall"
)
_NEEDED = (*_PARTS_OF_DATES.split(), *_MONTHS[1].split("|"), "may", *_SHORT_WEEKDAYS.split("|"))


def may_hold_date(lowered: str) -> bool:
    """Whether `PATTERN` has any chance in this text. True far too often, False never wrongly."""
    return any(word in lowered for word in _NEEDED) or _FOUR_DIGITS.search(lowered) is not None


WITH_YEAR = ("iy", "y1", "y2", "y3", "oy", "y4", "y5", "y6")  # groups that make a date absolute


def count(word: str) -> tuple[int, int]:
    """(fewest, most) that a number word stands for."""
    if word.isdigit():
        number = int(word)
    elif word.endswith("few") or word in ("several", "some"):
        return 2, 5
    else:
        number = 2 if "couple" in word else COUNTS[word]
    return number, number


def month_of(word: str) -> int:
    """1 to 12 for a month's name or its abbreviation."""
    return MONTH_NUMBER[word[:3]]
