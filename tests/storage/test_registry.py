"""The registry: look-up, creation once, compare-and-set, listing; under contention of threads."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from memos_ray.cube.paths import registry_path
from memos_ray.cube.registry import Registry
from memos_ray.errors import Conflict, Corrupt, Invalid, NotFound

INCARNATIONS = [f"0198a000-0000-7000-8000-{i:012x}" for i in range(20)]
EMBEDDER = "minilm"


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "data")


@pytest.fixture(params=["folder", "s3"])
def anywhere(request, root):
    return root if request.param == "folder" else request.getfixturevalue("s3_root")


def create(registry, cube_id, n=0):
    return registry.create_if_absent(cube_id, incarnation=INCARNATIONS[n], embedder=EMBEDDER)


def test_an_unknown_cube_is_none_and_looking_makes_nothing(root, tmp_path):
    assert Registry(root).lookup("user:a") is None
    assert Registry(root).list() == []
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


def test_a_removed_cube_leaves_its_record_and_can_be_made_anew(root):
    registry = Registry(root)
    create(registry, "user:a", 0)
    registry.compare_and_set("user:a", 1, state="removed")
    assert registry.list() == []
    assert registry.lookup("user:a").state == "removed"
    again = create(registry, "user:a", 1)
    assert (again.state, again.revision, again.incarnation) == ("active", 3, INCARNATIONS[1])


def test_list_pages_by_id(anywhere):
    registry = Registry(anywhere)
    ids = sorted(["user:a", "user:b", "user:'quoted'", "agent:x", "user:%", "用户"])
    for cube_id in ids:
        create(registry, cube_id)
    assert [r.cube_id for r in registry.list()] == ids
    assert [r.cube_id for r in registry.list(prefix="user:")] == [i for i in ids if i.startswith("user:")]
    assert [r.cube_id for r in registry.list(prefix="user:'")] == ["user:'quoted'"]
    assert [r.cube_id for r in registry.list(limit=2)] == ids[:2]
    assert [r.cube_id for r in registry.list(limit=2, after=ids[1])] == ids[2:4]


def test_the_same_cube_created_by_many_at_once_is_one_cube(anywhere):
    registries = [Registry(anywhere) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda n: create(registries[n], "user:a", n), range(4)))
    assert len({r.incarnation for r in made}) == 1
    assert [r.revision for r in made] == [1] * 4
    assert len(Registry(anywhere).list()) == 1


def test_of_many_changes_to_one_revision_one_wins(anywhere):
    create(Registry(anywhere), "user:a")
    registries = [Registry(anywhere) for _ in range(4)]

    def change(n):
        try:
            return registries[n].compare_and_set("user:a", 1, owner=f"host-{n}")
        except Conflict:
            return None

    with ThreadPoolExecutor(4) as pool:
        won = [r for r in pool.map(change, range(4)) if r is not None]
    assert len(won) == 1
    assert Registry(anywhere).lookup("user:a") == won[0]


def test_many_changes_keep_the_table_small(root):
    registry = Registry(root)
    record = create(registry, "user:a")
    for i in range(30):
        record = registry.compare_and_set("user:a", record.revision, owner=f"host-{i}")
    assert record.revision == 31
    assert Registry(root).lookup("user:a") == record
    assert all(
        len(s._latest(create=False).get_fragments()) < 24 for s in registry._shards if s.lookup("user:a")
    )


def test_bad_ids_are_refused(root):
    registry = Registry(root)
    for cube_id in ("", "a\0b", "x" * 201):
        with pytest.raises(Invalid):
            registry.lookup(cube_id)


def test_a_damaged_table_is_corrupt_and_named(root, tmp_path):
    create(Registry(root), "user:a")
    for shard in range(8):
        for manifest in (tmp_path / "data" / "registry" / f"{shard}.lance" / "_versions").glob("*.manifest"):
            manifest.write_bytes(b"")
    with pytest.raises(Corrupt) as caught:
        Registry(root).lookup("user:a")
    assert caught.value.path in {registry_path(root, i) for i in range(8)}
