"""The compact columns of a registry table against a plain list of records."""

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memos_ray.cube.registry.columns import Wanted, compact, empty
from memos_ray.cube.registry.records import CubeRecord, Grant
from memos_ray.cube.registry.rows import grants_of, grants_text, to_records, to_rows

PRINCIPALS = ["bob", 'b"ob', '["bob",', "bob\\", "用户", "reader", "a"]
IDS = st.text(st.sampled_from("ab:用\U0001f600'é"), min_size=1, max_size=5)
GRANTS = st.lists(
    st.builds(Grant, st.sampled_from(PRINCIPALS), st.sampled_from(["reader", "writer", "admin"])),
    max_size=3,
    unique_by=lambda g: g.principal,
).map(tuple)
RECORDS = st.builds(
    CubeRecord,
    cube_id=IDS,
    incarnation=st.uuids().map(str),
    embedder=st.sampled_from(["minilm", "hash"]),
    state=st.sampled_from(["active", "removed"]),
    created_at=st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)).map(lambda t: t.replace(tzinfo=UTC)),
    revision=st.integers(1, 5),
    owner=st.sampled_from(["", *PRINCIPALS]),
    grants=GRANTS,
)
WANTED = st.builds(
    Wanted,
    prefix=st.text(st.sampled_from("ab:用\U0001f600"), max_size=2),
    owner=st.none() | st.sampled_from(["", "nobody", *PRINCIPALS]),
    granted=st.none() | st.sampled_from(["nobody", *PRINCIPALS]),
    embedder=st.none() | st.sampled_from(["minilm", "none"]),
    state=st.sampled_from([None, "active", "removed"]),
)


def newest(records):
    """Of each cube the record of the highest revision (the first such one), by id."""
    held = {}
    for record in records:
        if record.cube_id not in held or held[record.cube_id].revision < record.revision:
            held[record.cube_id] = record
    return [held[i] for i in sorted(held)]


def unambiguous(records):
    """As storage holds them: never two records of one revision of a cube."""
    return list({(r.cube_id, r.revision): r for r in records}.values())


@given(st.lists(RECORDS))
def test_rows_come_back(records):
    assert to_records(to_rows(records)) == records
    assert [grants_of(grants_text(r.grants)) for r in records] == [r.grants for r in records]


@given(st.lists(RECORDS), st.lists(RECORDS), WANTED, IDS | st.just(""))
def test_columns_are_the_newest_records_in_order(first, later, wanted, after):
    every = unambiguous([*first, *later])
    first = every[: len(first)]
    columns = compact(to_rows(first)).with_rows(to_rows(every[len(first) :]))
    expected = newest(every)
    assert [columns.record(i) for i in range(len(columns))] == expected
    blocks = columns.matching(wanted, after.encode())
    assert [columns.record(i) for block in blocks for i in block] == [
        r for r in expected if wanted.takes(r) and r.cube_id > after
    ]
    for position, record in enumerate(expected):
        assert columns.find(record.cube_id.encode()) == position
    assert columns.find(b"zz") is None


def test_no_rows():
    assert len(empty()) == 0
    assert empty().find(b"a") is None
    assert list(empty().matching(Wanted(owner="o", granted="g", embedder="e"))) == []


def test_a_row_takes_less_than_a_hundred_bytes():
    start = datetime(2026, 1, 1, tzinfo=UTC)
    rng = np.random.default_rng(0)
    records = [
        CubeRecord(
            f"user:{i:015d}", f"{rng.integers(2**32):08x}-0000-7000-8000-{i:012x}", "minilm", "active",
            start + timedelta(seconds=i), 1, f"user:{i:015d}",
        )
        for i in range(2_000)
    ]  # fmt: skip
    assert compact(to_rows(records)).nbytes / 2_000 < 100
