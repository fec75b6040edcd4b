"""The registry on real Lance: look-up, creation once, compare-and-set, bulk registration; under contention."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from memos_ray.cube.paths import registry_path
from memos_ray.cube.registry import Grant, NewCube, Registry, shared_registry
from memos_ray.cube.registry.table import _FRAGMENTS, _TAIL
from memos_ray.errors import Conflict, Corrupt, Invalid, NotFound, SchemaTooNew
from memos_ray.placement.shards import TABLES, table_of

INCARNATIONS = [f"0198a000-0000-7000-8000-{i:012x}" for i in range(20)]
EMBEDDER = "minilm"
GRANTS = (Grant('user:"bob"', "reader"), Grant("agent:x", "admin"))


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "data")


@pytest.fixture(params=["folder", "s3"])
def anywhere(request, root):
    return root if request.param == "folder" else request.getfixturevalue("s3_root")


def create(registry, cube_id, n=0):
    return registry.create_if_absent(cube_id, incarnation=INCARNATIONS[n], embedder=EMBEDDER)


def new(cube_id, n=0, **more):
    return NewCube(cube_id, INCARNATIONS[n], EMBEDDER, **more)


def in_one_table(n, table=0):
    """`n` ids whose rows are in the same table."""
    ids = (f"user:{i}" for i in range(1_000_000))
    return [i for i, _ in zip((i for i in ids if table_of(i) == table), range(n), strict=False)]


def test_an_unknown_cube_is_none_and_looking_makes_nothing(root, tmp_path):
    assert Registry(root).lookup("user:a") is None
    assert Registry(root).index().page() == []
    assert not (tmp_path / "data").exists()


def test_created_once(anywhere):
    first = create(Registry(anywhere), "user:a", 0)
    assert (first.state, first.revision, first.incarnation) == ("active", 1, INCARNATIONS[0])
    assert create(Registry(anywhere), "user:a", 1) == first
    assert Registry(anywhere).lookup("user:a") == first


def test_compare_and_set(anywhere):
    registry = Registry(anywhere)
    create(registry, "user:a")
    changed = registry.compare_and_set("user:a", 1, incarnation=INCARNATIONS[1])
    assert (changed.revision, changed.incarnation) == (2, INCARNATIONS[1])
    with pytest.raises(Conflict, match="revision 2, not 1") as caught:
        registry.compare_and_set("user:a", 1, incarnation=INCARNATIONS[2])
    assert caught.value.version == 2
    assert Registry(anywhere).lookup("user:a") == changed
    with pytest.raises(NotFound):
        registry.compare_and_set("user:b", 1, state="removed")


def test_every_field_can_be_given_and_changed(root):
    registry = Registry(root)
    made = registry.create_if_absent(
        "user:a", incarnation=INCARNATIONS[0], embedder=EMBEDDER, owner="user:maya", grants=GRANTS
    )
    assert (made.owner, made.grants) == ("user:maya", GRANTS)
    assert Registry(root).lookup("user:a") == made
    changed = registry.compare_and_set("user:a", 1, owner="user:jon", embedder="hash", grants=())
    assert (changed.owner, changed.embedder, changed.grants) == ("user:jon", "hash", ())
    assert (changed.incarnation, changed.created_at) == (made.incarnation, made.created_at)
    assert Registry(root).lookup("user:a") == changed


def test_a_removed_cube_leaves_its_record_and_can_be_made_anew(root):
    registry = Registry(root)
    create(registry, "user:a", 0)
    registry.compare_and_set("user:a", 1, state="removed")
    assert registry.index().page() == []
    assert registry.lookup("user:a").state == "removed"
    again = create(registry, "user:a", 1)
    assert (again.state, again.revision, again.incarnation) == ("active", 3, INCARNATIONS[1])


def test_bulk_registration_is_create_if_absent_of_each(root):
    registry = Registry(root)
    known = create(registry, "user:1", 1)
    create(registry, "user:2", 1)
    gone = registry.compare_and_set("user:2", 1, state="removed")
    made = registry.create_many(
        [*(new(f"user:{i}", owner=f"o{i % 3}") for i in range(500)), new("user:3", 2)]
    )
    assert made[1] == known
    assert (made[2].revision, made[2].incarnation) == (gone.revision + 1, INCARNATIONS[0])
    assert made[-1] == made[3]  # named twice: the first one makes it
    assert [r.cube_id for r in made[:-1]] == [f"user:{i}" for i in range(500)]
    assert Registry(root).create_many(new(f"user:{i}", 3) for i in range(500)) == made[:-1]
    assert Registry(root).index().page() == sorted(made[:-1], key=lambda r: r.cube_id)
    assert registry.create_many([]) == []


def test_a_bulk_registration_is_one_commit_a_table(root):
    registry = Registry(root)
    ids = in_one_table(2_000)
    registry.create_many(map(new, ids))
    dataset = registry.tables[0].latest()
    assert dataset.version == 2  # the first made the table
    assert len(registry.tables[0].find(dataset, ids)) == 2_000


def test_nothing_is_registered_if_one_cube_is_wrong(root, tmp_path):
    with pytest.raises(Invalid, match="incarnation"):
        Registry(root).create_many([new("user:a"), NewCube("user:b", "no uuid", EMBEDDER)])
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "grants",
    [
        "user:bob",
        ("user:bob",),
        (Grant("user:bob", "owner"),),
        (Grant("", "reader"),),
        (Grant("b", "reader"), Grant("b", "writer")),
        tuple(Grant(str(i), "reader") for i in range(1_001)),
    ],
)
def test_bad_grants_are_refused(root, grants):
    registry = Registry(root)
    with pytest.raises(Invalid) as caught:
        registry.create_if_absent("a", incarnation=INCARNATIONS[0], embedder=EMBEDDER, grants=grants)
    assert caught.value.argument == "grants"
    assert registry.lookup("a") is None


def test_bad_ids_and_values_are_refused(root):
    registry = Registry(root)
    for cube_id in ("", "a\0b", "x" * 201):
        with pytest.raises(Invalid):
            registry.lookup(cube_id)
    for field, value in (("incarnation", "x"), ("embedder", ""), ("state", "gone"), ("owner", "a\0b")):
        with pytest.raises(Invalid) as caught:
            registry.compare_and_set("a", 1, **{field: value})
        assert caught.value.argument == field


def test_the_same_cube_created_by_many_at_once_is_one_cube(anywhere):
    registries = [Registry(anywhere) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda n: create(registries[n], "user:a", n), range(4)))
    assert len({r.incarnation for r in made}) == 1
    assert [r.revision for r in made] == [1] * 4
    assert Registry(anywhere).index().count() == 1


def test_of_many_changes_to_one_revision_one_wins(anywhere):
    create(Registry(anywhere), "user:a")
    registries = [
        Registry(anywhere) for _ in range(2)
    ]  # two threads each: within a group and between processes

    def change(n):
        try:
            return registries[n % 2].compare_and_set("user:a", 1, owner=f"host-{n}")
        except Conflict:
            return None

    with ThreadPoolExecutor(4) as pool:
        won = [r for r in pool.map(change, range(4)) if r is not None]
    assert len(won) == 1
    assert Registry(anywhere).lookup("user:a") == won[0]


def test_no_change_is_lost_between_bulk_and_single_ones_of_several_registries(anywhere):
    """Each of four writers registers ids that all of them want, changes some by compare-and-set, adds its own."""
    shared = in_one_table(300)
    registries = [Registry(anywhere) for _ in range(4)]
    start = threading.Barrier(4)

    def write(n):
        registry = registries[n]
        start.wait()
        made = registry.create_many(
            [new(i, n) for i in shared[n * 10 :]] + [new(f"own:{n}:{i}", n) for i in range(40)]
        )
        won = {}
        for record in made[:6]:
            try:
                won[record.cube_id] = registry.compare_and_set(record.cube_id, record.revision, owner=f"w{n}")
            except Conflict as error:
                assert error.version > record.revision  # noqa: PT017
        return made, won

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(write, range(4)))
    stored = {r.cube_id: r for r in Registry(anywhere).index().page(limit=10_000)}
    assert set(stored) == {*shared, *(f"own:{n}:{i}" for n in range(4) for i in range(40))}
    for made, won in answers:
        for record in made:  # all were told of the same cube, whoever made it
            assert stored[record.cube_id].incarnation == record.incarnation
        for cube_id, record in won.items():
            assert stored[cube_id].revision >= record.revision
    changes = sum(len(won) for _, won in answers)
    assert sum(record.revision - 1 for record in stored.values()) == changes  # none lost, none twice


_CHILD = """
import sys
from memos_ray.cube.registry import NewCube, Registry
from memos_ray.errors import Conflict
anywhere, n = sys.argv[1], int(sys.argv[2])
registry = Registry(anywhere)
print("ready", flush=True)
sys.stdin.readline()
incarnation = f"0198a000-0000-7000-8000-{n:012x}"
made = registry.create_many(NewCube(f"user:{i}", incarnation, "minilm") for i in range(64))
won = 0
for _ in range(5):
    record = registry.lookup("counter")
    try:
        registry.compare_and_set("counter", record.revision, owner=f"w{n}")
        won += 1
    except Conflict:
        pass
