from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_ray.errors import Invalid
from memos_ray.retrieval.budget import approximate_tokens, pack
from memos_ray.retrieval.render import render
from memos_ray.types import Kind, MemoryItem, Source

WHEN = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30))), st.integers(1, 60), st.integers(1, 10))
def test_packs_greedily_without_repeats_and_never_over(costs, budget, most):
    taken = pack(costs, budget, most=most)
    assert sum(costs[i][1] for i in taken) <= budget
    assert taken == sorted(taken)
    assert len(taken) <= most
    contents = [costs[i][0] for i in taken]
    assert len(set(contents)) == len(contents)
    left, seen = budget, set()
    for i, (content, tokens) in enumerate(costs):
        if i in taken:
            left -= tokens
            seen.add(content)
        elif left > 0 and len(seen) < most:
            assert content in seen or tokens > left


def test_skips_what_does_not_fit():
    assert pack([("a", 5), ("b", 50), ("a", 5), ("c", 4)], 10, most=9) == [0, 3]


def test_reads_no_further_than_needed():
    def costs():
        yield "a", 10
        raise AssertionError("the budget was used up")

    assert pack(costs(), 10, most=9) == [0]


@pytest.mark.parametrize("budget", [0, -3])
def test_a_budget_below_one_is_refused(budget):
    with pytest.raises(Invalid, match="budget_tokens"):
        pack([], budget, most=1)


def test_tokens_are_about_right():
    assert approximate_tokens("") == 0
    assert approximate_tokens("I have a dog.") == 5
    assert approximate_tokens("我的猫") == 3
    assert approximate_tokens("internationalization") == 5
    assert approximate_tokens("2023") == 2


def item(**fields) -> MemoryItem:
    base = {"id": "1", "text": "hi", "kind": Kind.MESSAGE, "valid_from": WHEN, "valid_to": None}
    return MemoryItem(**{**base, "recorded_at": WHEN, "created_at": WHEN, **fields})


def test_render():
    assert render(item(sources=(Source(speaker="Ada", role="user"),))) == "2023-05-08 Ada: hi"
    assert render(item(sources=(Source(role="user"),))) == "2023-05-08 user: hi"
    assert render(item(kind=Kind.FACT, valid_to=WHEN)) == "2023-05-08 to 2023-05-08 hi"
    assert render(item(kind=Kind.DOCUMENT, sources=(Source(heading="Leave"),))) == "Leave: hi"
    assert render(item(kind=Kind.DOCUMENT)) == "hi"
