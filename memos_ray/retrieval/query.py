"""What a query asks for: its terms, the names in it that the cube knows, and the text to embed.

Speakers' names are taken out of the text to embed: in a small embedder a name outweighs everything else, and
a question about Ada then finds whatever mentions Ada. The question is put as Ada would put it (`first_person`). The
names are not lost: they say who should have said it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from memos_ray.retrieval.arrays import Saved, strings
from memos_ray.retrieval.first_person import Found, in_first_person, replaced
from memos_ray.retrieval.question import AT_A_TIME, NO_QUESTION, Question
from memos_ray.retrieval.stopwords import ENGLISH_STOP
from memos_ray.retrieval.tokens import normalise
from memos_ray.text.script import CJK_CLASS

_WORDS = re.compile(f"[{CJK_CLASS}]|[^\\W_{CJK_CLASS}]+")
_CAPITALISED = re.compile(r"(?<!^)\b([A-Z][\w'-]+)")
# Words that begin questions, or stand in them, and begin or are names: Howard, Candace, Will, May.
_WORDS_TOO = ENGLISH_STOP | {"can", "could", "list", "mark", "might", "must", "name", "shall", "tell"}
_MONTHS = frozenset(["april", "august", "june", "may"])
_BEFORE_A_MONTH = re.compile(rf"(?:{AT_A_TIME}|\b\d+ )$", re.IGNORECASE)
_CALLED = 3  # letters of a name that are enough to call somebody by ("Mel")


@dataclass(frozen=True, slots=True)
class ParsedQuery:
    """A query, ready for the arms. `dense_text` is what to embed: `text` with "I" for the speakers. `terms` leave the
    speakers' names out, unless there is nothing else; `names` are the terms of other names in it."""

    text: str
    terms: tuple[str, ...]
    entities: tuple[str, ...]
    speakers: tuple[str, ...]
    dense_text: str
    names: frozenset[str] = frozenset()
    question: Question = NO_QUESTION


def _words(text: str) -> tuple[tuple[str, int, int], ...]:
    return tuple((normalise(m.group()), m.start(), m.end()) for m in _WORDS.finditer(text))


@lru_cache(
    maxsize=100
)  # one query is looked at for speakers, for shortened names, for entities and for its tokens
def words_of(text: str) -> tuple[tuple[str, int, int], ...]:
    """(normalised word, start, end) of the words of `text`; every CJK character is a word."""
    return _words(text)