print(won, sum(r.incarnation == incarnation for r in made), flush=True)
"""


def test_processes_that_race_agree(root):
    create(Registry(root), "counter")
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _CHILD, root, str(n)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for n in (1, 2)
    ]
    try:
        for child in children:
            assert child.stdout.readline() == "ready\n"
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        said = [list(map(int, child.communicate(timeout=60)[0].split())) for child in children]
    finally:
        for child in children:
            child.kill()
            child.communicate()
    registry = Registry(root)
    assert registry.lookup("counter").revision == 1 + sum(won for won, _ in said)
    assert sum(made for _, made in said) == 64  # each cube was made by one of them
    assert registry.index().count("user:") == 64


def test_changes_that_come_in_at_once_share_commits(root):
    registry = Registry(root)
    ids = in_one_table(33)
    create(registry, ids[0])
    group = registry._groups[0]
    with ThreadPoolExecutor(32) as pool:
        with group._lead:  # a commit that takes as long as it takes all the others to come in
            before = registry.tables[0].latest().version
            waiting = [pool.submit(create, registry, cube_id) for cube_id in ids[1:]]
            while len(group._queue) < 32:
                threading.Event().wait(0.001)
        made = [w.result() for w in waiting]
    assert [r.cube_id for r in made] == ids[1:]
    assert registry.tables[0].latest().version == before + 1


def test_many_changes_keep_the_table_small(root):
    registry = Registry(root)
    rounds, size = 2 * _FRAGMENTS, _TAIL + 1
    ids = in_one_table(rounds * size)
    record = create(registry, ids[0])
    pieces = []
    for i in range(rounds):  # each leaves a full tail behind
        registry.create_many(map(new, ids[i * size : (i + 1) * size]))
        record = registry.compare_and_set(ids[0], record.revision, owner=f"host-{i}")
        pieces.append(len(registry.tables[0].latest().get_fragments()))
    assert _FRAGMENTS in pieces
    assert max(pieces) <= _FRAGMENTS
    assert registry.lookup(ids[0]) == record
    assert [r.cube_id for r in Registry(root).index().every()] == sorted(ids)


def test_one_cube_changed_very_often_takes_no_room(root):
    registry = Registry(root)
    record = create(registry, "user:a")
    for i in range(40):
        record = registry.compare_and_set("user:a", record.revision, owner=f"host-{i}")
    assert Registry(root).lookup("user:a") == record
    assert registry.tables[table_of("user:a")].latest().count_rows() == 1


def test_a_process_shares_its_registry_of_a_root(root):
    assert shared_registry(root) is shared_registry(root + "/")
    assert shared_registry(root) is not shared_registry(root, storage_options={"region": "x"})


def test_durable_to_power_loss_works_the_same(root):
    registry = Registry(root, durability="power")
    made = registry.create_many(new(f"user:{i}") for i in range(100))
    changed = registry.compare_and_set("user:5", 1, owner="o")
    assert Registry(root).lookup("user:5") == changed
    assert Registry(root).lookup("user:6") == made[6]


def test_a_damaged_table_is_corrupt_and_named(root, tmp_path):
    create(Registry(root), "user:a")
    for table in range(TABLES):
        for manifest in (tmp_path / "data" / "registry" / f"{table}.lance" / "_versions").glob("*.manifest"):
            manifest.write_bytes(b"")
    with pytest.raises(Corrupt) as caught:
        Registry(root).lookup("user:a")
    assert caught.value.path == registry_path(root, table_of("user:a"))


def test_a_table_of_a_newer_release_is_not_touched(root):
    registry = Registry(root)
    create(registry, "user:a")
    registry.tables[table_of("user:a")].latest().update_schema_metadata({"memos_ray.registry": "2"})
    with pytest.raises(SchemaTooNew):
        create(Registry(root), "user:a")
