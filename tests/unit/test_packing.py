"""Rows as they lie in storage hold what the rows hold, whatever that is."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_ray.cube.packing import (
    KIND_NAMES,
    PACKED,
    STATUS_NAMES,
    STORED,
    columns_of,
    readable,
    stored_table,
)
from memos_ray.cube.row_checks import check_rows
from memos_ray.cube.rows import JournalRow, Op, rows_to_table
from memos_ray.cube.rowstore import KINDS, STATUSES, RowStore
from memos_ray.errors import Corrupt
from memos_ray.types import Kind, Link, Source, Status, TimeMention

T = datetime(2024, 5, 1, 12, 0, 0, 7, tzinfo=UTC)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
times = st.datetimes(timezones=st.just(UTC))
optional = st.none() | texts
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
sources = st.builds(
    Source,
    conversation=optional, turn=optional, speaker=optional, said_at=st.none() | times,
    span_start=st.none() | st.integers(0, 2**62),
)  # fmt: skip
rows = st.builds(
    JournalRow,
    op=st.sampled_from(Op), op_id=texts, principal=texts, digest=texts, memory_id=optional,
    version=st.integers(0, 2**31 - 1), text=texts, kind=st.sampled_from(Kind), valid_from=times,
    valid_to=st.none() | times, created_at=st.none() | times, expires_at=st.none() | times,
    status=st.sampled_from(Status), entities=st.lists(texts, max_size=3).map(tuple),
    links=st.lists(st.builds(Link, texts, texts, st.floats(0, 1e6, width=32)), max_size=2).map(tuple),
    times=st.lists(st.builds(TimeMention, texts, times, times), max_size=2).map(tuple),
    sources=st.lists(sources, max_size=2).map(tuple),
    metadata=st.dictionaries(texts, json_values, max_size=2),
    payload=st.dictionaries(texts, json_values, max_size=2),
    epoch=st.integers(0, 2**62), seq=st.integers(0, 2**62), recorded_at=times,
)  # fmt: skip


@given(st.lists(rows, max_size=4), st.data())
def test_rows_come_back_as_they_were(rows: list[JournalRow], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(rows)))
    stored = pa.concat_tables([stored_table(rows[:cut]), stored_table(rows[cut:])])
    assert stored.schema.equals(STORED)
    assert RowStore(stored).rows(range(len(rows))) == rows
    assert readable(stored).equals(rows_to_table(rows))
    assert readable(stored.slice(cut)).equals(rows_to_table(rows[cut:]))


def test_the_names_that_rows_store_by_position_are_all_there() -> None:
    # KINDS and STATUSES may be in any order; these two may only grow at the end
    assert sorted(KIND_NAMES) == sorted(KINDS)
    assert sorted(STATUS_NAMES) == sorted(STATUSES)
    assert KIND_NAMES[:8] == (
        "message", "fact", "preference", "event", "document", "summary", "tool", "triple"
    )  # fmt: skip
    assert STATUS_NAMES[:5] == ("active", "superseded", "archived", "merged", "deleted")


def test_a_row_may_be_larger_than_what_arrow_reads_at_a_time() -> None:
    small = JournalRow(Op.ADD, memory_id="a", version=1, entities=("x",))
    large = JournalRow(Op.ADD, memory_id="b", version=1, entities=tuple(f"{i:04}" * 1000 for i in range(900)))
    rows = [small, large, small]
    assert RowStore(stored_table(rows)).rows([1, 2]) == [large, small]


def damaged(value: bytes | None) -> pa.Table:
    rows = [JournalRow(Op.ADD, "o", memory_id="m", version=1, text="x", seq=n, recorded_at=T) for n in (1, 2)]
    table = stored_table(rows)
    first = table[PACKED][0].as_py()
    return table.set_column(STORED.get_field_index(PACKED), PACKED, pa.array([first, value], pa.binary()))


HEAD = stored_table([JournalRow(Op.ADD, version=2, valid_to=T + timedelta(1))])[PACKED][0].as_py()[:38]


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        HEAD,
        HEAD + b"{",
        HEAD + b"{}\n{}",
        HEAD + b"[1]",
        HEAD + b'{"entities": 3}',
        HEAD + b'{"unheard": 3}',
        HEAD[:4] + b"\xff" + HEAD[5:] + b"{}",
    ],
)
def test_packed_values_that_are_none_are_corrupt(value: bytes | None) -> None:
    with pytest.raises(Corrupt):
        check_rows(damaged(value))
    with pytest.raises(ValueError):  # noqa: PT011
        readable(damaged(value))
    check_rows(damaged(HEAD + b"{}"))


def test_columns_are_unpacked_when_they_are_asked_for() -> None:
    columns = columns_of(damaged(HEAD + b"{"))
    assert columns["version"].to_pylist() == [1, 2]
    with pytest.raises(ValueError, match="JSON"):
        columns["entities"]
    with pytest.raises(KeyError):
        columns["colour"]
