import pytest

from memos_ray.retrieval.question import is_listing, kind_of, months_of
from memos_ray.retrieval.traits import TRAITS, traits


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("When did Ada move?", "when"),
        ("How many cats are there?", "how many"),
        ("How long did it take?", "how long"),
        ("How was the trip?", "how"),
        ("Tell me about Ada", "other"),
        ("小明什么时候搬家的", "when"),
        ("他养了几只猫", "how many"),
        ("她住在哪里", "where"),
    ],
)
def test_the_kind_of_a_question(text, kind):
    assert kind_of(text) == kind


def test_lists():
    assert is_listing("What books has Ada read?")
    assert is_listing("Which hobbies do they share?")
    assert is_listing("她有哪些爱好")
    assert not is_listing("When did Ada move?")


def test_months_without_a_year():
    assert months_of("What happened in July and October?") == {7, 10}
    assert months_of("In May I may march") == {5}
    assert months_of("Who may march?") == frozenset()
    assert months_of("last summer") == {6, 7, 8}
    assert months_of("她7月去了哪里") == {7}


def test_traits():
    found = dict(
        zip(TRAITS, traits('I read "Emma" twice with Clara! Did you? [shares a photo]'), strict=True)
    )
    assert found["first_person"] == found["quote"] == found["number"] == found["name"] == found["note"] == 1
    assert found["asks"] == found["ends_asking"] == 1
    assert 0 < found["exclaims"] < 1
    assert traits("")[0] == 0
