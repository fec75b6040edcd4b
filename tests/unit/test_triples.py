from datetime import UTC, datetime
from typing import Any

import pytest

from memos_ray.errors import Invalid
from memos_ray.ingest.triples import parse_triples, readable
from memos_ray.types import Kind, Link

NOW = datetime(2023, 7, 19, tzinfo=UTC)


def parse(triples: Any, **options: Any) -> Any:
    return parse_triples(triples, now=NOW, **options)


def test_a_triple_becomes_text_link_and_entities() -> None:
    (draft,) = parse([("Maya", "lives_in", "Porto")])
    assert draft.kind is Kind.TRIPLE
    assert draft.text == "Maya lives in Porto"
    assert draft.entities == ("Maya", "Porto")
    assert draft.links == (Link("lives_in", "entity:Porto"),)
    assert draft.valid_from == NOW
    assert draft.valid_to is None
    assert draft.supersedes_key is None
    assert draft.metadata == {"subject": "Maya", "relation": "lives_in", "object": "Porto"}


def test_times_and_mappings() -> None:
    drafts = parse(
        [
            ("Maya", "lives_in", "Porto", "2020-01-01", "2021-01-01"),
            {"s": "Maya", "p": "lives_in", "o": "Lisbon", "valid_from": 1609459200, "functional": True},
            ["Tom", "knows", "Maya", None],
        ],
        valid_from="2019-01-01", metadata={"user_id": "u"}, document="facts.json",
    )  # fmt: skip
    assert [d.valid_from.year for d in drafts] == [2020, 2021, 2019]
    assert drafts[0].valid_to == drafts[1].valid_from
    assert [d.supersedes_key for d in drafts] == [None, ("Maya", "lives_in"), None]
    assert all(d.metadata["user_id"] == "u" and d.source.document == "facts.json" for d in drafts)


def test_functional_for_the_whole_call() -> None:
    (draft,) = parse([("小雨", "住在", "杭州")], functional=True)
    assert draft.supersedes_key == ("小雨", "住在")
    assert draft.text == "小雨住在杭州"


@pytest.mark.parametrize(
    ("triple", "text"),
    [
        (("Maya", "worksAt", "Acme"), "Maya works at Acme"),
        (("Maya", "WORKS_AT", "Acme"), "Maya works at Acme"),
        (("Maya", "is-friend-of", "Tom"), "Maya is friend of Tom"),
        (("Maya", "likes", "茶"), "Maya likes 茶"),
    ],
)
def test_readable(triple: tuple[str, str, str], text: str) -> None:
    assert readable(*triple) == text


@pytest.mark.parametrize(
    ("triples", "said"),
    [
        ([], "empty"),
        ("abc", "must be a list"),
        ({"subject": "a"}, "must be a list"),
        ([("a", "b")], r"triples\[0\] must be \(subject, relation, object\)"),
        ([("a", "b", "c"), "xyz"], r"triples\[1\]"),
        ([("a", "", "c")], r"triples\[0\]\.relation is empty"),
        ([("a", "b", 3)], r"triples\[0\]\.object must be text"),
        ([("a", "b", "c\udfff")], "lone surrogate"),
        ([("a", "supersedes", "c")], "reserved"),
        ([("a", "b", "x" * 81)], "81 characters"),
        ([("a", "b", "c", "soon")], r"triples\[0\]\.valid_from"),
        ([("a", "b", "c", "2023-01-02", "2023-01-01")], "valid_to must be later"),
        ([{"subject": "a", "relation": "b", "object": "c", "weight": 1}], "unknown keys: 'weight'"),
        ([{"subject": "a", "relation": "b", "predicate": "x", "object": "c"}], "different values"),
        ([{"subject": "a", "relation": "b", "object": "c", "functional": 1}], "true or false"),
    ],
)
def test_what_is_refused(triples: Any, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        parse(triples)
