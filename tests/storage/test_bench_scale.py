"""`bench scale` on a small cube: it asks what it says, and compares with a ranking of every memory."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from memos_ray.bench import scale
from memos_ray.bench.locomo_data import read_locomo
from memos_ray.bench.made_dialogues import make_dialogues
from memos_ray.bench.report import Deadline
from memos_ray.models.embedder import HashEmbedder
from memos_ray.models.minilm import MiniLM
from memos_ray.retrieval.recipe import recipe_named


@pytest.fixture
def conversation(tmp_path: Path):
    """The first sessions of a made one, with the questions that they answer."""
    path = tmp_path / "made.json"
    path.write_text(json.dumps(make_dialogues(3, 1, questions=60)))
    whole = read_locomo(path)[0]
    sessions = whole.sessions[:4]
    turns = {t.id for s in sessions for t in s.turns}
    questions = tuple(q for q in whole.questions if q.gold and turns.issuperset(q.gold))
    assert len(questions) > 3
    return replace(whole, sessions=sessions, questions=questions)


async def measured(conversation, embedder, memories):
    return await scale.measure(
        [conversation],
        memories=memories,
        questions=3,
        recipe=recipe_named("default"),
        embedder=embedder,
        step=lambda *_: None,
        deadline=Deadline(60),
    )


async def test_a_cube_is_compared_with_ranking_every_memory(conversation):
    found = await measured(conversation, MiniLM(threads=0), 1)
    assert found.memories == conversation.n_turns
    assert len(found.recall) == len(found.exhaustive) == len(found.cpu) == 3
    assert max(found.recall) > 0
    assert min(found.same) > 0.5  # nearly all memories are candidates


async def test_a_cube_is_filled_up_with_conversations_made_by_rule(conversation):
    found = await measured(conversation, HashEmbedder(), conversation.n_turns + 1_000)
    assert found.memories >= conversation.n_turns + 1_000
    assert len(found.recall) == 3
