"""Names in text by rules: people, places, organisations, titles, handles. Better to miss one than to invent.

English goes by capitals, Chinese by surnames in context, suffixes of places and organisations and a short
list of well-known places. Knows no dictionary of people and no models.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from memos_ray.ingest import entities_zh
from memos_ray.ingest.entity_words import COMMON, NEVER, VERBS_OF_PEOPLE
from memos_ray.text.script import has_cjk

MAX_ENTITIES = 24  # of one text
MAX_NAME = 80  # characters
_LOOKED_AT = 20_000  # characters; what is named later in one memory is not its subject

_WORD = r"[A-ZÀ-ÖØ-Þ][\w&]*(?:[-.'’][A-Za-zÀ-ÿ][\w&]*)*"
_SMALL = "of|de|da|del|van|von|der|la|le|the|bin|al"
_RUN = re.compile(
    rf"(?<![\w@#/.'’-])(?P<run>{_WORD}(?: (?:(?:{_SMALL}) ){{0,2}}{_WORD}){{0,5}}"
    r"(?: \d{1,4}(?![\w%]|[.,:]\d))?)(?: (?P<next>[a-z']+))?"
)
_SMALL_WORDS = frozenset(_SMALL.split("|"))
_MARKED = re.compile(
    r"(?P<email>(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4})"
    r"|(?P<url>\bhttps?://(?:www\.)?(?P<host>[\w.-]{3,100}))"
    r"|(?<![\w@])(?P<handle>@\w{2,40})"
    r"|[\"“](?P<title>[A-Z0-9À-Þ][^\"“”\n]{1,60})[\"”]"
    r"|《(?P<book>[^《》\n]{1,40})》"
)
_OPENING = re.compile(r"(?:^|[.!?…:;\n\"“”(\[*—–。！？：；「『（\U0001f300-\U0001faff\ufe0f-])\s*\Z")
_SAID = re.compile(r"\b(?:I|I'm|you|we|it's|is|are|was)\b")


def find_entities(text: str, known: Iterable[str] = ()) -> tuple[str, ...]:
    """Names in `text`, in the order of their first appearance, without repeats; 24 at most.

    `known` are names that count wherever they stand as words, such as the speakers of the conversation.
    Canonical form: NFC, trimmed, case kept, possessive 's removed.
    """
    looked_at = text[:_LOOKED_AT]
    found = [*_known(looked_at, known), *_marked(looked_at), *_capitalised(looked_at)]
    if has_cjk(looked_at):
        found += entities_zh.find(looked_at)
    found.sort(key=lambda pair: pair[0])
    return unique(name for _, name in found)


def unique(names: Iterable[str]) -> tuple[str, ...]:
    """Canonical forms of `names` in order, the first spelling of each kept, bounded in number and length."""
    kept: dict[str, str] = {}
    for name in names:
        canonical = " ".join(unicodedata.normalize("NFC", name).split())
        if 0 < len(canonical) <= MAX_NAME:
            kept.setdefault(canonical.casefold(), canonical)
        if len(kept) == MAX_ENTITIES:
            break
    return tuple(kept.values())


def _known(text: str, known: Iterable[str]) -> Iterator[tuple[int, str]]:
    for name in known:
        at = text.find(name) if name else -1
        if at >= 0 and (has_cjk(name) or not _inside_word(text, at, at + len(name))):
            yield at, name


def _inside_word(text: str, start: int, end: int) -> bool:
    return (start > 0 and text[start - 1].isalnum()) or (end < len(text) and text[end].isalnum())


def _marked(text: str) -> Iterator[tuple[int, str]]:
    if "@" in text or "://" in text or '"' in text or "“" in text or "《" in text:
        for match in _MARKED.finditer(text):
            kind = match.lastgroup or ""
            if kind == "title":
                title = match["title"].rstrip(" .,!?")
                if len(title.split()) > 8 or match["title"][-1] in "?!" or _SAID.search(title):
                    continue  # something said, not the name of something
                yield match.start(), title
            else:
                yield match.start(), match["host"].rstrip(".-") if kind == "url" else match[kind]


def _capitalised(text: str) -> Iterator[tuple[int, str]]:
    if text.isupper():
        return
    for match in _RUN.finditer(text):
        start, words = match.start(), match["run"].split()
        alone = len(words) == 1
        if start == 0 or _OPENING.search(text, max(0, start - 3), start):
            if words[0].lower().replace("’", "'") in COMMON:
                words.pop(0)  # capitalised for where it stands, not for what it is
            elif alone and not words[0].endswith(("'s", "’s")) and match["next"] not in VERBS_OF_PEOPLE:
                continue
        for name in _names(words):
            if name.lower() not in COMMON:
                yield start, name


def _names(words: list[str]) -> Iterator[str]:
    """Names among capitalised words: cut at words that are never part of one, and after a possessive."""
    name: list[str] = []
    for word in words:
        bare = word.removesuffix("'s").removesuffix("’s")
        if bare.replace("’", "'") not in NEVER:
            name.append(bare)
        if bare != word or bare.replace("’", "'") in NEVER:
            yield from _joined(name)
            name = []
    yield from _joined(name)


def _joined(name: list[str]) -> Iterator[str]:
    while name and (name[0] in _SMALL_WORDS or name[0].isdigit()):
        name = name[1:]
    while name and name[-1] in _SMALL_WORDS:
        name = name[:-1]
    if name and (len(name) > 1 or len(name[0]) > 1):
        yield " ".join(name)
