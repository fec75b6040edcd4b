"""Conversations with questions -> what the ranker sees of each question. Cubes in this process, the real embedder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memos_ray.bench.locomo_data import Conversation, Question
from memos_ray.retrieval.arms import CubeIndexes
from memos_ray.retrieval.arrays import Mask
from memos_ray.retrieval.pool import Pool
from memos_ray.retrieval.rank import first_signals, second_signals
from memos_ray.retrieval.recipe import Recipe
from memos_ray.retrieval.signals import Signal
from memos_ray.testing.local import LocalCubes

Step = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """One question: its candidates, which of them are evidence, and how many pieces of evidence there are in all (some
    may not be candidates). `turns` names what each candidate comes from."""

    conversation: int
    question: Question
    indexes: CubeIndexes
    pool: Pool
    mask: Mask
    turns: tuple[str, ...]
    first: dict[str, Signal]

    @property
    def evidence(self) -> NDArray[np.bool_]:
        """(n,) by candidate."""
        gold = set(self.question.gold)
        return np.fromiter((turn in gold for turn in self.turns), np.bool_, len(self.turns))

    def second(self, scores: Signal) -> dict[str, Signal]:
        """The signals of the second ranking, after the first ranking's `scores`."""
        return second_signals(self.indexes, self.pool, self.mask, self.first, scores)

    def of_family(self, family: str) -> Asked:
        """The same question for one who has only one vector a memory ("dense"), or none ("words")."""
        if family == "late":
            return self
        pool = replace(self.pool, late=None, weights=None)
        if family == "words":
            pool = replace(pool, dense=None, vectors=None)
        return replace(self, pool=pool, first=first_signals(pool))


async def collect(
    cubes: LocalCubes, conversations: Sequence[Conversation], recipe: Recipe, step: Step
) -> list[Asked]:
    """Ingests each conversation into a cube of its own; asks every question of categories 1 to 4 with evidence."""
    asked = []
    for number, conversation in enumerate(conversations):
        cube_id = f"train:{number}"
        handle = await cubes.cube(cube_id)
        for n, session in enumerate(conversation.sessions):
            step(f"{conversation.id}: sessions", n + 1, len(conversation.sessions))
            await handle.add(
                [
                    {"role": "user", "content": t.text, "speaker": t.speaker, "turn": t.id}
                    for t in session.turns
                ],
                timestamp=session.when,
                conversation=conversation.id,
                session=session.name,
            )
        cube = await cubes.active(cube_id)
        questions = [q for q in conversation.questions if q.gold and q.category != 5]
        for n, question in enumerate(questions):
            step(f"{conversation.id}: questions", n + 1, len(questions))
            indexes, pool, mask, items = await cube.ranking(question.text, recipe)
            turns = tuple(item.source.turn or "" for item in items)
            asked.append(Asked(number, question, indexes, pool, mask, turns, first_signals(pool)))
    return asked
