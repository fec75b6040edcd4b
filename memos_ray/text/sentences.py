"""Where sentences begin and end, with or without spaces between words. Knows punctuation and abbreviations.

It is a rule for cutting text, not a grammar: a full stop ends a sentence if white space and no lower-case
letter follows it, and the word before it is no abbreviation or initial.
"""

from __future__ import annotations

import re

_CLOSERS = "\"'”’»)\\]」』）》】"
_END = re.compile(
    # The look-behinds keep a long run of marks from being tried again from each of its characters.
    rf"(?P<stop>(?<!\.)\.+[{_CLOSERS}]*(?=\s|$))|(?<![!?‽…])[!?‽…]+[{_CLOSERS}]*(?=\s|$)"
    rf"|[。！？｡]+[!?！？。…{_CLOSERS}]*|\n\s*"
)
_LAST_WORD = re.compile(r"([^\W\d_]+(?:\.[^\W\d_]+)*)\Z")
_SHORT = (
    "mr mrs ms dr prof rev hon sr jr st vs etc eg ie e.g i.e cf al fig figs no nos vol pp ed eds inc ltd co "
    "corp dept est approx apt ave blvd rd mt jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues "
    "wed thu thurs fri sat sun a.m p.m u.s u.k u.n ph.d b.a m.a b.s m.s"
)
_SHORT_OR_LAST = "etc inc ltd co corp jr sr a.m p.m u.s u.k u.n no"  # these may well end a sentence
_ABBREVIATIONS = frozenset(_SHORT.split()) - frozenset(_SHORT_OR_LAST.split())
_LONGEST_WORD = 24


def sentence_spans(text: str, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    """[start, end) of each sentence of `text[start:end]`, in order, white space around each left out.

    Line breaks end sentences. Linear time.
    """
    stop = len(text) if end is None else end
    spans: list[tuple[int, int]] = []
    begin = start
    for match in _END.finditer(text, start, stop):
        if match.lastgroup == "stop" and not _ends_sentence(text, begin, match.start(), match.end(), stop):
            continue
        _append(spans, text, begin, match.end())
        begin = match.end()
    _append(spans, text, begin, stop)
    return spans


def sentence_at(text: str, start: int, end: int, reach: int = 240) -> tuple[int, int]:
    """The sentence around `text[start:end]`, looked for within `reach` characters on either side."""
    low, high = max(0, start - reach), min(len(text), end + reach)
    for first, last in sentence_spans(text, low, high):
        if last > start:
            return first, max(last, end)
    return start, end


def _ends_sentence(text: str, begin: int, dot: int, after: int, stop: int) -> bool:
    """Whether the full stop at `dot` ends the sentence that began at `begin`."""
    following = after
    while following < stop and text[following] in " \t":
        following += 1
    if following < stop and text[following].islower():
        return False
    word_match = _LAST_WORD.search(text[max(begin, dot - _LONGEST_WORD) : dot])
    if word_match is None:  # a digit or a bracket: "1. Item" at the start of a line is no sentence
        return text[begin:dot].strip(" \t").isdigit() is False
    word = word_match[1]
    if len(word) == 1 and word.isupper() and word != "I":
        return False
    return word.lower() not in _ABBREVIATIONS


def _append(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if start < end:
        spans.append((start, end))
