"""Which script a character or a stretch of text is in. Knows Unicode ranges, but no words or languages.

"cjk" means what is written without spaces between words or searched as if it were: Han, kana, bopomofo
and hangul. "latin" means letters of the Latin script. "other" means letters of any other script.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

Script = Literal["cjk", "latin", "other"]

# For use inside a regex character class.
CJK_CLASS = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303b\u3041-\u3096\u3099-\u309f\u30a1-\u30ff"
    "\u3105-\u312f\u3131-\u318e\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97c\uac00-\ud7fb"
    "\u1100-\u11ff\uf900-\ufaff\uff66-\uff9f\uffa0-\uffdc\U0001b000-\U0001b16f\U00020000-\U000323af"
)
HAN_CLASS = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_LATIN_CLASS = (
    "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02af\u1e00-\u1eff"
    "\u2c60-\u2c7f\ua722-\ua7ff\uff21-\uff3a\uff41-\uff5a"
)

_CJK = re.compile(f"[{CJK_CLASS}]")
_RUNS = re.compile(f"([{CJK_CLASS}])|([{_LATIN_CLASS}])|([^\\W\\d_])")
_NEXT = {  # from a run of one script: where the next letter of another script is
    "cjk": re.compile(f"(?![{CJK_CLASS}])[^\\W\\d_]"),
    "latin": re.compile(f"[{CJK_CLASS}]|(?![{_LATIN_CLASS}])[^\\W\\d_]"),
    "other": re.compile(f"[{CJK_CLASS}{_LATIN_CLASS}]"),
}
_SCRIPTS: tuple[Script, Script, Script] = ("cjk", "latin", "other")


def is_cjk(ch: str) -> bool:
    """Whether the character `ch` is a CJK letter (not punctuation, not a full-width digit)."""
    return _CJK.match(ch) is not None


def has_cjk(text: str) -> bool:
    """Whether `text` holds a CJK letter; costs next to nothing for ASCII text."""
    return not text.isascii() and _CJK.search(text) is not None


def script_runs(text: str) -> Iterator[tuple[Script, int, int]]:
    """Partitions `text` into runs (script, start, end), half-open; neighbours differ in script.

    Digits, spaces, punctuation and symbols belong to the run before them; at the start, to the first
    run. Text without letters is one "latin" run; empty text has none.
    """
    start, length = 0, len(text)
    if start == length:
        return
    first = _RUNS.search(text)
    script: Script = "latin" if first is None else _SCRIPTS[(first.lastindex or 1) - 1]
    position = 0 if first is None else first.start()
    while (turn := _NEXT[script].search(text, position)) is not None:
        position = turn.start()
        yield script, start, position
        start = position
        found = _RUNS.match(text, position)
        assert found is not None
        assert found.lastindex is not None
        script = _SCRIPTS[found.lastindex - 1]
    yield script, start, length
