"""Questions about documents, made by rule. The protocol:

- **lead**: the first sentence of a section, which was taken out of it, reworded: identifiers out, synonyms in, an
  opening before it. Gold: the passage with the beginning of the section's rest.
- **detail**: up to five words of a sentence inside a passage, none of them rare, half of the candidates dropped, others
  replaced by synonyms. Gold: the passage that holds the sentence.
- **two-hop**: the lead of a section whose rest names another section of the same document, and a request for what it
  refers to, without the name. Gold: the passages with the beginnings of both.

No question has four words in a row that stand in one of its gold passages: those that would are left out, as are
leads that several sections share or that stand in some document after all. The draw is seeded. Documents belong to a
train or a test half by a checksum of their name. Everything is in the corpus; nothing in this project was fitted to
either half.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from memos_ray.bench.documents_corpus import Document, Section
from memos_ray.bench.made.grammar import read
from memos_ray.ingest.documents import split_document
from memos_ray.retrieval.stopwords import ENGLISH_STOP

KINDS = ("lead", "detail", "two-hop")
USUAL = 8  # a question on a detail has no word that stands in fewer passages
RUN = 4  # words in a row that no question shares with its gold
_SHARES = {"lead": 0.55, "detail": 0.25, "two-hop": 0.2}

_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_IDENTIFIER = re.compile(
    r"\w*[._]\w+(?:\(\))?|\w+\(\)?[^)\s]*\)?|\b[a-z]+[A-Z]\w*|\b(?:[A-Z][a-z0-9]+){2,}\b"
)
_MARKUP = re.compile(r"[`*'\"{}<>\[\]]|:\w+:")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_NAMED = re.compile(r"\b([A-Za-z_]\w{2,})\(\)|[`'\"]{1,2}([A-Za-z_]\w{4,})[`'\"]{1,2}")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question; `gold` are passage ids, `test` whether it counts."""

    id: str
    kind: str
    text: str
    gold: tuple[str, ...]
    test: bool


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document as it is ingested. `heading` is its path of headings."""

    id: str
    document: str
    text: str
    heading: str
    start: int
    end: int


def passages(documents: Sequence[Document]) -> list[Passage]:
    """All passages that ingestion makes of the documents."""
    return [
        Passage(passage_id(d.name, start, end), d.name, d.text[start:end], heading, start, end)
        for d in documents
        for start, end, heading in split_document(d.text, markdown=True)
    ]


def passage_id(document: str, start: int, end: int) -> str:
    """How a passage is named in gold and results."""
    return f"{document}:{start}-{end}"


def questions(documents: Sequence[Document], *, wanted: int, seed: int = 0) -> list[Asked]:
    """At most `wanted` about documents of the test half, and as many of the other, of all kinds."""
    split = passages(documents)
    at: dict[str, list[Passage]] = {}
    for passage in split:
        at.setdefault(passage.document, []).append(passage)
    texts = {p.id: " ".join(_WORD.findall(p.text.lower())) for p in split}
    holding = Counter(word for text in texts.values() for word in set(text.split()))
    usual = frozenset(word for word, n in holding.items() if n >= USUAL)
    everything = " ".join(" ".join(d.text.lower().split()) for d in documents)
    leads = Counter(s.lead.lower() for d in documents for s in d.sections)
    leads.update(lead for lead in leads if lead in everything)
    made: dict[tuple[str, bool], list[Asked]] = {}
    for document in documents:
        rng = random.Random(f"document questions {seed} {document.name}")
        for number, (kind, text, gold, test) in enumerate(
            _made(rng, document, leads, usual, at[document.name])
        ):
            if not _copies(text, [texts[g] for g in gold]):
                asked = Asked(f"{document.name}/{number}", kind, text, gold, test)
                made.setdefault((kind, test), []).append(asked)
    rng = random.Random(f"document questions {seed}")
    drawn = []
    for test in (True, False):
        for kind in KINDS:
            pool = made.get((kind, test), [])
            drawn += rng.sample(pool, min(len(pool), round(wanted * _SHARES[kind])))
    return sorted(drawn, key=lambda q: q.id)


def _made(
    rng: random.Random,
    document: Document,
    leads: Mapping[str, int],
    usual: Collection[str],
    at: Sequence[Passage],
) -> Iterator[tuple[str, str, tuple[str, ...], bool]]:
    by_name: dict[str, list[Section]] = {}
    for section in document.sections:
        by_name.setdefault(section.name.rpartition(".")[2], []).append(section)
    for section in document.sections:
        start = _passage(at, section.start)
        if leads[section.lead.lower()] == 1 and (text := _lead(rng, section)):
            yield "lead", text, (start,), section.test
            if (other := _referred(section, by_name)) is not None:
                both = (start, _passage(at, other.start))
                if both[0] != both[1]:
                    yield "two-hop", f"{text} {rng.choice(_words()['hops'])}", both, section.test
        if found := _detail(rng, section, usual):
            offset, text = found
            yield "detail", text, (_passage(at, section.start + offset),), section.test


def _passage(at: Sequence[Passage], position: int) -> str:
    """The id of the passage that holds the character at `position`."""
    return next(p.id for p in at if p.start <= position < p.end)


def _lead(rng: random.Random, section: Section) -> str:
    words = _reworded(rng, _plain(section.lead), rate=0.6)
    if len([w for w in words if w.lower() not in ENGLISH_STOP]) < 3:
        return ""
    first, verbs = words[0].lower(), _words()["verbs"]
    base = first if first in verbs else first.removesuffix("s")
    opens_with_verb = base in verbs
    text = " ".join([base if opens_with_verb else first, *words[1:]])
    openings: list[str] = _words()["openings"]["lead" if opens_with_verb else "noun"]
    return rng.choice(openings).format(text)


def _detail(rng: random.Random, section: Section, usual: Collection[str]) -> tuple[int, str] | None:
    """(offset in the section's rest, question) of a sentence after the first, or None if none is fit."""
    prose = section.body.split(">>>")[0]
    sentences = [s for s in _SENTENCE.split(prose)[1:] if 10 <= len(_WORD.findall(s)) <= 40]
    if not sentences:
        return None
    sentence = rng.choice(sentences)
    content = [
        w for w in _WORD.findall(_plain(sentence)) if w.lower() in usual and w.lower() not in ENGLISH_STOP
    ]
    if len(content) < 6:
        return None
    kept = sorted(rng.sample(range(len(content)), min(5, len(content) // 2 + 1)))
    words = _reworded(rng, " ".join(content[i] for i in kept), rate=0.7)
    return section.body.index(sentence), rng.choice(_words()["openings"]["detail"]).format(
        " ".join(words).lower()
    )


def _referred(section: Section, by_name: Mapping[str, Sequence[Section]]) -> Section | None:
    """The other section that the rest of this one names, if the name means one only."""
    for match in _NAMED.finditer(section.body):
        found = by_name.get(match.group(1) or match.group(2), ())
        if len(found) == 1 and found[0] is not section:
            return found[0]
    return None


@cache
def _words() -> dict[str, Any]:
    found = read("rewording")
    return {**found, "verbs": frozenset(found["verbs"].split())}


def _plain(text: str) -> str:
    return " ".join(_WORD.findall(_MARKUP.sub(" ", _IDENTIFIER.sub(" ", text))))


def _reworded(rng: random.Random, text: str, *, rate: float) -> list[str]:
    """Each word that has a synonym replaced with probability `rate`."""
    found: list[str] = []
    for word in text.split():
        other = _words()["synonyms"].get(word.lower())
        found += other.split() if other is not None and rng.random() < rate else [word]
    return found


def _copies(text: str, golds: Sequence[str]) -> bool:
    words = [w.lower() for w in _WORD.findall(text)]
    runs = (" ".join(words[i : i + RUN]) for i in range(len(words) - RUN + 1))
    return any(f" {run} " in f" {gold} " for run in runs for gold in golds)
