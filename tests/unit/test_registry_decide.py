"""What a group of changes comes to: the same as each of them made alone, in the order of the queue."""

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from memos_ray.cube.registry.group import Change, decide
from memos_ray.cube.registry.records import CubeRecord
from memos_ray.errors import Conflict, NotFound

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 4)), st.integers(0, 99))
)


def changer(cube_id, expected, n):
    """Creates if `expected` is None, else compares and sets."""

    def apply(found):
        if expected is None:
            return found or CubeRecord(cube_id, "i", "e", "active", NOW, 1, str(n))
        if found is None:
            raise NotFound("no", what="cube", id=cube_id)
        if found.revision != expected:
            raise Conflict("no", expected_version=expected, version=found.revision)
        return replace(found, revision=found.revision + 1, owner=str(n))

    return Change(cube_id, apply)


@given(STEPS, STEPS)
def test_a_group_is_its_changes_one_after_the_other(before, steps):
    _, stored = decide({}, [changer(*step) for step in before])
    held = {r.cube_id: r for r in stored}
    outcomes, records = decide(held, [changer(*step) for step in steps])

    alone, expected = dict(held), []
    for step in steps:
        ((outcome,), written) = decide(alone, [changer(*step)])
        alone |= {r.cube_id: r for r in written}
        expected.append(outcome)
    assert list(map(shown, outcomes)) == list(map(shown, expected))
    assert held | {r.cube_id: r for r in records} == alone
    assert len({r.cube_id for r in records}) == len(records)  # each cube is written once
    assert all(held.get(r.cube_id) != r for r in records)


def shown(outcome):
    return outcome if isinstance(outcome, CubeRecord) else (type(outcome), outcome.fields)
