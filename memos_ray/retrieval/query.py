"""What a query asks for: its terms, the names in it that the cube knows, and the text to embed.

Speakers' names are taken out of the text to embed: in a small embedder a name outweighs everything else, and
a question about Ada then finds whatever mentions Ada (measured on LoCoMo with MiniLM, recall in the first 10
of plain turns: 28 % with names, 58 % without). The names are not lost: they reach the other arms as entities.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from memos_ray.retrieval.tokens import normalise
from memos_ray.text.script import CJK_CLASS

_WORDS = re.compile(f"[{CJK_CLASS}]|[^\\W_{CJK_CLASS}]+")
_POSSESSIVE = re.compile("['\u2019]s\\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ParsedQuery:
    """A query, ready for the arms. `dense_text` is what to embed: `text` without speakers' names."""

    text: str
    terms: tuple[str, ...]
    entities: tuple[str, ...]
    speakers: tuple[str, ...]
    dense_text: str


def words_of(text: str) -> list[tuple[str, int, int]]:
    """(normalised word, start, end) of the words of `text`; every CJK character is a word."""
    return [(normalise(m.group()), m.start(), m.end()) for m in _WORDS.finditer(text)]


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

    def add(self, name: str) -> None:
        """Makes `name` known. Names without a letter or digit are ignored."""
        if name in self._given:
            return
        self._given.add(name)
        key = tuple(word for word, _, _ in words_of(name))
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


def without_names(text: str, names: NameIndex) -> str:
    """`text` without the names that `names` finds in it and their possessive 's; unchanged if that is all."""
    parts, end = [], 0
    for _, start, stop in names.find(text):
        parts.append(text[end:start])
        possessive = _POSSESSIVE.match(text, stop)
        end = possessive.end() if possessive else stop
    rest = " ".join("".join([*parts, text[end:]]).split())
    return rest if any(c.isalnum() for c in rest) else text


class QueryParser:
    """Parses queries with the names that one cube knows. The last 1,000 queries are remembered."""

    def __init__(self, entities: NameIndex, speakers: NameIndex) -> None:
        self._entities = entities
        self._speakers = speakers
        self._cached = lru_cache(maxsize=1_000)(self._parse)

    def parse(self, text: str, terms: tuple[str, ...]) -> ParsedQuery:
        """`terms` are the text index's (`TextIndex.query_terms`), which knows the cube's languages."""
        return self._cached(text, terms, self._entities.version, self._speakers.version)

    def _parse(self, text: str, terms: tuple[str, ...], _entities: int, _speakers: int) -> ParsedQuery:
        speakers = tuple(dict.fromkeys(name for name, _, _ in self._speakers.find(text)))
        entities = tuple(dict.fromkeys(name for name, _, _ in self._entities.find(text)))
        return ParsedQuery(text, terms, entities, speakers, without_names(text, self._speakers))
