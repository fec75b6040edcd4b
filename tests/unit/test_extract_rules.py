from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_ray.ingest.extract_rules import MAX_DRAFTS, RuleExtractor, extract_statements
from memos_ray.ingest.messages import parse_messages
from memos_ray.types import Kind, Link

NOW = datetime(2023, 7, 19, tzinfo=UTC)


def extract(messages: Any, **options: Any) -> Any:
    return extract_statements(
        parse_messages(messages, **{"timestamp": NOW, "now": NOW, "speaker": "Maya", **options})
    )


@pytest.mark.parametrize(
    ("said", "derived"),
    [
        ("I live in Porto.", ["Maya lives in Porto"]),
        ("Well, I moved to Lisbon last month!", ["Maya moved to Lisbon"]),
        ("I recently moved from Berlin to New York City, and I love it.", ["Maya moved to New York City"]),
        ("I work at Acme as a software engineer.", ["Maya works at Acme"]),
        ("I'm working as a nurse now", ["Maya works as a nurse"]),
        ("I joined Acme in May.", ["Maya works at Acme"]),
        ("I’m originally from Brazil!", ["Maya comes from Brazil"]),
        ("I'm allergic to peanuts and shellfish.", ["Maya is allergic to peanuts and shellfish"]),
        ("I'm a vegetarian, so no meat.", ["Maya is vegetarian"]),
        ("My favorite food is sushi, and my favourite colour is blue now.",
         ["Maya's favourite food is sushi", "Maya's favourite colour is blue"]),
        ("I really love old films. I can't stand jazz.", ["Maya loves old films", "Maya dislikes jazz"]),
        ("I prefer tea to coffee.", ["Maya prefers tea to coffee"]),
        ("我住在上海。", ["Maya住在上海"]),
        ("我上个月搬到了杭州，我现在很喜欢喝茶。", ["Maya搬到杭州", "Maya喜欢喝茶"]),
        ("我在腾讯公司工作。", ["Maya在腾讯公司工作"]),
        ("我对花生过敏，我最喜欢的电影是《三体》。", ["Maya对花生过敏", "Maya最喜欢的电影是《三体》"]),
    ],
)  # fmt: skip
def test_plain_statements(said: str, derived: list[str]) -> None:
    assert [d.text for d in extract(said)] == derived


@pytest.mark.parametrize(
    "said",
    [
        "I don't live in Porto.",
        "Do I live in Porto?",
        "If I live in Porto, I work at Acme.",
        "She said I live in Rome.",
        "I used to live in Rome.",
        "Maybe I live in Rome.",
        "I would like tea.",
        "I'd love cake.",
        "My girlfriend and I love hiking.",
        "I love it. I like that. I love how you paint. I love your dog. I love to.",
        "I love the smell here. I like going with my dog.",
        "You live in Porto.",
        "我不喜欢香菜。",
        "我喜欢他吗？",
        "如果我住在北京就好了。",
        "他说我住在北京。",
        "我以前住在北京。",
        "我希望我在谷歌工作",
    ],
)
def test_what_is_no_plain_statement(said: str) -> None:
    assert extract(said) == []


def test_a_derived_memory_knows_where_it_came_from() -> None:
    drafts = extract(
        ["Hello", {"name": "Tom", "content": "I moved to Lisbon yesterday.", "dia_id": "D1:2"}],
        conversation="c", metadata={"user_id": "u", "mood": "x"}, expires_at="2030-01-01",
    )  # fmt: skip
    (draft,) = drafts
    assert draft.kind is Kind.FACT
    assert draft.derived_from == (1,)
    assert draft.valid_from == datetime(2023, 7, 18, tzinfo=UTC)
    assert draft.supersedes_key == ("Tom", "lives_in")
    assert draft.entities == ("Tom", "Lisbon")
    assert draft.links == (Link("lives_in", "entity:Lisbon"),)
    assert draft.metadata == {"user_id": "u", "subject": "Tom", "relation": "lives_in", "object": "Lisbon"}
    assert draft.expires_at is not None
    source = draft.source
    assert (source.extractor, source.conversation, source.turn, source.speaker) == (
        "rules",
        "c",
        "D1:2",
        "Tom",
    )


def test_dates_of_other_sentences_do_not_count() -> None:
    (draft,) = extract("I live in Porto. We met in 2019.")
    assert draft.valid_from == NOW


def test_only_people_speak_of_themselves() -> None:
    said = [{"role": role, "content": "I live in Porto."} for role in ("user", "assistant", "system", "tool")]
    assert [d.derived_from for d in extract(said)] == [(0,)]
    assert [d.text for d in extract(["I live in Porto.", "我住在上海。"], speaker=None)] == [
        "The user lives in Porto",
        "用户住在上海",
    ]


def test_bounded() -> None:
    assert len(extract(" ".join(f"I love thing{i}." for i in range(50)))) == MAX_DRAFTS


async def test_as_an_extractor() -> None:
    messages = parse_messages("I live in Porto.", timestamp=NOW, now=NOW)
    extractor = RuleExtractor()
    assert extractor.name == "rules"
    assert await extractor.extract(messages, []) == extract_statements(messages)


pieces = (
    "I I'm my love live in Porto work at and , . ; not ? favourite food is 我 住在 喜欢 上海 搬到 。 不 吗"
)


@given(
    st.lists(st.sampled_from(pieces.split()), min_size=1, max_size=14).map(" ".join)
    | st.text(min_size=1).filter(str.strip)
)
def test_any_text_is_read(text: str) -> None:
    drafts = extract(text)
    assert len(drafts) <= MAX_DRAFTS
    assert all(d.derived_from == (0,) and d.text.strip() and d.valid_from <= NOW for d in drafts)
