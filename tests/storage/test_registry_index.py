"""The index over a real registry: a model of it as a dict, changes by others, pages while it changes."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memos_ray.cube.registry import CubeRecord, Grant, NewCube, Registry
from memos_ray.cube.registry.indexed_table import _OVERLAY
from memos_ray.cube.registry.table import RegistryTable
from memos_ray.errors import Conflict, Invalid
from memos_ray.placement.shards import table_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
INCARNATION = "0198a000-0000-7000-8000-000000000000"
IDS = [f"{kind}:{i}" for kind in ("user", "agent", "用户") for i in range(8)]
OWNERS = ["", "user:maya", "user:jon"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("create"), st.sampled_from(IDS), st.sampled_from(OWNERS)),
        st.tuples(st.just("remove"), st.sampled_from(IDS), st.none()),
        st.tuples(st.just("grant"), st.sampled_from(IDS), st.sampled_from(OWNERS[1:])),
        st.tuples(st.just("other"), st.sampled_from(IDS), st.sampled_from(OWNERS)),
        st.tuples(st.just("refresh"), st.none(), st.none()),
    ),
    max_size=12,
)


def new(cube_id, **more):
    return NewCube(cube_id, INCARNATION, "minilm", **more)


numbers = itertools.count()


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, after=st.sampled_from(["", "user:3", "x"]), limit=st.integers(1, 9))
def test_the_index_answers_as_a_dict_would(tmp_path, steps, after, limit):
    root = str(tmp_path / str(next(numbers)))
    registry, other = Registry(root), Registry(root)
    index = registry.index()
    known = {}  # what the index may know: own changes, and those of others that were there at a refresh
    for what, cube_id, value in steps:
        found = registry.lookup(cube_id) if cube_id else None
        if what == "refresh":
            index.refresh()
            known = {i: r for i in IDS if (r := registry.lookup(i)) is not None}
            continue
        if what == "other":  # another process, which the index is not told of
            other.create_if_absent(cube_id, incarnation=INCARNATION, embedder="hash", owner=value)
            continue
        if what == "create":
            record = registry.create_if_absent(cube_id, incarnation=INCARNATION, embedder="m", owner=value)
        elif found is None:
            continue
        elif what == "remove":
            record = registry.compare_and_set(cube_id, found.revision, state="removed")
        else:
            record = registry.compare_and_set(cube_id, found.revision, grants=(Grant(value, "reader"),))
        index.note(record)
        known[cube_id] = record
    index.refresh()
    known = {i: r for i in IDS if (r := registry.lookup(i)) is not None}
    assert {i: index.lookup(i) for i in IDS} == {i: known.get(i) for i in IDS}
    for prefix, owner, granted, state in itertools.product(
        ("", "user:", "用"), (None, "user:maya"), (None, "user:jon"), ("active", None)
    ):
        expected = [
            r
            for i, r in sorted(known.items())
            if i.startswith(prefix)
            and owner in (None, r.owner)
            and state in (None, r.state)
            and (granted is None or Grant(granted, "reader") in r.grants)
        ]
        filters = {"owner": owner, "granted": granted, "state": state}
        assert index.count(prefix, **filters) == len(expected)
        later = [r for r in expected if r.cube_id > after][:limit]
        assert index.page(prefix, after=after, limit=limit, **filters) == later


@pytest.mark.parametrize("where", ["folder", "s3"])
def test_what_others_change_is_there_after_a_refresh_that_reads_only_their_tables(request, tmp_path, where):
    root = str(tmp_path) if where == "folder" else request.getfixturevalue("s3_root")
    some = IDS if where == "folder" else [*IDS[:4], IDS[-1]]
    mine, other = Registry(root), Registry(root)
    mine.create_many(new(i) for i in some)
    index = mine.index()
    assert index.refresh() == len({table_of(i) for i in some})
    changed = other.compare_and_set("user:1", 1, owner="o")
    assert index.lookup("user:1").owner == ""
    assert index.refresh(max_age_s=3600) == 0
    assert index.lookup("user:1").owner == ""
    assert index.refresh() == 1
    assert index.lookup("user:1") == changed
    assert index.refresh() == 0
    ids = sorted(some)
    assert [record.cube_id for record in index.page(limit=2)] == ids[:2]
    assert [record.cube_id for record in index.page(after=ids[1], limit=2)] == ids[2:4]
    assert [record.cube_id for record in Registry(root).index().every("user:")] == [
        i for i in ids if "user:" in i
    ]
    assert [record.cube_id for record in index.page(owner="o")] == ["user:1"]


def test_an_older_record_never_replaces_a_newer_one(tmp_path):
    registry = Registry(str(tmp_path))
    index = registry.index()
    first = registry.create_if_absent("a", incarnation=INCARNATION, embedder="m")
    second = registry.compare_and_set("a", 1, owner="o")
    index.note(second)
    index.note(first)
    assert index.lookup("a") == second
    index.refresh()
    index.note(first)
    assert index.lookup("a") == second
    assert index.count() == len(index) == 1


def test_own_changes_are_in_it_at_once_and_are_decided_without_reading(tmp_path, monkeypatch):
    registry = Registry(str(tmp_path))
    made = registry.create_many(new(i) for i in IDS)
    index = registry.index()
    index.refresh()
    monkeypatch.setattr(RegistryTable, "find", None)  # it would fail
    changed = [registry.compare_and_set(r.cube_id, 1, owner="o") for r in made]
    with pytest.raises(Conflict):
        registry.compare_and_set(IDS[0], 1, owner="p")
    assert index.page(owner="o") == sorted(changed, key=lambda r: r.cube_id)
    many = registry.create_many(new(i) for i in (f"many:{n}" for n in range(64 * 2 * _OVERLAY)))
    assert index.count("many:") == len(many)
    assert index.refresh() == 0


def test_a_change_by_another_process_is_seen_by_the_next_decision(tmp_path):
    registry, other = Registry(str(tmp_path)), Registry(str(tmp_path))
    registry.create_many(new(i) for i in IDS)
    registry.index().refresh()
    other.compare_and_set(IDS[0], 1, owner="o")
    with pytest.raises(Conflict, match="revision 2"):
        registry.compare_and_set(IDS[0], 1, owner="p")
    changed = registry.compare_and_set(IDS[0], 2, owner="p")
    assert registry.index().lookup(IDS[0]) == changed == other.lookup(IDS[0])


def test_a_fresh_index_reads_only_the_table_it_is_asked_about(tmp_path):
    registry = Registry(str(tmp_path))
    made = registry.create_many(new(i) for i in IDS)
    index = registry.index()
    assert index.lookup(IDS[0]) == made[0]
    assert len(index) == sum(table_of(i) == table_of(IDS[0]) for i in IDS)
    assert list(index.every()) == sorted(made, key=lambda r: r.cube_id)


def test_many_changes_go_into_the_columns(tmp_path):
    index = Registry(str(tmp_path)).index()
    ids = [i for i in (f"user:{n}" for n in range(200 * _OVERLAY)) if table_of(i) == 0][: 2 * _OVERLAY]
    expected = {i: CubeRecord(i, INCARNATION, "m", "active", NOW, 1) for i in ids}
    for n, record in enumerate([*expected.values(), *expected.values()]):
        expected[record.cube_id] = replace(record, revision=1 + n, owner=f"o{n % 5}")
        index.note(expected[record.cube_id])
    table = index._tables[0]
    assert 0 < len(table._columns) == len(ids)
    assert len(table._changed) < _OVERLAY
    assert index.page(limit=len(ids)) == [expected[i] for i in sorted(ids)]
    assert index.count(owner="o3") == sum(r.owner == "o3" for r in expected.values())


def test_pages_cover_everything_that_stays_while_others_write(tmp_path):
    root = str(tmp_path)
    registry, other = Registry(root), Registry(root)
    registry.create_many(new(f"stay:{i:03d}") for i in range(400))
    index = registry.index()
    index.refresh()

    def write():
        for i in range(5):
            other.create_many(new(f"more:{i}:{n}") for n in range(40))
            other.create_many(new(f"zzz:{i}:{n}") for n in range(40))

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while True:
            done = writing.done()
            index.refresh()
            assert [r.cube_id for r in index.every("stay:")] == [f"stay:{i:03d}" for i in range(400)]
            if done:
                break
    assert index.count() == 800


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("limit", 0),
        ("limit", True),
        ("prefix", 1),
        ("after", b"a"),
        ("owner", 5),
        ("state", "x"),
        ("granted", ""),
    ],
)
def test_bad_arguments_are_named(tmp_path, argument, value):
    with pytest.raises(Invalid) as caught:
        Registry(str(tmp_path)).index().page(**{argument: value})
    assert caught.value.argument == argument
