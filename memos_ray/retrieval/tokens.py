"""Text -> index terms, by script: stems of words, and characters with their pairs where words have no spaces.

A text is normalised (NFKC, casefold) and cut at everything that is neither a letter nor a digit.
- Words of alphabetic scripts are stemmed (Snowball) in their script's language; for Latin script that is
  English if the text is ASCII, else guessed from function words. Then accents are folded (café = cafe).
- Runs of CJK, Thai, Lao, Burmese and Khmer give every character and every pair of neighbours. Pairs carry
  the precision; single characters find 猫 in 我的猫, which no pair of a question may contain.
- Numbers are kept as they are.

Everything here is a pure function of the text; `Vocabulary` gives terms their numbers within one index.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise

import Stemmer

from memos_ray.retrieval.stopwords import CHINESE_ASKING, CHINESE_STOP, ENGLISH_STOP, guess_language
from memos_ray.text.script import CJK_CLASS

FORM = "terms-1"
"""Of the terms that `tokenize` gives. Other rules get another name: what is stored is told apart by it."""
MAX_WORD = 64  # characters of a word that count: base64 and the like must not become huge terms

_UNSPACED = CJK_CLASS + "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_MARKS = "\u0300-\u036f\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0966-\u0dff"
_UNSPACED_RUNS = re.compile(f"[{_UNSPACED}]+")
_SYMBOLS = re.compile(f"[^\\w\\x00-\\x7f{_MARKS}]+")
_SCRIPT_LANGUAGES = (  # by the word's first letter
    ("\u0370", "\u03ff", "greek"),
    ("\u0400", "\u04ff", "russian"),
    ("\u0530", "\u058f", "armenian"),
    ("\u0600", "\u06ff", "arabic"),
    ("\u0900", "\u097f", "hindi"),
    ("\u0b80", "\u0bff", "tamil"),
)
_ASCII = bytes(
    c + 32 if 65 <= c <= 90 else c if 97 <= c <= 122 or 48 <= c <= 57 or c == 39 else 32 for c in range(256)
)
_PUNCTUATION = {c: " " for c in range(128) if _ASCII[c] == 32}
_stemmer_lock = threading.Lock()  # Snowball stemmers are not re-entrant
_english = Stemmer.Stemmer("english", 0).stemWord


@lru_cache(maxsize=16)
def _stemmer(language: str) -> Stemmer.Stemmer:
    return Stemmer.Stemmer(language, 0)


@lru_cache(maxsize=65_536)
def _stem(word: str, language: str) -> str:
    """The term for a normalised `word`; "" if nothing of it is left. `language` is for Latin script."""
    word = word.strip("'")[:MAX_WORD].rstrip("'")
    if not word or word[0].isdigit():
        return word
    if not word.isascii():
        language = next((name for a, z, name in _SCRIPT_LANGUAGES if a <= word[0] <= z), language)
    with _stemmer_lock:
        stem: str = _stemmer(language).stemWord(word)
    if not stem.isascii():
        decomposed = unicodedata.normalize("NFD", stem)
        stem = unicodedata.normalize("NFC", "".join(c for c in decomposed if not "\u0300" <= c <= "\u036f"))
    return stem


def normalise(text: str) -> str:
    """NFKC, casefolded, typographic apostrophes made plain."""
    return unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")


def _grams(run: str) -> list[str]:
    return [*run, *map("".join, pairwise(run))]


def _plain(text: str) -> str:
    """`text` with symbols and typographic punctuation gone: mostly ASCII then, which has a fast path."""
    return text if text.isascii() else _SYMBOLS.sub(" ", normalise(text))


def _split(plain: str) -> tuple[list[str], list[str], str]:
    """(words as they are written, runs without spaces, the guessed language) of a `_plain` text."""
    if plain.isascii():
        return plain.encode().translate(_ASCII).decode().split(), [], "english"
    runs = _UNSPACED_RUNS.findall(plain)
    if runs:
        plain = _UNSPACED_RUNS.sub(" ", plain)
    words = plain.translate(_PUNCTUATION).split()
    return words, runs, guess_language(words)


def tokenize(text: str) -> list[str]:
    """The index terms of `text`, repeated as often as they occur (words first, then characters and pairs)."""
    words, runs, language = _split(_plain(text))
    terms = [stem for word in words if (stem := _stem(word, language))]
    for run in runs:
        terms.extend(_grams(run))
    return terms


def query_terms(text: str, languages: Iterable[str] = ("english",)) -> list[str]:
    """The distinct terms to look for, in order: every stem that a word has in any of `languages`.

    Stop words, and what questions ask with, are left out unless there is nothing else.
    """
    words, runs, guessed = _split(_plain(text))
    stemmed_in = dict.fromkeys(("english", guessed, *languages))
    content: dict[str, None] = {}
    stops: dict[str, None] = {}
    for word in words:
        into = stops if word.strip("'") in ENGLISH_STOP else content
        for language in stemmed_in:
            if stem := _stem(word, language):
                into[stem] = None
    for run in runs:
        for piece in CHINESE_ASKING.split(run):
            for gram in _grams(piece):
                (stops if CHINESE_STOP.issuperset(gram) else content)[gram] = None
        stops.update(dict.fromkeys(_grams(run)))
    return list(content or stops)


class _Numbers(dict[str, int]):
    """Term -> its number: the next free one for a new term."""

    def __missing__(self, term: str) -> int:
        number = self[term] = len(self)
        return number


class _AsciiWords(dict[bytes, int]):
    """ASCII word -> its term's number, filled as words appear: one look-up for a word seen before."""

    def __init__(self, numbers: _Numbers) -> None:
        super().__init__()
        self._numbers = numbers

    def __missing__(self, word: bytes) -> int:
        if len(word) < MAX_WORD and word.isalpha():  # `_stem` without what such words do not need
            with _stemmer_lock:
                stem = _english(word.decode())
        else:
            stem = _stem(word.decode(), "english")
        number = self[word] = self._numbers[stem] if stem else -1
        return number


