"""Who tells what in which session: the facts behind a made conversation, before any of it is put into words.

A speaker has topics; a topic has a list told over several sessions, dated events, facts, a plan that is later
carried out or given up, and opinions. Some topics belong to two speakers: then a question's words fit both.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from memos_ray.bench.made.calendar import Past, past
from memos_ray.bench.made.grammar import expand, read

TOPICS_EACH = (6, 7)
SESSIONS = (18, 22)


@dataclass(frozen=True, slots=True)
class Person:
    """A speaker."""

    name: str
    slots: dict[str, str]

    @property
    def first(self) -> str:
        """What the others call them."""
        return self.name


@dataclass(frozen=True, slots=True)
class Told:
    """Something that `who` tells in a session. `number` is its place in the story; questions point to it."""

    number: int
    session: int
    who: int
    topic: str
    kind: str  # item, event, fact, plan, outcome, like, chat
    say: str
    slots: dict[str, str] = field(default_factory=dict)
    probe: tuple[str, ...] = ()
    photo: str = ""
    past: Past | None = None
    about: str = ""  # what a question over several topics asks for: bad, good, done, dropped, people
    part: int = 0  # which event or fact of the topic
    way: int = 0  # which of the ways to say it


@dataclass(frozen=True, slots=True)
class Story:
    """Everything of one conversation."""

    people: tuple[Person, ...]
    sessions: tuple[datetime, ...]
    told: tuple[Told, ...]
    topics: dict[int, tuple[str, ...]]


def topics() -> dict[str, dict[str, Any]]:
    """Every topic by name."""
    return {**read("topics_leisure"), **read("topics_life")}


def make_story(rng: random.Random) -> Story:
    """A conversation's facts."""
    people = _people(rng, 3 if rng.random() < 0.25 else 2)
    sessions = _sessions(rng, rng.randint(*SESSIONS))
    mine = _topics(rng, len(people))
    told: list[Told] = []
    used: set[str] = set()  # values of lists and facts are one speaker's alone
    for who, names in mine.items():
        for name in names:
            _tell(rng, told, used, sessions, who, name)
    return Story(people, sessions, tuple(told), mine)


def _people(rng: random.Random, n: int) -> tuple[Person, ...]:
    talk = read("talk")
    women, men = rng.sample(talk["female"], 3), rng.sample(talk["male"], 3)
    chosen = [(women if rng.random() < 0.5 else men).pop() for _ in range(n)]
    she = {"they": "she", "their": "her", "them": "her"}
    he = {"they": "he", "their": "his", "them": "him"}
    return tuple(Person(name, she if name in talk["female"] else he) for name in chosen)


def _sessions(rng: random.Random, n: int) -> tuple[datetime, ...]:
    when = datetime(rng.choice((2021, 2022, 2023, 2024)), rng.randrange(1, 13), rng.randrange(1, 28))
    found = []
    for _ in range(n):
        when += timedelta(days=rng.randrange(4, 19))
        found.append(when.replace(hour=rng.randrange(8, 23), minute=rng.randrange(60)))
    return tuple(found)


def _topics(rng: random.Random, n_people: int) -> dict[int, tuple[str, ...]]:
    names = list(topics())
    rng.shuffle(names)
    shared = [names.pop() for _ in range(rng.choice((1, 2, 2, 3)))]
    mine: dict[int, list[str]] = {who: [] for who in range(n_people)}
    for name in shared:
        for who in rng.sample(range(n_people), 2):
            mine[who].append(name)
    for who in mine:
        wanted = rng.randint(*TOPICS_EACH) - (1 if n_people > 2 else 0)
        while len(mine[who]) < wanted and names:
            mine[who].append(names.pop())
    return {who: tuple(found) for who, found in mine.items()}


def _tell(
    rng: random.Random, told: list[Told], used: set[str], sessions: Sequence[datetime], who: int, name: str
) -> None:
    """Adds all that `who` will say about a topic."""
    topic = topics()[name]
    last = len(sessions) - 1

    def add(session: int, kind: str, say: Sequence[str], **more: Any) -> None:
        way = rng.randrange(len(say))
        told.append(Told(len(told), session, who, name, kind, say[way], way=way, **more))

    def fresh(values: Sequence[str], n: int) -> list[str]:
        left = [v for v in values if v not in used]
        chosen = rng.sample(left or list(values), min(n, len(left or values)))
        used.update(chosen)
        return chosen

    items = fresh(topic["items"]["x"], rng.choice((2, 2, 3, 3, 4, 5)))
    for x, session in zip(items, sorted(rng.sample(range(last + 1), len(items))), strict=True):
        photo = rng.choice(topic["items"]["photo"]) if rng.random() < 0.3 else ""
        add(session, "item", topic["items"]["say"], slots={"x": x}, photo=photo)
    for part, event in enumerate(topic["events"]):
        session = rng.randint(0, last)
        time = past(rng, sessions[session].date())
        add(
            session,
            "event",
            event["say"],
            slots={"when": time.said},
            past=time,
            about=event["mood"],
            part=part,
        )
    for part, fact in enumerate(topic["facts"]):
        (v,) = fresh(fact["v"], 1)
        probe = fact.get("probe", ()) if rng.random() < 0.7 else ()
        add(
            rng.randint(0, last),
            "fact",
            fact["say"],
            slots={"v": v},
            probe=tuple(probe),
            about=fact.get("about", ""),
            part=part,
        )
    if rng.random() < 0.65:
        early = rng.randint(0, last - 3)
        plan = topic["plan"]
        (v,) = fresh(plan["v"], 1)
        add(early, "plan", plan["say"], slots={"v": v})
        outcome = rng.choice(("done", "dropped"))
        add(rng.randint(early + 2, last), "outcome", plan[outcome], slots={"v": v}, about=outcome)
    for say in rng.sample(topic["likes"]["say"], rng.choice((1, 2, 3))):
        add(rng.randint(0, last), "like", [expand(rng, say, {})])
    for say in rng.sample(topic["chat"], rng.choice((1, 2, 3))):
        add(rng.randint(0, last), "chat", [say])


def wording(rng: random.Random, name: str, person: Person) -> dict[str, str]:
    """Slots that every turn about a topic may use."""
    topic = topics()[name]
    asked = rng.choice(topic["ask"])
    mine = {"my_rel": rng.choice(read("talk")["relatives"])}
    return {
        **person.slots,
        **mine,
        "say": expand(rng, rng.choice(topic["say"]), mine),
        "ask": expand(rng, asked, {"their": "your"}),
        "mine": expand(rng, asked, {"their": "my"}),
    }
