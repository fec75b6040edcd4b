"""Whose words stand together with whose."""

from __future__ import annotations

import numpy as np

from memos_ray.retrieval.speakers import SpeakerIndex


def test_an_answer_is_by_somebody_else_than_what_was_said_before():
    speakers = SpeakerIndex()
    said = [
        ("Ada", "user"),
        ("Ben", "user"),
        ("Ben", "user"),
        (None, "user"),
        (None, "assistant"),
        (None, "assistant"),
    ]
    for slot, (speaker, role) in enumerate(said):
        speakers.add(slot, speaker, role)
    before = np.array([-1, 0, 1, 2, 3, 4, 5, -1])  # slots 6 and 7: nobody is known to have said them
    assert speakers.answers(before).tolist() == [-1, 0, -1, 2, 3, -1, 5, -1]
    assert before.tolist()[2] == 1
    assert SpeakerIndex().answers(np.array([-1, 0, 1])).tolist() == [-1, -1, -1]


def test_a_role_is_no_name():
    speakers = SpeakerIndex()
    speakers.add(0, None, "user")
    speakers.add(1, "Ada", "user")
    assert [name for name, _, _ in speakers.names.find("what did the user tell Ada?")] == ["Ada"]
    assert speakers.spoken_by(["user"]) is None
