"""The books of a chaos run find what they are there to find: every violation is told, and nothing else."""

from collections import Counter
from datetime import UTC, datetime

from cluster.chaos import runs
from memos_ray.bench.chaos.ledger import Books
from memos_ray.bench.chaos.load import Span, longest_wait


def books() -> Books:
    """Cube c: memory m, of version 1 since 10 s and 2 since 20 s."""
    found = Books()
    found.added("c", "op-1", "m", "one", 10.0)
    found.updated("c", "op-2", "m", 2, "two", 20.0)
    return found


OPS = Counter({"op-1": 1, "op-2": 1})


def test_what_is_as_it_was_acknowledged_is_well():
    found = books()
    found.seen("c", "m", 2, "two", 30.0, 30.1)
    found.seen("c", "m", 1, "one", 20.5, 20.6)  # not older than the bound
    found.seen("c", "m", 3, "three", 30.0, 30.1)  # on its way to being acknowledged
    found.audit("c", {"m": (2, "two")}, OPS)
    assert (found.wrong, found.reads) == (Counter(), 3)


def test_reads_that_are_too_old_or_show_what_nobody_wrote():
    found = books()
    found.seen("c", "m", 1, "one", 21.5, 21.6)
    found.seen("c", "m", None, "", 30.0, 30.1)
    found.seen("c", "m", 2, "another", 30.0, 30.1)
    assert found.wrong == {"reads older than 1 s": 2, "stale writes accepted": 1}


def test_a_change_of_unknown_outcome_excuses_nothing_that_was_acknowledged():
    found = books()
    found.of("c")["m"].doubtful = True
    found.seen("c", "m", 1, "one", 30.0, 30.1)
    found.audit("c", {}, OPS)
    assert found.wrong == {"reads older than 1 s": 1, "acknowledged writes lost": 1}
    found = books()
    found.of("c")["m"].doubtful = True
    found.audit("c", {"m": (3, "three")}, OPS)
    assert not found.wrong
    found.updated("c", "op-4", "m", 4, "four", 40.0)
    found.audit("c", {"m": (3, "three")}, OPS + Counter({"op-4": 1}))
    assert found.wrong == {"acknowledged writes lost": 1}


def test_deletes_that_come_back():
    found = books()
    found.of("c")["m"].deleting_at = 25.0
    found.deleted("c", "op-3", "m", 26.0)
    found.seen("c", "m", None, "", 25.5, 25.6)
    assert not found.wrong
    found.seen("c", "m", 2, "two", 28.0, 28.1)
    found.audit("c", {"m": (2, "two")}, OPS)
    assert found.wrong == {
        "deleted memories served": 1,
        "resurrected deletes": 1,
        "acknowledged writes lost": 1,  # op-3 is not in the journal
    }


def test_an_operation_that_was_done_again_by_the_next_owner_is_counted_twice():
    early, late = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 1, 2, tzinfo=UTC)
    rows = [
        ("a", 1, early),
        ("a", 1, early),
        ("b", 1, early),
        ("b", 2, early),
        ("c", 2, early),
        ("c", 2, late),
    ]
    assert runs(rows) == {"a": 1, "b": 2, "c": 2}


def test_who_still_waits_when_others_are_answered_counts():
    spans = [Span("c", 11.0, 11.2, True), Span("c", 9.0, 40.0, False), Span("c", 35.0, 60.0, True)]
    assert longest_wait(spans, 10.0, 12.0) == ("c", 30.0)
