"""Chinese dates in text, relative and absolute -> periods of days. Knows the words; `dates` knows time zones.

A bare weekday, weekend or date without a year goes by the tense of its sentence (了, 过 against 要, 打算).
几 stands for two to five. 三周前 names the whole week in which that day falls, and so for months and years;
过去三周 the days up to this one. 三天后 in a sentence about the past counts from something else: no date.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date

from memos_ray.ingest import periods
from memos_ray.ingest.found import Found, Speech
from memos_ray.ingest.periods import Period

_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "○": 0}
_WEEKDAY_NUMBER = {c: i for i, c in enumerate("一二三四五六")} | {"日": 6, "天": 6, "末": 5}
_SEASONS = {"春": "spring", "夏": "summer", "秋": "autumn", "冬": "winter"}
_DAYS = {"大前": -3, "前": -2, "昨": -1, "今": 0, "明": 1, "后": 2, "大后": 3}
_YEARS = {"大前": -3, "前": -2, "去": -1, "今": 0, "本": 0, "明": 1, "后": 2}
_STEPS = {"上上": -2, "上": -1, "这": 0, "本": 0, "下": 1, "下下": 2}
_UNITS = {"天": "day", "日": "day", "周": "week", "星期": "week", "礼拜": "week", "月": "month", "年": "year"}

_N = r"(?:\d{1,3}|[一二两三四五六七八九]?十[一二三四五六七八九]?|[一二两三四五六七八九几数])"
_COUNT_UNIT = r"(?:天|日(?!本)|个?(?:周(?![一二三四五六日末])|星期|礼拜)|个月|年(?!级|代))"
_MONTH_N = r"(?:1[0-2]|0?[1-9]|十[一二]?|[一二三四五六七八九])"
_DAY_N = r"(?:3[01]|[12]\d|0?[1-9]|[二三]?十[一二三四五六七八九]?|[一二三四五六七八九])"
_YEAR_N = r"(?:(?:1[89]|20)\d\d|[一二][〇零○一二三四五六七八九]{3})"
_SEASON = r"[春夏秋冬][天季]?"
_STEP = r"上上|下下|[上下这本]"

_ALTERNATIVES = (
    rf"(?P<abs>(?P<ay>{_YEAR_N})年(?:(?P<am>{_MONTH_N})月(?:(?P<ad>{_DAY_N})[日号])?|的?(?P<as>{_SEASON}))?)",
    rf"(?P<rely>(?P<ry>大前|[前去今本明后])年(?:的?(?P<rm>{_MONTH_N})月份?(?:(?P<rd>{_DAY_N})[日号])?|的?(?P<rs>{_SEASON}))?)",
    rf"(?P<md>(?P<mm>{_MONTH_N})月(?P<mdd>{_DAY_N})[日号])",
    r"(?P<day>(?:(?P<dn>大前|大后|[前昨今明后])天|(?P<dm>[昨今明])(?:[日晚早晨夜]|儿个?))(?:早上|上午|中午|下午|晚上|夜里|傍晚|凌晨)?)",
    rf"(?P<wk>(?P<ws>{_STEP})个?(?:周|星期|礼拜)(?P<wd>[一二三四五六日天末])?(?!年))",
    r"(?P<bare>(?<![一二两三四五六七八九十每几整半\d个])(?:周|星期|礼拜)(?P<bd>[一二三四五六日天末])(?![次回趟遍年天到至岁个]))",
    rf"(?P<mo>(?P<ms>{_STEP})个?月)",
    rf"(?P<ago>(?P<an>{_N})(?P<au>{_COUNT_UNIT})(?P<aw>之?前|以前|之?后|以后)(?!面|来))",
    r"(?P<few>前(?P<fn>[几两])(?P<fu>天|个?(?:周|星期|礼拜)|个月|年))",
    rf"(?P<span>(?P<sw>过去|最近|近|未来|接下来)的?这?(?P<sn>{_N})(?P<su>{_COUNT_UNIT}))",
    rf"(?P<mon>(?<![\d一二两三四五六七八九十几个])(?P<mn>{_MONTH_N})月(?:份|初|中旬|下旬|上旬|底|末)?(?![\d一二三四五六七八九十]))",
    r"(?P<sea>(?P<sp>[今去明])(?P<sc>[春夏秋冬]))",
)
_FIRST = r"(?=[\d一二两三四五六七八九十几数大前去今本明后昨上下这周星礼过最近未接])"  # saves trying them all elsewhere
_PATTERN = re.compile(f"{_FIRST}(?:{'|'.join(_ALTERNATIVES)})")
_HINT = re.compile("[天年月周昨今明日晚]|星期|礼拜")


def find(speech: Speech) -> Iterator[Found]:
    """All Chinese dates of the text, from left to right, never overlapping."""
    if _HINT.search(speech.text) is None:
        return
    for match in _PATTERN.finditer(speech.text):
        name = match.lastgroup or ""
        try:
            period = _READERS[name](match, speech)
        except (ValueError, OverflowError):  # no such day, or a year outside 1 to 9999: no date
            continue
        if period is not None:
            yield Found(*match.span(name), period, absolute=name == "abs")


def _number(word: str) -> int:
    """1 to 999 in digits, or 1 to 99 in characters."""
    if word.isdigit():
        return int(word)
    tens, ten, ones = word.rpartition("十")
    if not ten:
        return _DIGITS[word]
    return (_DIGITS[tens] if tens else 1) * 10 + (_DIGITS[ones] if ones else 0)


def _count(word: str) -> tuple[int, int]:
    """(fewest, most) that a number word stands for."""
    return (2, 5) if word in "几数" else (_number(word), _number(word))


def _unit(word: str) -> str:
    return _UNITS[word.removeprefix("个")]


def _in_year(year: int, month: str | None, day: str | None, season: str | None) -> Period:
    if season is not None:
        return periods.season(year, _SEASONS[season[0]])
    if month is None:
        return periods.year(year)
    if day is None:
        return periods.month(year, _number(month))
    return periods.day(date(year, _number(month), _number(day)))


def _absolute(match: re.Match[str], speech: Speech) -> Period:
    digits = match["ay"]
    year = int(digits) if digits.isdigit() else int("".join(str(_DIGITS[c]) for c in digits))
    return _in_year(year, match["am"], match["ad"], match["as"])


def _relative_year(match: re.Match[str], speech: Speech) -> Period:
    return _in_year(speech.day.year + _YEARS[match["ry"]], match["rm"], match["rd"], match["rs"])


def _month_day(match: re.Match[str], speech: Speech) -> Period:
    month, day = _number(match["mm"]), _number(match["mdd"])
    return periods.day(
        date(periods.nearest_year(speech.day, month, day, speech.tense(*match.span())), month, day)
    )


def _month(match: re.Match[str], speech: Speech) -> Period:
    month = _number(match["mn"])
    return periods.month(periods.nearest_year(speech.day, month, 0, speech.tense(*match.span())), month)


def _day(match: re.Match[str], speech: Speech) -> Period:
    return periods.shift(speech.day, "day", _DAYS[match["dn"] or match["dm"]])


def _week(match: re.Match[str], speech: Speech) -> Period:
    weeks, weekday = _STEPS[match["ws"]], match["wd"]
    if weekday is None:
        return periods.shift(speech.day, "week", weeks)
    if weekday == "末":
        return periods.shift(speech.day, "weekend", weeks)
    return periods.day(periods.weekday_of_week(speech.day, _WEEKDAY_NUMBER[weekday], weeks))


def _bare_weekday(match: re.Match[str], speech: Speech) -> Period:
    past = speech.tense(*match.span()) < 0
    if match["bd"] == "末":
        return periods.shift(speech.day, "weekend", -1 if past and speech.day.weekday() < 6 else 0)
    weekday = _WEEKDAY_NUMBER[match["bd"]]
    return periods.day((periods.weekday_before if past else periods.weekday_from)(speech.day, weekday))


def _ago(match: re.Match[str], speech: Speech) -> Period | None:
    fewest, most = _count(match["an"])
    unit, before = _unit(match["au"]), match["aw"].endswith("前")
    if not before and speech.tense(*match.span()) < 0:
        return None
    low, high = (-most, -fewest) if before else (fewest, most)
    return periods.shift(speech.day, unit, low)[0], periods.shift(speech.day, unit, high)[1]


def _few_ago(match: re.Match[str], speech: Speech) -> Period:
    """前几天, 前两年: the few units before this one."""
    unit, most = _unit(match["fu"]), 5 if match["fn"] == "几" else 2
    return periods.shift(speech.day, unit, -most)[0], periods.shift(speech.day, unit, -1)[1]


def _span(match: re.Match[str], speech: Speech) -> Period:
    most, unit, day = _count(match["sn"])[1], _unit(match["su"]), speech.day
    ahead = match["sw"] in ("未来", "接下来")
    other = periods.days_from(day, unit, most if ahead else -most)
    return (day, other) if ahead else (other, day)


_READERS: dict[str, Callable[[re.Match[str], Speech], Period | None]] = {
    "abs": _absolute,
    "rely": _relative_year,
    "md": _month_day,
    "day": _day,
    "wk": _week,
    "bare": _bare_weekday,
    "mo": lambda m, s: periods.shift(s.day, "month", _STEPS[m["ms"]]),
    "ago": _ago,
    "few": _few_ago,
    "span": _span,
    "mon": _month,
    "sea": lambda m, s: periods.season(s.day.year + _YEARS[m["sp"]], _SEASONS[m["sc"]]),
}
