"""Every interleaving of two and three owners keeps every invariant of the fence."""

import pytest

from memos_ray.testing.explorer import ACTIVATE, CLEAN, COMPACT, READ, WRITE, WRITE2, explore

TWO = (ACTIVATE, WRITE2, COMPACT, WRITE, CLEAN, WRITE, READ)
QUICK = {
    "two owners, everything": ([TWO, (ACTIVATE, WRITE, COMPACT, WRITE2, CLEAN, READ)], 4_800),
    "two owners, two compactions each": (
        [(ACTIVATE, WRITE, COMPACT, CLEAN, WRITE, COMPACT, READ)] * 2,
        7_500,
    ),
    "three owners activate": ([(ACTIVATE,)] * 3, 18_000),
}
LONG = {
    "three owners, one write each": ([(ACTIVATE, WRITE)] * 3, 70_000),
    "three owners, groups of two": ([(ACTIVATE, WRITE2, WRITE), (ACTIVATE, WRITE), (ACTIVATE,)], 45_000),
    "three owners, compaction": (
        [(ACTIVATE, WRITE, COMPACT, WRITE), (ACTIVATE, WRITE), (ACTIVATE,)],
        100_000,
    ),
    "three owners, clean-up": (
        [(ACTIVATE, WRITE, CLEAN), (ACTIVATE, WRITE, CLEAN), (ACTIVATE, READ)],
        60_000,
    ),
}


@pytest.mark.parametrize("name", QUICK)
def test_no_interleaving_breaks_an_invariant(name):
    scripts, at_least = QUICK[name]
    found = explore(scripts)
    assert found.violation is None, found.violation
    assert found.states >= at_least, found.states


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_no_interleaving_of_three_owners_breaks_an_invariant(name):
    scripts, at_least = LONG[name]
    found = explore(scripts)
    assert found.violation is None, found.violation
    assert found.states >= at_least, found.states