class NameIndex:
    """Names of people and things, found in texts at word borders, whatever their case; the longest wins."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names: dict[tuple[str, ...], str] = {}
        self._given: set[str] = set()  # the same few names come again and again
        self._longest: dict[str, int] = {}  # first word -> words of the longest name that starts with it
        self.version = 0  # grows with every new name, so that what was found before can be forgotten
        for name in names:
            self.add(name)

    def __len__(self) -> int:
        return len(self._names)

    def saved(self) -> Saved:
        """What `restored` takes: copies."""
        return {"keys": [" ".join(key) for key in self._names], "names": list(self._names.values())}

    @classmethod
    def restored(cls, saved: Saved) -> NameIndex:
        """The index that was `saved`. `KeyError`, `TypeError` or `ValueError` for what is none."""
        this = cls()
        keys, names = strings(saved, "keys"), strings(saved, "names")
        this._names = dict(zip((tuple(key.split(" ")) for key in keys), names, strict=True))
        this._given = set(names)
        for key in this._names:
            this._longest[key[0]] = max(this._longest.get(key[0], 0), len(key))
        this.version = len(this._names)
        return this

    def add(self, name: str) -> None:
        """Makes `name` known. Names without a letter or digit are ignored."""
        if name in self._given:
            return
        self._given.add(name)
        key = tuple(word for word, _, _ in _words(name))
        if key and key not in self._names:
            self._names[key] = name
            self._longest[key[0]] = max(self._longest.get(key[0], 0), len(key))
            self.version += 1

    def find(self, text: str) -> Iterator[tuple[str, int, int]]:
        """(name as it was added, start, end) of the names in `text`, left to right, not overlapping."""
        words = words_of(text)
        i = 0
        while i < len(words):
            for length in range(min(self._longest.get(words[i][0], 0), len(words) - i), 0, -1):
                name = self._names.get(tuple(word for word, _, _ in words[i : i + length]))
                if name is not None:
                    yield name, words[i][1], words[i + length - 1][2]
                    i += length
                    break
            else:
                i += 1

    def find_called(self, text: str) -> Iterator[tuple[str, int, int]]:
        """Like `find`, and names shortened to their first three or more letters, capitalised ("Mel" for Melanie), where
        only one name begins so. A name that is a word as well ("Will") counts where it is written like a name only."""
        end = 0
        found = [f for f in self.find(text) if not _is_word(text, f[1], f[2])]
        taken = {start for _, start, _ in found}
        for word, start, stop in words_of(text):
            if start in taken or len(word) < _CALLED or not text[start].isupper() or not word.isascii():
                continue
            if word in _WORDS_TOO or _is_word(text, start, stop):
                continue
            begins = [name for key, name in self._names.items() if key[0].startswith(word)]
            if len(begins) == 1:
                found.append((begins[0], start, stop))
        for name, start, stop in sorted(found, key=lambda f: f[1]):
            if start >= end:
                yield name, start, stop
                end = stop


def _is_word(text: str, start: int, stop: int) -> bool:
    """Whether what stands there is a common word, or a month, rather than somebody's name."""
    word = normalise(text[start:stop])
    if word in _MONTHS:
        return not text[start].isupper() or _BEFORE_A_MONTH.search(text[:start]) is not None
    if word in _WORDS_TOO:
        return not text[start].isupper() or not any(c.isalnum() for c in text[:start])
    return False


def without_names(text: str, found: Sequence[Found]) -> str:
    """`text` without the names at `found` and their possessive 's; unchanged if that is all there is."""
    rest = " ".join(replaced(text, found, {name: ("", "") for name, _, _ in found}).split())
    return rest if any(c.isalnum() for c in rest) else text


Terms = Callable[[str], Sequence[str]]
"""A text -> what a text index should look for (`TextIndex.query_terms`)."""
Times = Callable[[str, int], Question]
"""(text, ordinal of the day on which it is asked) -> the kind of question and its times."""


class QueryParser:
    """Parses queries with the names that one cube knows. The last 1,000 queries are remembered."""

    def __init__(self, entities: NameIndex, speakers: NameIndex, terms: Terms, times: Times) -> None:
        self._entities = entities
        self._speakers = speakers
        self._terms = terms
        self._times = times
        self._cached = lru_cache(maxsize=1_000)(self._parse)

    def parse(self, text: str, day: int, languages: int) -> ParsedQuery:
        """`day` is the ordinal of the day on which it is asked, `languages` how many the index has seen: with another
        of either, what was parsed before is parsed again."""
        return self._cached(text, day, languages, self._entities.version, self._speakers.version)

    def _parse(self, text: str, day: int, _languages: int, _entities: int, _speakers: int) -> ParsedQuery:
        spoken = [*self._speakers.find_called(text)]
        speakers = tuple(dict.fromkeys(name for name, _, _ in spoken))
        entities = tuple(dict.fromkeys(name for name, _, _ in self._entities.find(text)))
        rest = without_names(text, spoken)
        capitalised = " ".join(m[1] for m in _CAPITALISED.finditer(rest))
        return ParsedQuery(
            text,
            tuple(self._terms(rest)),
            entities,
            speakers,
            in_first_person(text, spoken) if rest != text else text,
            frozenset(self._terms(capitalised)) if capitalised else frozenset(),
            self._times(text, day),
        )
