import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_ray.ingest.entities import MAX_ENTITIES, find_entities, unique


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Hey Caroline! Thanks for the LGBTQ group.", ["Caroline", "LGBTQ"]),
        ("Maya's cat Luna lives in New York City.", ["Maya", "Luna", "New York City"]),
        ("I met Ana and Tom at the University of Porto on Monday.", ["Ana", "Tom", "University of Porto"]),
        ("Painting is fun. Melanie said so.", ["Melanie"]),
        ('She read "Becoming Nicole" and said "I am tired now".', ["Becoming Nicole"]),
        (
            "Mail a.b@c.org or see https://www.example.com/x or ask @tom_1",
            ["a.b@c.org", "example.com", "@tom_1"],
        ),
        ("I'm OK. We met in May. It was TV on Friday.", []),
        ("THIS IS ALL SHOUTING", []),
        ("nothing here, really", []),
        ("We flew to São Paulo with José Álvarez.", ["São Paulo", "José Álvarez"]),
        ("I drove the Mustang 500 to Fenway Park", ["Mustang 500", "Fenway Park"]),
        ("昨天我和小王去了北京大学。", ["小王", "北京", "北京大学"]),
        ("我喜欢《三体》，也和李娜一起看了电影。", ["三体", "李娜"]),
        ("张伟说他在阿里巴巴公司工作。", ["张伟", "阿里巴巴公司"]),
        ("王老师推荐了一家咖啡馆。", ["王老师"]),
        ("我住在杭州市西湖区。", ["杭州", "杭州市", "杭州市西湖区"]),
        ("今天很高兴，城市里走路很方便，去超市和公园。", []),
    ],
)
def test_names_in_text(text: str, names: list[str]) -> None:
    assert sorted(find_entities(text)) == sorted(names)


def test_known_names_count_anywhere_but_not_inside_words() -> None:
    assert find_entities("grace came, disgrace went", ["grace"]) == ("grace",)
    assert find_entities("a disgrace", ["grace"]) == ()
    assert find_entities("和小雨在一起", ["小雨"]) == ("小雨",)


def test_canonical_form() -> None:
    assert unique([" Café  Rio ", unicodedata.normalize("NFD", "café rio"), "", "x" * 81, "Y"]) == (
        "Café Rio",
        "Y",
    )


def test_bounded() -> None:
    text = ", ".join(f"Name{chr(65 + i // 26)}{chr(97 + i % 26)}" for i in range(100))
    assert len(find_entities("so " + text)) == MAX_ENTITIES


pieces = "Maya of the 's @ . \" “ ” 王 小 市 大学 《 》 http://a b"
mixed = st.lists(st.sampled_from(pieces.split()), max_size=12).map(" ".join)


@given(st.text(max_size=200) | mixed)
def test_any_text_gives_trimmed_distinct_names(text: str) -> None:
    names = find_entities(text)
    assert len({name.casefold() for name in names}) == len(names) <= MAX_ENTITIES
    assert all(name and name == " ".join(unicodedata.normalize("NFC", name).split()) for name in names)
