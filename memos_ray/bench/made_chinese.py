"""A Chinese diary about three dozen acquaintances, made by rule from a seed, with questions in other words.

Eight hundred notes: facts, lists over several notes, who shares a flat with whom (two-hop), and distractors: notes
that name the same person and the question's words, or the same thing and another person. A question names people by
their given name, and others have names with the same characters. No
question has six characters in a row that stand in a note that answers it. Most questions share a word with one of the
three ways to put the note that answers them, the others none.

What it can show: that search in Chinese works beyond shared pairs of characters. What it cannot: quality on real
Chinese text, for every note comes from a template of `made/chinese.toml`. It is original text of this project.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from memos_ray.bench.baselines import bigrams
from memos_ray.bench.documents import BM25, TestSet
from memos_ray.bench.documents_questions import Asked
from memos_ray.bench.made.grammar import expand, one, read
from memos_ray.types import MemoryItem

if TYPE_CHECKING:
    from memos_ray.sync import MemOS

PEOPLE = 36
SESSION = 25  # notes of a day
FILLER = 0.12  # notes about nobody, per note about somebody
CLOSE = 0.75  # share of the questions that share a word with one of the ways to put the note
HOPPED = ("home", "job")


@dataclass(frozen=True, slots=True)
class Note:
    """One entry of the diary; `id` is "<day>:<place>"."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Diary:
    """All notes in order, and the questions about them."""

    notes: tuple[Note, ...]
    questions: tuple[Asked, ...]


@dataclass(frozen=True, slots=True)
class _Person:
    full: str
    given: str


def make_diary(seed: int = 0, *, questions: int = 300) -> Diary:
    """A diary and at most `questions` questions; the same for the same seed."""
    rng = random.Random(f"made chinese {seed}")
    world = read("chinese")
    people = _people(rng, world)
    texts: list[str] = []
    asked: list[tuple[str, str, list[int]]] = []  # kind, question, numbers of notes
    known: dict[tuple[str, str], int] = {}  # (category, person) -> the number of the note that tells it
    for name, category in world.items():
        if isinstance(category, dict):
            _category(rng, name, category, people, texts, asked, known, world)
    _flats(rng, world, people, texts, asked, known)
    texts += [one(rng, world["filler"], {}) for _ in range(round(FILLER * len(texts)))]
    order = list(range(len(texts)))
    rng.shuffle(order)
    ids = {number: f"{place // SESSION + 1}:{place % SESSION + 1}" for place, number in enumerate(order)}
    asked = [(kind, text, gold) for kind, text, gold in asked if not _copies(text, [texts[i] for i in gold])]
    rng.shuffle(asked)
    return Diary(
        tuple(Note(ids[number], texts[number]) for number in order),
        tuple(
            Asked(f"zh/{n}", kind, text, tuple(ids[i] for i in gold), True)
            for n, (kind, text, gold) in enumerate(asked[:questions])
        ),
    )


def _copies(question: str, notes: list[str]) -> bool:
    """Whether six characters in a row stand in a note that answers the question."""
    runs = {question[i : i + 6] for i in range(len(question) - 5)}
    return any(run in note for run in runs for note in notes)


def _people(rng: random.Random, world: dict[str, Any]) -> list[_Person]:
    """People with different given names, so that a question that uses only it means one person."""
    given = rng.sample([a + b for a in _firsts(world) for b in _seconds(world)], PEOPLE)
    return [_Person(rng.choice(world["surnames"]) + name, name) for name in given]


def _firsts(world: dict[str, Any]) -> list[str]:
    return sorted({name[0] for name in world["given"]})


def _seconds(world: dict[str, Any]) -> list[str]:
    return sorted({name[1] for name in world["given"]})


def _category(
    rng: random.Random,
    name: str,
    category: dict[str, Any],
    people: list[_Person],
    texts: list[str],
    asked: list[tuple[str, str, list[int]]],
    known: dict[tuple[str, str], int],
    world: dict[str, Any],
) -> None:
    """Notes and questions of one category, for about three people in four."""

    def note(templates: list[str], person: _Person, value: str) -> int:
        texts.append(
            one(rng, templates, {"P": person.full, "v": value}) + expand(rng, rng.choice(world["tail"]), {})
        )
        return len(texts) - 1

    for person in people:
        if rng.random() < 0.5:
            note(category["near"], person, rng.choice(category["v"]))
        if rng.random() > 0.75:
            continue
        several = rng.choice((2, 3, 4)) if category.get("list") else 1
        told = [note(category["say"], person, value) for value in rng.sample(category["v"], several)]
        known[name, person.full] = told[0]
        asked.append(
            ("list" if several > 1 else "fact", one(rng, _asked(rng, category), {"Q": person.given}), told)
        )


def _asked(rng: random.Random, category: dict[str, Any]) -> list[str]:
    found: list[str] = category["close" if rng.random() < CLOSE else "ask"]
    return found


def _flats(
    rng: random.Random,
    world: dict[str, Any],
    people: list[_Person],
    texts: list[str],
    asked: list[tuple[str, str, list[int]]],
    known: dict[tuple[str, str], int],
) -> None:
    """Pairs who share a flat, and questions about the other of a pair."""
    mixed = rng.sample(people, len(people))
    for a, b in zip(mixed[::2], mixed[1::2], strict=True):
        texts.append(one(rng, world["link_say"], {"P": a.full, "R": b.full}))
        for who, other in ((a, b), (b, a)):
            for name in HOPPED:
                if (name, other.full) in known:
                    by_flat = expand(rng, rng.choice(world[name]["hop"]), {"Q": who.given})
                    text = one(rng, _asked(rng, world[name]), {"Q": by_flat})
                    asked.append(("two-hop", text, [len(texts) - 1, known[name, other.full]]))


def chinese_set(diary: Diary) -> TestSet:
    """The diary, ingested day by day."""

    def ingest(memory: MemOS, cube_id: str) -> None:
        for number, day in enumerate(_days(diary)):
            memory.add(
                [{"role": "user", "content": note.text, "turn": note.id} for note in day],
                timestamp=datetime(2024, 1, 3, 20, tzinfo=UTC) + timedelta(days=5 * number),
                conversation="日记",
                session=str(number + 1),
                cube_id=cube_id,
            )

    def ids_of(item: MemoryItem) -> list[str]:
        return [source.turn for source in item.sources if source.turn]

    units = tuple((note.id, note.text) for note in diary.notes)
    return TestSet(
        name="chinese",
        units=units,
        questions=diary.questions,
        ingest=ingest,
        ids_of=ids_of,
        terms=bigrams,
        query_terms=bigrams,
        bm25_name="BM25, pairs of characters",
        must_beat=(BM25,),
    )


def _days(diary: Diary) -> Iterator[tuple[Note, ...]]:
    for start in range(0, len(diary.notes), SESSION):
        yield diary.notes[start : start + SESSION]
