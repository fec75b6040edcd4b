"""Rule 5: which rows of a log count."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from memos_ray.cube.live import NO_LIMIT, Open, in_force, limit, survey, take_live
from memos_ray.cube.rows import EPOCH_START, JournalRow, Op, rows_to_table

T0 = datetime(2025, 1, 1, tzinfo=UTC)


def data(epoch, seq):
    return JournalRow(
        op=Op.ADD, memory_id=f"{epoch}/{seq}", epoch=epoch, seq=seq, recorded_at=T0 + timedelta(seq)
    )


def claim(epoch, token="t"):
    return JournalRow(op=Op.CLAIM, op_id=token, epoch=epoch)


def opened(epoch, start, after):
    return JournalRow(op=Op.OPEN, epoch=epoch, payload={"start": start, "after": after})


def live_ids(*rows):
    table = rows_to_table(rows)
    return take_live(table, survey(table))["memory_id"].to_pylist()


def test_an_empty_log():
    found = survey(rows_to_table([]))
    assert (found.highest_epoch, found.top_seq, found.chain, found.claims) == (0, 0, (), ())
    assert found.last_recorded_at == EPOCH_START


def test_rows_below_the_next_start_count():
    rows = [claim(1), opened(1, 1, 0), data(1, 1), data(1, 2), claim(2), opened(2, 3, 1), data(2, 3)]
    assert live_ids(*rows) == ["1/1", "1/2", "2/3"]


def test_a_late_row_of_an_older_epoch_does_not_count():
    rows = [opened(1, 1, 0), data(1, 1), opened(2, 2, 1), data(2, 2), data(1, 2), data(1, 3)]
    assert live_ids(*rows) == ["1/1", "2/2"]
    found = survey(rows_to_table(rows))
    assert found.ignored == ((1, 2),)
    assert found.top_seq == 2
    assert found.last_recorded_at == T0 + timedelta(2)


def test_an_open_that_a_higher_one_does_not_follow_is_not_in_force():
    late = opened(2, 2, 1)  # landed after the owner of epoch 3 had read the log and built on row 1/2
    rows = [opened(1, 1, 0), data(1, 1), data(1, 2), opened(3, 3, 1), data(3, 3), late]
    assert live_ids(*rows) == ["1/1", "1/2", "3/3"]


def test_chain_and_limit():
    chain = in_force([Open(3, 7, 1), Open(1, 1, 0), Open(2, 4, 1)])
    assert chain == (Open(1, 1, 0), Open(3, 7, 1))
    assert (limit(chain, 0), limit(chain, 1), limit(chain, 2), limit(chain, 3)) == (1, 7, 7, NO_LIMIT)


def test_a_damaged_chain_ends():
    assert in_force([Open(2, 1, 2), Open(1, 1, 5)]) == (Open(1, 1, 5), Open(2, 1, 2))


def test_a_commit_that_was_stored_twice_counts_once():
    rows = [opened(1, 1, 0), data(1, 1), data(1, 2), data(1, 1), data(1, 2), data(1, 3)]
    assert live_ids(*rows) == ["1/1", "1/2", "1/3"]


def test_order_is_by_seq_whatever_the_order_in_storage():
    assert live_ids(data(1, 3), data(1, 1), opened(1, 1, 0), data(1, 2)) == ["1/1", "1/2", "1/3"]


def test_imported_rows_of_epoch_zero_count():
    assert live_ids(data(0, 1), data(0, 2), claim(1), opened(1, 3, 0), data(1, 3)) == ["0/1", "0/2", "1/3"]


def test_the_highest_epoch_is_that_of_any_row():
    assert survey(rows_to_table([data(1, 1), claim(7)])).highest_epoch == 7
    assert survey(rows_to_table([claim(3, "a"), claim(3, "b")])).claims == ((3, "a"), (3, "b"))


@pytest.mark.parametrize("n", [1, 5])
def test_a_log_in_order_is_not_copied(n):
    table = rows_to_table([claim(1), opened(1, 1, 0), *(data(1, i + 1) for i in range(n))])
    taken = take_live(table, survey(table))
    assert taken["text"].chunk(0).buffers()[1].address == table["text"].chunk(0).buffers()[1].address
    assert len(taken) == n


def test_only_the_fence_columns_are_needed():
    from memos_ray.cube.live import FENCE_COLUMNS

    rows = [claim(1), opened(1, 1, 0), replace(data(1, 1), text="x")]
    assert survey(rows_to_table(rows).select(list(FENCE_COLUMNS))).top_seq == 1
