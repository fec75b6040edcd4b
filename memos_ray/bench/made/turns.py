"""A story -> the turns of its sessions: greetings, questions to each other, answers, echoes, small talk."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from memos_ray.bench.made.calendar import session_time
from memos_ray.bench.made.grammar import expand, one, read, sentence
from memos_ray.bench.made.story import Story, Told, topics, wording

# Shares of the exchanges that have the part in question, set by hand: with them, stemmed BM25 finds about as
# many of the evidence turns as it does in real conversations.
ASKED = 0.5  # somebody asks first
ECHOED = 0.45  # somebody answers
MIXED = 0.35  # the turn talks of something else too
ANCHORED = 0.35  # the turn names its topic
NAMED = 0.8  # an item of a list says what kind of thing it is
GLOSSED = 0.5  # the turn says it twice, in other words
SMALL_TALK = 0.1
NOTHING = 0.1  # a question that is asked and not answered


_MINE = {"they": "I", "their": "my", "them": "me"}


@dataclass(slots=True)
class Spoken:
    """What came of a story: a LoCoMo `conversation`, and the turn in which each told thing is."""

    conversation: dict[str, Any]
    turn_of: dict[int, str] = field(default_factory=dict)
    photo_of: dict[int, str] = field(default_factory=dict)  # told number -> caption


def speak(rng: random.Random, story: Story) -> Spoken:
    """Puts a story into words."""
    names = [p.name for p in story.people]
    spoken = Spoken({f"speaker_{'abc'[i]}": name for i, name in enumerate(names)})
    for n, when in enumerate(story.sessions):
        session = _Session(rng, story, n + 1, spoken)
        session.run([t for t in story.told if t.session == n])
        spoken.conversation[f"session_{n + 1}_date_time"] = session_time(when)
        spoken.conversation[f"session_{n + 1}"] = session.turns
    return spoken


class _Session:
    def __init__(self, rng: random.Random, story: Story, number: int, spoken: Spoken) -> None:
        self._rng, self._story, self._number, self._spoken = rng, story, number, spoken
        self._talk = read("talk")
        self.turns: list[dict[str, Any]] = []

    def run(self, told: list[Told]) -> None:
        """All turns of the session."""
        rng = self._rng
        rng.shuffle(told)
        opener = rng.randrange(len(self._story.people))
        other = self._other(opener)
        self._generic("hello", opener, other)
        self._generic("hello_back", other, opener)
        for thing in told:
            self._exchange(thing)
            if rng.random() < SMALL_TALK:
                who = rng.randrange(len(self._story.people))
                self._generic("small", who, self._other(who))
                self._generic("small_back", self._other(who), who)
            if rng.random() < NOTHING:
                self._unanswered()
        self._generic("bye", opener, other)
        self._generic("bye_back", other, opener)

    def _exchange(self, thing: Told) -> None:
        rng, who, other = self._rng, thing.who, self._other(thing.who)
        slots = wording(rng, thing.topic, self._story.people[who]) | {"T": self._name(who)}
        if thing.probe:
            self._add(other, sentence(one(rng, thing.probe, slots)))
        elif rng.random() < ASKED:
            self._add(other, sentence(one(rng, self._talk["probe"], slots)))
        photo = expand(rng, thing.photo, slots | thing.slots) if thing.photo else ""
        if photo:
            words = one(rng, self._talk["photo"], slots)
            self._spoken.photo_of[thing.number] = photo
            if rng.random() < 0.5:
                words = f"{words} {self._words(thing, slots)}"
        else:
            words = self._words(thing, slots)
        self._spoken.turn_of[thing.number] = self._add(who, words, photo)
        if photo:
            self._add(other, one(rng, self._talk["photo_back"], slots))
        elif rng.random() < ECHOED:
            key = thing.slots.get("x") or thing.slots.get("v") or slots["say"]
            self._add(
                other, sentence(one(rng, self._talk["echo"], slots | {"key": sentence(key).rstrip(".")}))
            )

    def _words(self, thing: Told, slots: dict[str, str]) -> str:
        """The turn's substance, in the middle of what people say around it."""
        rng = self._rng
        core = expand(rng, thing.say, slots | thing.slots)
        plain = core[:1].islower() or core[:2] in ("I ", "I'")
        if thing.kind != "chat" and rng.random() < (ANCHORED if thing.probe else 1.5 * ANCHORED):
            anchor = rng.choice(self._talk["anchor"])
            whole = core if anchor.endswith("{core}") else sentence(core)
            parts = [sentence(expand(rng, anchor, slots | {"core": whole}))]
        else:
            parts = [sentence(rng.choice(self._talk["lead"]) + core if plain else core)]
        if thing.kind == "item" and rng.random() < NAMED:
            parts.append(
                expand(rng, rng.choice(self._talk["kinds"]), {"kind": read("near")[thing.topic]["kind"]})
            )
        if thing.kind == "event" and rng.random() < GLOSSED:
            far = topics()[thing.topic]["events"][thing.part]["ask"]
            asks = rng.choice((far, read("near")[thing.topic]["events"][thing.part]))
            said = expand(rng, asks[1 - thing.way], slots | _MINE)  # questions use the other wording
            parts.append(
                one(rng, self._talk["gloss_bad" if thing.about == "bad" else "gloss_good"], {"ask": said})
            )
        for _ in range(rng.choice((0, 1, 1, 2))):
            trail = expand(rng, rng.choice(self._talk["trail"]), slots)
            parts += [trail] if trail and trail not in parts else []
        if rng.random() < MIXED:
            name = rng.choice(self._story.topics[thing.who])
            extra = one(rng, topics()[name]["chat"], wording(rng, name, self._story.people[thing.who]))
            parts.insert(rng.choice((0, len(parts))), sentence(extra))
        return " ".join(parts)

    def _unanswered(self) -> None:
        rng = self._rng
        who = rng.randrange(len(self._story.people))
        name = rng.choice(self._story.topics[who])
        slots = wording(rng, name, self._story.people[who]) | {"T": self._name(who)}
        self._add(self._other(who), sentence(one(rng, self._talk["probe"], slots)))
        self._add(who, sentence(one(rng, self._talk["nothing"], wording(rng, name, self._story.people[who]))))

    def _generic(self, kind: str, who: int, other: int) -> None:
        self._add(who, sentence(one(self._rng, self._talk[kind], {"T": self._name(other)})))

    def _other(self, who: int) -> int:
        return self._rng.choice([i for i in range(len(self._story.people)) if i != who])

    def _name(self, who: int) -> str:
        return self._story.people[who].name

    def _add(self, who: int, text: str, photo: str = "") -> str:
        turn = {"speaker": self._name(who), "dia_id": f"D{self._number}:{len(self.turns) + 1}", "text": text}
        self.turns.append(turn | ({"blip_caption": f"a photo of {photo}"} if photo else {}))
        return turn["dia_id"]
