"""Questions about somebody, as that person would put them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_ray.retrieval.first_person import in_first_person
from memos_ray.retrieval.query import NameIndex

NAMES = NameIndex(["Ada", "Ben Smith", "Melanie", "小明"])


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("What did Ada's friend tell BEN SMITH?", "What did my friend tell you?"),
        ("What does Ada like?", "What do I like?"),
        ("Where has Mel moved?", "Where have I moved?"),
        ("Adam met Ben", "Adam met I"),
        ("小明上周五去了哪里", "我上周五去了哪里"),
        ("a friend of nobody likes her kids", "a friend of nobody likes her kids"),
        # the pronouns that stand for the one named
        ("When did Ada meet her friends?", "When did I meet my friends?"),
        ("What does Mel often miss about her job?", "What do I often miss about my job?"),
        ("What does Ada do when she paints for herself?", "What do I do when I paint for myself?"),
        ("What did Ada's mother give her?", "What did my mother give me?"),
        ("What did Ada do when her mother called her?", "What did I do when my mother called me?"),
        # another one: nobody likes "her" and means herself
        ("Does Ada like her?", "do I like her?"),
        ("What happened after Ada left him?", "What happened after I left him?"),
        ("Where did Ada go with her?", "Where did I go with her?"),
        # who "her" is cannot be told where two are named
        (
            "What did Ada's mother tell her about Ben Smith's dog?",
            "What did my mother tell her about your dog?",
        ),
        # two as one
        ("What have Ada and Ben Smith both painted?", "What have we both painted?"),
        ("What do Ada's and Ben Smith's dogs eat?", "What do our dogs eat?"),
        ("How do Ada and Ben Smith see their journey?", "How do we see our journey?"),
        # the case, and the verb
        ("Why is it important to Ada?", "Why is it important to me?"),
        ("What is something that Ada misses?", "What is something that I miss?"),
        ("What is it that Ada always tries?", "What is it that I always try?"),
        ("What makes it clear that Ada is happy?", "What makes it clear that I am happy?"),
    ],
)
def test_a_question_is_put_as_the_one_it_is_about_would_put_it(asked, expected):
    assert in_first_person(asked, NAMES.find_called(asked)) == expected


PARTS = [
    "Ada",
    "Ben Smith",
    "小明",
    "'s",
    "is",
    "\u0131s",
    "\u0130s",
    "ha\u017f",
    "has",
    "we",
    "she",
    "her",
    "i",
    "who",
]
PARTS += [" and ", "\x01", "\x02", "\u200f", "?", " "]


@given(st.lists(st.sampled_from(PARTS)).map(" ".join))
def test_whatever_is_asked_becomes_a_question(asked):
    changed = in_first_person(asked, NAMES.find_called(asked))
    assert isinstance(changed, str)
    assert len(changed) <= 2 * len(asked) + 10


@pytest.mark.parametrize(
    ("names", "asked", "found"),
    [
        (["Howard", "Ada"], "How often does Ada go swimming?", ["Ada"]),
        (["Candace", "Ada"], "Can Ada swim?", ["Ada"]),
        (["Will", "May", "Ada"], "What will Ada do in May?", ["Ada"]),
        (["Will", "Ada"], "Will Ada come?", ["Ada"]),
        (["Will", "Ada"], "Did Ada see Will?", ["Ada", "Will"]),
        (["May"], "What does May like?", ["May"]),
        (["Ada"], "what does ada like?", ["Ada"]),
        (["Howard"], "What did How say?", []),
        (["Howard"], "What did Howie and Howar say?", ["Howard"]),
    ],
)
def test_words_that_are_no_names(names, asked, found):
    assert [name for name, _, _ in NameIndex(names).find_called(asked)] == found
