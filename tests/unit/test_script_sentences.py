from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_ray.text.script import has_cjk, is_cjk, script_runs
from memos_ray.text.sentences import sentence_at, sentence_spans


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("我在北京, hello world. 你好 123", [("cjk", 0, 6), ("latin", 6, 19), ("cjk", 19, 25)]),
        ("  …我", [("cjk", 0, 4)]),
        ("123", [("latin", 0, 3)]),
        ("Маша lives", [("other", 0, 5), ("latin", 5, 10)]),
        ("", []),
    ],
)
def test_runs_of_one_script(text: str, runs: list[tuple[str, int, int]]) -> None:
    assert list(script_runs(text)) == runs


@given(st.text(max_size=60))
def test_runs_are_a_partition_with_changing_scripts(text: str) -> None:
    runs = list(script_runs(text))
    assert "".join(text[a:b] for _, a, b in runs) == text
    assert all(one[0] != other[0] for one, other in pairwise(runs))
    assert has_cjk(text) == any(is_cjk(ch) for ch in text) == any(script == "cjk" for script, _, _ in runs)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Hi Dr. Smith. I paid 3.50 for it! Did you?", ["Hi Dr. Smith.", "I paid 3.50 for it!", "Did you?"]),
        ("J. R. Tolkien wrote e.g. this. Really…", ["J. R. Tolkien wrote e.g. this.", "Really…"]),
        ("我去了北京。你呢？“真的吗？”她说", ["我去了北京。", "你呢？", "“真的吗？”", "她说"]),
        ("1. First item\n2. Second", ["1. First item", "2. Second"]),
        ('She said "Stop." Then left.', ['She said "Stop."', "Then left."]),
        (" \n ", []),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert [text[a:b] for a, b in sentence_spans(text)] == sentences


@given(st.text(alphabet=st.sampled_from('aA .!?。！？\n"”1我…'), max_size=80))
def test_sentences_leave_out_nothing_but_space(text: str) -> None:
    spans = sentence_spans(text)
    assert all(a < b for a, b in spans)
    assert "".join(text[a:b] for a, b in spans).replace(" ", "").replace("\n", "") == "".join(text.split())


def test_the_sentence_around_a_place() -> None:
    text = "One here. Two is there. Three."
    first, last = sentence_at(text, text.index("is"), text.index("is") + 2)
    assert text[first:last] == "Two is there."
