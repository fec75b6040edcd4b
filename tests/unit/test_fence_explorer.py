"""For each rule of the fence, the schedule that goes wrong without it. All interleavings: tests/model."""

import pytest

from memos_ray.cube.fence import ALL_RULES, Rules
from memos_ray.testing.explorer import ACTIVATE, CLEAN, COMPACT, READ, WRITE, WRITE2, World, explore, replay
from memos_ray.testing.schedules import SCHEDULES


def without(rule):
    return ALL_RULES._replace(**{rule: False})


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_rule_is_what_makes_the_schedule_safe(name):
    schedule = SCHEDULES[name]
    assert replay(schedule.scripts, schedule.turns) is None
    violation = replay(schedule.scripts, schedule.turns, World(without(schedule.rule)))
    assert violation is not None
    assert violation.what.startswith(schedule.breaks), violation


def test_every_rule_has_a_schedule():
    assert {s.rule for s in SCHEDULES.values()} == set(Rules._fields)


TWO = (ACTIVATE, WRITE2, COMPACT, WRITE, CLEAN, WRITE, READ)


@pytest.mark.parametrize("rule", Rules._fields)
def test_the_explorer_finds_what_a_missing_rule_allows(rule):
    """Without the named schedules' help: the search itself sees the fault."""
    scripts = {
        "chain": [(ACTIVATE, WRITE)] * 3,
        "latest": [(ACTIVATE, WRITE, CLEAN, WRITE)] * 2,
        "rewrite_check": [(ACTIVATE, WRITE, COMPACT, WRITE), (ACTIVATE, WRITE)],
        "confirm_reads": [(ACTIVATE, WRITE, READ), (ACTIVATE, WRITE)],
    }.get(rule, [(ACTIVATE, WRITE)] * 2)
    found = explore(scripts, World(without(rule)))
    assert found.violation is not None
    assert len(found.violation.schedule) > 5


def test_a_commit_that_looks_up_the_true_latest_version_is_as_safe():
    found = explore([TWO, TWO], World(probing=False))
    assert found.violation is None, found.violation
    assert found.states > 3_000


def test_the_explorer_refuses_to_answer_about_part_of_the_states():
    with pytest.raises(RuntimeError, match="more than 100 states"):
        explore([TWO, TWO], max_states=100)
