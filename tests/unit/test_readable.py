import numpy as np
import pytest

from memos_ray.cube.searching import _read
from memos_ray.retrieval.query_vectors import QueryVectors

VECTOR = np.ones(2, np.float32)


@pytest.mark.parametrize(
    ("text", "spans", "expected"),
    [
        ("a cat", [(0, 1), (2, 5)], 1.0),
        ("我养猫吗?", [(0, 1)], 0.25),  # the model knows one character of four
        ("猫", [], 0.0),
        ("?!", [], 1.0),
    ],
)
def test_how_much_of_a_query_the_model_can_read(text, spans, expected):
    found = QueryVectors(
        VECTOR, np.ones((len(spans), 2), np.float32), np.array(spans, np.int32).reshape(-1, 2)
    )
    assert _read(text, found) == pytest.approx(expected)


def test_a_model_without_tokens_is_taken_at_its_word():
    assert _read("猫", QueryVectors(VECTOR)) == 1.0