class _Words(dict[str, int]):
    """The same for words of texts that are not all ASCII, in one language."""

    def __init__(self, numbers: _Numbers, language: str) -> None:
        super().__init__()
        self._numbers = numbers
        self._language = language

    def __missing__(self, word: str) -> int:
        stem = _stem(word, self._language)
        number = self[word] = self._numbers[stem] if stem else -1
        return number


class Vocabulary:
    """The terms of one index, numbered from 0 in order of appearance; and the languages seen in it."""

    def __init__(self) -> None:
        self._numbers = _Numbers()
        self._ascii_words = _AsciiWords(self._numbers)
        self._words = {"english": _Words(self._numbers, "english")}  # by language seen

    def __len__(self) -> int:
        return len(self._numbers)

    def get(self, term: str) -> int | None:
        """The number of `term`, or None if no text held it."""
        return self._numbers.get(term)

    @property
    def n_languages(self) -> int:
        """How many languages it has seen."""
        return len(self._words)

    def saved(self) -> tuple[list[str], list[str]]:
        """(terms by number, languages): what `Vocabulary.restored` takes. A copy."""
        return list(self._numbers), list(self._words)

    @classmethod
    def restored(cls, terms: Sequence[str], languages: Sequence[str]) -> Vocabulary:
        """The inverse of `saved`. Words are looked up in their language again when they come again."""
        this = cls()
        this._numbers.update(zip(terms, range(len(terms)), strict=True))
        this._words.update((name, _Words(this._numbers, name)) for name in languages if name != "english")
        return this

    def query_terms(self, text: str) -> list[str]:
        """`query_terms` in all languages that this index has seen."""
        return query_terms(text, self._words)

    def number(self, text: str) -> list[int]:
        """Numbers of `tokenize(text)`, with -1 (to be skipped) for words of which nothing is left."""
        plain = _plain(text)
        if plain.isascii():
            return list(map(self._ascii_words.__getitem__, plain.encode().translate(_ASCII).split()))
        words, runs, language = _split(plain)
        if language not in self._words:
            self._words[language] = _Words(self._numbers, language)
        numbers = list(map(self._words[language].__getitem__, words))
        for run in runs:
            numbers.extend(map(self._numbers.__getitem__, _grams(run)))
        return numbers
