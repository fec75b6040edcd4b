"""What form a message has, whatever it is about: numbers that say how likely it is to hold an answer at all.

Small talk is short, asks and exclaims; evidence is longer, in the first person, with names and numbers.
"""

from __future__ import annotations

import math
import re

from memos_ray.text.script import CJK_CLASS

TRAITS = ("length", "asks", "ends_asking", "note", "number", "quote", "name", "first_person", "exclaims")
"""The columns of `traits`."""

ENDS_ASKING = TRAITS.index("ends_asking")
_WORD = re.compile(f"[{CJK_CLASS}]|[^\\W_{CJK_CLASS}]+")
_NUMBER = re.compile(
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|once|twice|couple|few|several)\b"
    r"|[一二两三四五六七八九十几][个次本只条件位家年月天]",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?<![.!?] )(?<!^)\b(?!I\b|I['\u2019])[A-Z][a-z]{2,}")
_FIRST_PERSON = re.compile(r"\b(?:I|[Mm]y|[Ww]e|[Oo]ur|I['\u2019]m|I['\u2019]ve)\b|我")
_NOTE = re.compile(r"\[[^\]]{3,}\]")
_QUOTE = re.compile('["\u201c\u300a]')


def traits(text: str) -> tuple[float, ...]:
    """One number for each of `TRAITS`: ln(1 + words), exclamation marks a word, and 1 or 0 for the others.

    `note`: a passage in brackets, as clients render attachments ("[shares a photo of…]").
    """
    words = len(_WORD.findall(text))
    spoken = _NOTE.sub("", text).rstrip()
    return (
        math.log1p(words),
        float("?" in text or "\uff1f" in text),
        float(spoken.endswith(("?", "\uff1f"))),
        float(_NOTE.search(text) is not None),
        float(_NUMBER.search(text) is not None),
        float(_QUOTE.search(text) is not None),
        float(_NAME.search(text) is not None),
        float(_FIRST_PERSON.search(text) is not None),
        (text.count("!") + text.count("\uff01")) / max(1, words),
    )
