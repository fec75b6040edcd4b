"""Questions about a story, with the turns that hold the answer. Worded apart from the turns, by the topics' `ask`."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from memos_ray.bench.made.calendar import long
from memos_ray.bench.made.grammar import expand, one, read
from memos_ray.bench.made.story import Story, Told, topics
from memos_ray.bench.made.turns import Spoken

MULTI_HOP, TEMPORAL, OPEN_DOMAIN, SINGLE_HOP = 1, 2, 3, 4
NEAR = 0.9  # share of the questions that use words of the turns
PLAN = (
    "What came of {S}'s plan with {v}?",
    "Did {S} go through with {v}?",
    "How did it end with {S} and {v}?",
)


def ask(rng: random.Random, story: Story, spoken: Spoken, wanted: int) -> list[dict[str, Any]]:
    """At most `wanted` questions in LoCoMo's shape: question, answer, evidence, category."""
    found = [q for who in range(len(story.people)) for q in _of_person(rng, story, spoken, who)]
    unique = list({q["question"]: q for q in found}.values())
    rng.shuffle(unique)
    return unique[:wanted]


def _of_person(rng: random.Random, story: Story, spoken: Spoken, who: int) -> Iterator[dict[str, Any]]:
    talk = read("talk")
    person = story.people[who]
    mine = [t for t in story.told if t.who == who]
    slots = {"S": person.name, **person.slots}

    def question(
        category: int, templates: Sequence[str], things: Sequence[Told], answer: str, **more: str
    ) -> dict[str, Any]:
        return {
            "question": one(rng, templates, slots | more),
            "answer": answer,
            "evidence": [spoken.turn_of[t.number] for t in sorted(things, key=lambda t: t.session)],
            "category": category,
        }

    for name in story.topics[who]:
        topic = _worded(rng, name)
        kinds: dict[str, list[Told]] = {}
        for thing in mine:
            if thing.topic == name:
                kinds.setdefault(thing.kind, []).append(thing)
        items = kinds["item"]
        listed = talk["ask_kinds"] if rng.random() < 0.65 else topic["items"]["ask"]
        yield question(MULTI_HOP, listed, items, ", ".join(t.slots["x"] for t in items), kind=topic["kind"])
        for fact in kinds["fact"]:
            yield question(SINGLE_HOP, topic["facts"][fact.part]["ask"], [fact], fact.slots["v"])
        for event in kinds["event"]:
            yield _about_event(rng, question, topic, event)
        if rng.random() < 0.25:
            a, b = rng.sample(kinds["event"], 2)
            does = [expand(rng, topic["events"][e.part]["ask"][e.way], slots) for e in (a, b)]
            assert a.past is not None
            assert b.past is not None
            answer = f"{a.past.answer}; {b.past.answer}"
            yield question(TEMPORAL, talk["first"], [a, b], answer, ask=does[0], ask2=does[1])
        if "plan" in kinds:
            things = [*kinds["plan"], *kinds["outcome"]]
            asked = PLAN if rng.random() < NEAR else topic["plan"]["ask"]
            yield question(MULTI_HOP, asked, things, kinds["outcome"][0].about, v=things[0].slots["v"])
        if rng.random() < 0.5:
            likes = kinds["like"]
            yield question(OPEN_DOMAIN, topic["likes"]["ask"], likes, "; ".join(t.say for t in likes))
        for item in items:
            if item.number in spoken.photo_of and rng.random() < 0.6:
                date = long(story.sessions[item.session].date())
                partner = story.people[(who + 1) % len(story.people)].name
                shown = spoken.photo_of[item.number]
                yield question(
                    SINGLE_HOP, talk["shown"], [item], shown, date=date, T=partner, kind=topic["kind"]
                )
    for about, templates in (
        ("bad", "mishaps"),
        ("good", "triumphs"),
        ("dropped", "dropped"),
        ("done", "done"),
        ("people", "people"),
    ):
        things = [t for t in mine if t.about == about]
        if 2 <= len(things) <= 6 and rng.random() < 0.5:
            yield question(MULTI_HOP, talk[templates], things, about)


def _worded(rng: random.Random, name: str) -> dict[str, Any]:
    """The topic, each of its `ask` replaced by the near one with probability `NEAR`."""
    topic, near = topics()[name], read("near")[name]

    def choose(far: dict[str, Any], close: Sequence[str]) -> dict[str, Any]:
        return {**far, "ask": close} if close and rng.random() < NEAR else far

    return {
        **topic,
        "kind": near["kind"],
        "items": choose(topic["items"], near["items"]),
        "likes": choose(topic["likes"], near["likes"]),
        "events": [choose(*pair) for pair in zip(topic["events"], near["events"], strict=True)],
        "facts": [choose(*pair) for pair in zip(topic["facts"], near["facts"], strict=True)],
    }


def _about_event(rng: random.Random, question: Any, topic: dict[str, Any], event: Told) -> dict[str, Any]:
    """When it was, what was on that day, or how it went."""
    talk, time = read("talk"), event.past
    assert time is not None
    asks = topic["events"][event.part]["ask"]
    does = asks[event.way]  # a turn that says it twice uses the other wording
    chance = rng.random()
    if chance < 0.5:
        made = question(TEMPORAL, talk["when"], [event], time.answer, ask=does)
    elif chance < 0.65:
        made = question(TEMPORAL, talk["dated"], [event], does, on=time.on)
    else:
        how = talk["how" if event.about == "bad" else "how_good"]
        made = question(SINGLE_HOP, how, [event], time.answer, ask=does)
    found: dict[str, Any] = made
    return found
