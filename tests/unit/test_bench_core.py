"""The parts of the core benchmark that need no actors: synthetic talk, load, brute force."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest

from memos_ray.bench import brute
from memos_ray.bench.load import press
from memos_ray.bench.synthetic import Synthetic
from memos_ray.retrieval.tokens import query_terms, tokenize
from memos_ray.types import ArmScore, AskedFor, Explanation, Kind, Link, LinkType, MemoryItem, SearchHit

NOW = datetime(2024, 1, 1, tzinfo=UTC)
ASKED = AskedFor((), (), (), "", "other", False, ())


def item(number, text, before=None):
    links = (Link(LinkType.FOLLOWS, f"m{before}"),) if before is not None else ()
    return MemoryItem(f"m{number}", text, Kind.MESSAGE, NOW, None, NOW, NOW, links=links)


def hits(arm, ranked):
    return [
        SearchHit("c", item(i, "t"), 1.0, Explanation({arm: ArmScore(score, rank)}, {}, ASKED))
        for rank, (i, score) in enumerate(ranked, 1)
    ]


def test_synthetic_talk_is_the_same_for_the_same_seed_and_has_the_asked_length():
    first = list(Synthetic(7).sessions(45))
    assert first == list(Synthetic(7).sessions(45))
    assert first != list(Synthetic(8).sessions(45))
    assert [len(s["messages"]) for s in first] == [20, 20, 5]
    assert len({s["session"] for s in first}) == 3


def test_the_commonest_content_word_stands_in_a_few_percent_of_the_texts():
    source = Synthetic(1)
    texts = [set(query_terms(source.text())) for _ in range(2_000)]
    commonest = Counter(term for terms in texts for term in terms).most_common(1)[0][1]
    assert 0.005 < commonest / len(texts) < 0.08


def test_a_query_shares_words_with_the_text_it_is_about():
    source = Synthetic(2)
    text = source.text()
    assert set(tokenize(source.query_about(text))) & set(tokenize(text))


async def test_callers_overlap_and_every_call_is_timed():
    inside = most = 0

    async def call(_n):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside -= 1

    load = await press(call, callers=4, seconds=0.02)
    assert most == 4
    assert load.callers == 4
    assert len(load.latencies) >= 4
    assert load.per_second == pytest.approx(len(load.latencies) / load.seconds)
    assert load.p(0.5) <= load.p(1.0)


async def test_an_error_of_one_caller_ends_the_load():
    async def call(n):
        if n == 3:
            raise ValueError("boom")
        await asyncio.sleep(0)

    with pytest.raises(ExceptionGroup):
        await press(call, callers=2, seconds=5.0)


def test_brute_force_bm25():
    items = [item(0, "red kite"), item(1, "nothing here", before=0), item(2, "red red kite kite")]
    scores = brute.text_scores(items, "kite")
    assert scores["m2"] > scores["m0"] > scores["m1"] == 0


def test_brute_force_cosines():
    items = [item(0, "a"), item(1, "b", before=0)]
    vectors = np.eye(2, dtype=np.float32)
    assert brute.dense_scores(items, vectors, vectors[0]) == pytest.approx({"m0": 1.0, "m1": 0.0})


def test_an_exact_ranking_has_no_difference_whatever_the_order_of_ties():
    expected = {"m0": 0.9, "m1": 0.5, "m2": 0.5, "m3": 0.1}
    assert (
        brute.difference("dense", expected, hits("dense", [(0, 0.9), (2, 0.5), (1, 0.5), (3, 0.1)])) is None
    )


@pytest.mark.parametrize(
    ("ranked", "says"),
    [
        ([(0, 0.9)], "nothing at rank 2"),
        ([(0, 0.9), (2, 0.1)], "0.1000 at rank 2"),
        ([(0, 0.9), (2, 0.5)], "m2 scores 0.5000"),
    ],
)
def test_every_kind_of_deviation_is_named(ranked, says):
    expected = {"m0": 0.9, "m1": 0.5, "m2": 0.1}
    assert says in brute.difference("dense", expected, hits("dense", ranked), k=2)


def test_memories_without_any_term_need_no_rank():
    assert brute.difference("text", {"m0": 1.0, "m1": 0.0}, hits("text", [(0, 1.0)])) is None
