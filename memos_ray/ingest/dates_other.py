"""Dates in German, French, Spanish, Portuguese and Italian text -> periods of days, by way of `dateparser`.

A regular expression finds the expression, `dateparser` says which day, week, month or year it means. That
package keeps state between calls, so one lock guards it; answers are cached. It is imported on first use,
about 0.2 s, and costs about a millisecond for each new expression.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import date, datetime, time
from functools import lru_cache
from typing import Any

from memos_ray.ingest import periods
from memos_ray.ingest.found import Found, Speech
from memos_ray.ingest.periods import Period

_YEAR = r"(?:1[89]|20)\d\d"
_MONTHS = {
    "de": "januar|februar|märz|april|mai|juni|juli|august|september|oktober|november|dezember",
    "fr": "janvier|février|mars|avril|mai|juin|juillet|août|septembre|octobre|novembre|décembre",
    "es": "enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre",
    "pt": "janeiro|fevereiro|março|abril|maio|junho|julho|agosto|setembro|outubro|novembro|dezembro",
    "it": "gennaio|febbraio|marzo|aprile|maggio|giugno|luglio|agosto|settembre|ottobre|novembre|dicembre",
}
_COUNTS = {
    "de": {"einem": 1, "einer": 1, "zwei": 2, "drei": 3, "vier": 4, "fünf": 5, "sechs": 6, "zehn": 10},
    "fr": {"un": 1, "une": 1, "deux": 2, "trois": 3, "quatre": 4, "cinq": 5, "six": 6, "dix": 10},
    "es": {"un": 1, "una": 1, "dos": 2, "tres": 3, "cuatro": 4, "cinco": 5, "seis": 6, "diez": 10},
    "pt": {"um": 1, "uma": 1, "dois": 2, "duas": 2, "três": 3, "quatro": 4, "cinco": 5, "seis": 6, "dez": 10},
    "it": {"un": 1, "una": 1, "due": 2, "tre": 3, "quattro": 4, "cinque": 5, "sei": 6, "dieci": 10},
}
# {n} is a number, {m} a month, {y} a year.
_FORMS = {
    "de": r"(?:vor)?gestern|heute|übermorgen|vor {n} (?:tag(?:en)?|wochen?|monat(?:en)?|jahr(?:en)?)"
    r"|(?:letzte|nächste)(?:n monat|s jahr| woche)|\d{1,2}\. (?:{m})(?: {y})?"
    r"|(?:januar|februar|märz|mai|juni|juli|oktober|dezember) {y}",  # the others are English, too
    "fr": r"avant-hier|hier(?= (?:soir|matin|j['’]|nous|on |il |elle ))|il y a {n} (?:jours?|semaines?|mois|ans?)"
    r"|(?:la semaine|le mois|l['’]année) (?:derni(?:er|ère)|prochaine?)|(?:1er|\d{1,2}) (?:{m})(?: {y})?|(?:{m}) {y}",
    "es": r"ante(?:ayer|anoche)|ayer|hoy|hace {n} (?:días?|semanas?|mes(?:es)?|años?)"
    r"|(?:la semana|el mes|el año) pasad[oa]|\d{1,2} de (?:{m})(?: del? {y})?|(?:{m}) de {y}",
    "pt": r"(?:ante)?ontem|há {n} (?:dias?|semanas?|mês|meses|anos?)|(?:semana|mês|ano) passad[oa]"
    r"|\d{1,2} de (?:{m})(?: de {y})?|(?:{m}) de {y}",
    "it": r"ieri|{n} (?:giorn[oi]|settiman[ae]|mes[ei]|ann[oi]) fa|(?:settimana|mese|anno) scors[oa]"
    r"|\d{1,2} (?:{m})(?: {y})?|(?:{m}) {y}",
}


def _form(language: str) -> str:
    number = rf"(?:\d{{1,3}}|{'|'.join(_COUNTS[language])})"
    form = _FORMS[language].replace("{n}", number).replace("{m}", _MONTHS[language]).replace("{y}", _YEAR)
    return f"(?P<{language}>{form})"


_PATTERN = re.compile(rf"(?<![\w-])(?:{'|'.join(map(_form, _FORMS))})(?![\w-])")
# A piece of every expression: tells quickly that a text has none.
_WORDS = (
    "gestern|heute|morgen|vor |letzte|nächste|hier |il y a|derni|prochain|ayer|hoy|hace |pasad|ontem|há |"
    "passad|ieri|giorn|settiman|mese|mesi|anni|anno|scors"
)
_NEEDED = tuple(_WORDS.split("|"))
_NEEDED_WITH_NUMBER = tuple({month[:4] for months in _MONTHS.values() for month in months.split("|")})
_DIGIT = re.compile(r"\d")
_lock = threading.Lock()


def find(speech: Speech) -> Iterator[Found]:
    """Dates of those languages in the text, from left to right, never overlapping."""
    lowered = speech.text.lower()
    if len(lowered) != len(speech.text) or not _may_hold_date(lowered):
        return
    for match in _PATTERN.finditer(lowered):
        language = match.lastgroup or ""
        day = speech.day
        if not 1000 < day.year < 9000:  # `dateparser` is not safe at the edges of the calendar
            continue
        period = _meaning(language, match[0], day)
        if period is not None:
            absolute = re.search(_YEAR, match[0]) is not None
            yield Found(match.start(), match.end(), period, absolute)


def _may_hold_date(lowered: str) -> bool:
    """Whether the pattern has any chance. True too often, False never wrongly."""
    if any(piece in lowered for piece in _NEEDED):
        return True
    return _DIGIT.search(lowered) is not None and any(piece in lowered for piece in _NEEDED_WITH_NUMBER)


@lru_cache(maxsize=4_096)
def _meaning(language: str, expression: str, said_on: date) -> Period | None:
    counts = _COUNTS[language]
    words = " ".join(str(counts.get(word, word)) for word in expression.replace("’", "'").split())
    with _lock:
        data = _data(language, words, said_on)
    if data.date_obj is None:
        return None
    return periods.shift(data.date_obj.date(), data.period if data.period in periods.UNITS else "day", 0)


def _data(language: str, words: str, said_on: date) -> Any:
    from dateparser.date import DateDataParser

    settings = {
        "RELATIVE_BASE": datetime.combine(said_on, time(12)),
        "PREFER_DATES_FROM": "past",  # of a date without a year
        "DATE_ORDER": "DMY",
    }
    return DateDataParser(languages=[language], settings=settings).get_date_data(words)
