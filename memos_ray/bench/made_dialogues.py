"""Conversations made by rule from a seed, in the shape of a LoCoMo file, to train and try rankers on.

Each has two or three speakers, about twenty dated sessions and four to five hundred turns: greetings, small
talk, questions asked and not answered, echoes of what was said, photos with captions, events with relative dates,
lists told over several sessions, plans that are later carried out or given up, opinions. Speakers share some
topics, so that a question's words fit both.

Questions name their evidence turns and have LoCoMo's categories 1 to 4. Most share a word or two with the turns,
the rest none (`made/near.toml`, and `ask` in `made/topics_*.toml`): a search by words alone finds half of the
evidence. What it cannot show: a topic's wordings are finite, so two seeds share templates, though not people,
dates, values or their combination. It is for training, and no evidence of quality on real conversations.
"""

from __future__ import annotations

import random
from typing import Any

from memos_ray.bench.made.questions import ask
from memos_ray.bench.made.story import make_story
from memos_ray.bench.made.turns import speak

QUESTIONS = 100


def make_dialogues(
    seed: int = 0, conversations: int = 10, *, questions: int = QUESTIONS
) -> list[dict[str, Any]]:
    """`conversations` samples as `json.loads` of a LoCoMo file gives them; the same for the same seed.

    At most `questions` questions each. `locomo_data.read_locomo` reads the JSON of it.
    """
    return [_sample(seed, number, questions) for number in range(conversations)]


def _sample(seed: int, number: int, questions: int) -> dict[str, Any]:
    rng = random.Random(f"made dialogues {seed} {number}")  # a str: the same in every process
    story = make_story(rng)
    spoken = speak(rng, story)
    return {
        "sample_id": f"made-{seed}-{number}",
        "conversation": spoken.conversation,
        "qa": ask(rng, story, spoken, questions),
    }
