"""A large cube: does a search that ranks a few hundred candidates find what ranking every memory would find?

The conversations of a LoCoMo file are put into one cube among conversations made by rule, each of which is there
many times (at other times, under other sessions): their vectors are made once. Everything runs in this process on the
real embedder; questions name their speakers, so that all conversations can lie in one cube.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import numpy as np

from memos_ray.bench import metrics
from memos_ray.bench.locomo_data import Conversation, Question, conversation_of
from memos_ray.bench.made_dialogues import make_dialogues
from memos_ray.bench.report import Deadline
from memos_ray.cube.cube import MemCube
from memos_ray.cube_handle import AsyncCube
from memos_ray.models.encoded import Encoded, TokenRows, Vectors
from memos_ray.protocols import Embedder
from memos_ray.retrieval.rank import rank
from memos_ray.retrieval.ranker import load_ranker
from memos_ray.retrieval.recipe import Recipe
from memos_ray.testing.local import LocalCubes

K = 10
_COPIES = 16  # of each made conversation
_CUBE = "scale"
Step = Callable[[str, int, int], None]


@dataclass(slots=True)
class Scale:
    """By question: `recall` of the search and `exhaustive` of ranking every memory, in the first 10, 0..1; `same`: the
    share of the latter's first 10 that the search has; `seconds` and `cpu` (s) of the search, embedding included."""

    memories: int = 0
    recall: list[float] = field(default_factory=list)
    exhaustive: list[float] = field(default_factory=list)
    same: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


class EachOnce:
    """An embedder that remembers every (text, context): copies of a conversation cost nothing."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[tuple[str, str], tuple[Vectors, TokenRows | None]] = {}
        self.fingerprint, self.dim, self.token_dim = embedder.fingerprint, embedder.dim, embedder.token_dim

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """As the embedder's own."""
        return await self._embedder.embed(texts)

    async def encode(
        self, texts: Sequence[str], *, contexts: Sequence[str] | None = None, tokens: bool = False
    ) -> Encoded:
        """As the embedder's own; queries, which have no contexts, are not remembered."""
        if contexts is None:
            return await self._embedder.encode(texts, tokens=tokens)
        keys = list(zip(texts, contexts, strict=True))
        new = [key for key in dict.fromkeys(keys) if key not in self._known]
        if new:
            made = await self._embedder.encode([t for t, _ in new], contexts=[c for _, c in new], tokens=True)
            self._known.update(zip(new, made.rows(), strict=True))
        return Encoded.join([self._known[key] for key in keys], self.dim, self.token_dim)


async def measure(
    conversations: Sequence[Conversation],
    *,
    memories: int,
    questions: int,
    recipe: Recipe,
    embedder: Embedder,
    step: Step,
    deadline: Deadline,
) -> Scale:
    """Fills a cube up to `memories`, then asks `questions` of categories 1 to 4, spread evenly over all there are."""
    result = Scale()
    with tempfile.TemporaryDirectory(prefix="memos-ray-bench-", ignore_cleanup_errors=True) as folder:
        async with LocalCubes(folder, embedder=EachOnce(embedder)) as cubes:
            handle, cube = await cubes.cube(_CUBE), await cubes.active(_CUBE)
            for n, conversation in enumerate(conversations):
                step("conversations", n, len(conversations))
                await _add(handle, conversation, conversation.id, 0)
            held = sum(c.n_turns for c in conversations)
            for name, days, made in _filler(memories - held):
                step("filling", held, memories)
                await _add(handle, made, name, days)
                held += made.n_turns
            step("waiting for all vectors", 0, 1)
            await handle.search("hello", top_k=1)
            result.memories = int((await handle.stats())["memories"])
            asked = [(c.id, q) for c in conversations for q in c.questions if q.gold and q.category != 5]
            chosen = [asked[i * len(asked) // questions] for i in range(min(questions, len(asked)))]
            for n, (conversation_id, question) in enumerate(chosen):
                if deadline.expired():
                    break
                step("questions", n, len(chosen))
                await _ask(result, cube, conversation_id, question, recipe)
    return result


def _filler(memories: int) -> Iterator[tuple[str, int, Conversation]]:
    """(name, days later, conversation) of conversations made by rule, each some times, until there are `memories`."""
    number = 0
    while memories > 0:
        (sample,) = make_dialogues(1_000 + number, 1, questions=1)
        made = conversation_of(sample)
        for copy in range(_COPIES):
            if memories > 0:
                yield f"{made.id}, {copy}", 30 * copy, made
                memories -= made.n_turns
        number += 1


async def _add(handle: AsyncCube, conversation: Conversation, name: str, days: int) -> None:
    for session in conversation.sessions:
        await handle.add(
            [
                {"role": "user", "content": t.text, "speaker": t.speaker, "turn": f"{name} {t.id}"}
                for t in session.turns
            ],
            timestamp=session.when + timedelta(days=days),
            conversation=name,
            session=session.name,
        )


async def _ask(
    result: Scale, cube: MemCube, conversation_id: str, question: Question, recipe: Recipe
) -> None:
    gold = {f"{conversation_id} {turn}" for turn in question.gold}
    cpu, begun = time.process_time(), time.perf_counter()
    hits = await cube.search(question.text, top_k=K, recipe=recipe.name)
    result.seconds.append(time.perf_counter() - begun)
    result.cpu.append(time.process_time() - cpu)
    indexes, pool, mask, items = await cube.ranking(
        question.text, replace(recipe, candidates=result.memories)
    )
    found = rank(indexes, pool, mask, load_ranker(recipe.weights or "dialogue"), second=recipe.second)
    best = [items[i].source.turn or "" for i in np.argsort(-found.scores, kind="stable")[:K].tolist()]
    ours = [hit.item.source.turn or "" for hit in hits]
    result.recall.append(metrics.recall([[turn] for turn in ours], gold, K))
    result.exhaustive.append(metrics.recall([[turn] for turn in best], gold, K))
    result.same.append(len(set(ours) & set(best)) / K)
