import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_ray.retrieval.tokens import MAX_WORD, Vocabulary, query_terms, tokenize


def test_english_words_are_stemmed_and_numbers_kept():
    assert tokenize("Caroline's dogs were RUNNING 42 miles, in 2023!") == [
        "carolin", "dog", "were", "run", "42", "mile", "in", "2023",
    ]  # fmt: skip


def test_quotes_are_no_part_of_words_but_contractions_are():
    assert tokenize("'quoted' don't '' 'tis") == ["quot", "don't", "tis"]
    assert tokenize("don’t “quoted”") == ["don't", "quot"]


def test_compatibility_forms_case_and_accents_do_not_matter():
    assert tokenize("ＡＢＣ１２ ﬁne CAFÉ") == tokenize("abc12 fine cafe")
    assert tokenize("cafe\u0301") == tokenize("café")


def test_chinese_gives_characters_and_pairs():
    assert tokenize("我的猫") == ["我", "的", "猫", "我的", "的猫"]
    assert tokenize("猫") == ["猫"]


def test_scripts_mix_within_a_text():
    assert set(tokenize("我在Google工作")) == {"googl", "我", "在", "我在", "工", "作", "工作"}


def test_chinese_question_finds_the_single_character():
    asked = query_terms("你养了什么猫?")
    assert "猫" in asked
    assert "你" not in asked
    assert "什么" not in asked
    assert set(asked) & set(tokenize("我的猫叫小白"))


def test_languages_have_their_own_stems_and_a_query_tries_all_seen():
    vocabulary = Vocabulary()
    vocabulary.number("Die Häuser sind für dich und mich")
    assert "haus" in tokenize("Die Häuser sind für dich und mich")
    assert "haus" in vocabulary.query_terms("Häuser")
    assert "haus" not in query_terms("Häuser")


def test_russian_is_stemmed():
    assert tokenize("собаки") == tokenize("собака")


def test_stop_words_leave_a_query_unless_there_is_nothing_else():
    assert query_terms("What is the name of her dog?") == ["name", "dog"]
    assert query_terms("who are you") == ["who", "are", "you"]


def test_nothing_gives_nothing():
    assert tokenize("") == []
    assert tokenize("?! 🙂 — ''") == []


def test_long_words_are_cut():
    assert tokenize("x" * 100_000) == ["x" * MAX_WORD]


@given(st.text(max_size=60))
def test_numbering_agrees_with_tokenize(text):
    vocabulary = Vocabulary()
    numbers = [n for n in vocabulary.number(text) if n >= 0]
    tokens = tokenize(text)
    terms = {vocabulary.get(token): token for token in tokens}
    assert None not in terms
    assert [terms[n] for n in numbers] == tokens
    assert len(vocabulary) == len(set(tokens))


@given(st.text(max_size=40))
def test_query_terms_are_distinct_and_indexed(text):
    terms = query_terms(text)
    assert len(set(terms)) == len(terms)
    languages_of_text = set(tokenize(text))
    assert bool(terms) == bool(languages_of_text)


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ("书是什么时候寄出的", ["书", "书是", "寄", "出", "寄出", "出的"]),
        ("她住在哪里", ["住", "她住", "住在"]),
        ("什么时候", ["什", "么", "时", "候"]),
    ],
)
def test_what_a_chinese_question_asks_with_is_not_looked_for(asked, left):
    """Unless there is nothing else."""
    assert query_terms(asked)[: len(left)] == left
    assert ("么时" in query_terms(asked)) == (asked == "什么时候")
