"""The journal's table in Lance: versions, rebasing, compaction, clean-up, schema, damage, power."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from errno import EACCES, EIO, ENOSPC
from pathlib import Path

import lance
import pyarrow as pa
import pytest
from s3_server import Proxy

from memos_ray.clock import SystemClock
from memos_ray.cube import creating, durable
from memos_ray.cube.lance_store import LanceStore
from memos_ray.cube.owner import Owner
from memos_ray.cube.packing import STORED, stored_table
from memos_ray.cube.rows import SCHEMA_VERSION_KEY, JournalRow, Op
from memos_ray.errors import Corrupt, Moved, SchemaTooNew, Unavailable
from memos_ray.storage.options import storage_options
from memos_ray.testing.memory_store import MemoryStore


def rows(epoch, first, count=1, text="text"):
    return stored_table(
        [
            JournalRow(op=Op.ADD, memory_id=f"m{i}", text=text, epoch=epoch, seq=i)
            for i in range(first, first + count)
        ]
    )


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "cube" / "memories.lance")


def opened(path, **options):
    store = LanceStore(path, **options)
    store.open()
    return store


def owner_of(store, name="a"):
    owner = Owner(store, SystemClock(), name)
    owner.activate()
    return owner


def write(owner, count=1):
    owner.write(rows(owner.epoch, owner.next_seq, count))


@pytest.fixture(params=["folder", "object store", "s3", "memory"])
def stores(request, path):
    """Makes stores of one log, as several processes would see it."""
    if request.param == "memory":
        first = MemoryStore()
        return first.another
    if request.param == "object store":  # Lance's code for object stores, on a folder
        path = f"file-object-store://{path}"
    if request.param == "s3":
        root = request.getfixturevalue("s3_root")
        return lambda: opened(
            f"{root}/memories.lance", storage_options=storage_options(root), durability="power"
        )
    return lambda: opened(path)


@pytest.fixture(params=["folder", "s3"])
def anywhere(request, path):
    """(path, options) of a log that is not there yet."""
    if request.param == "folder":
        return path, None
    root = request.getfixturevalue("s3_root")
    return f"{root}/memories.lance", storage_options(root)


def test_an_owner_writes_and_the_next_one_reads_it(stores):
    owner = owner_of(stores())
    for count in (1, 3, 2):
        write(owner, count)
    following = Owner(stores(), SystemClock(), "b")
    live = following.activate()
    assert live["seq"].to_pylist() == [1, 2, 3, 4, 5, 6]
    assert (following.epoch, following.next_seq) == (2, 7)
    assert live.schema.equals(STORED)


def test_the_older_of_two_live_owners_is_refused(stores):
    old = owner_of(stores())
    write(old)
    new = owner_of(stores(), "b")
    write(new)
    with pytest.raises(Moved, match="look the cube up again") as caught:
        write(old)
    assert caught.value.reason
    with pytest.raises(Moved):
        old.confirm()
    assert old.lost
    third = Owner(stores(), SystemClock(), "c")
    assert third.activate()["seq"].to_pylist() == [1, 2]  # not the refused row, which is in storage
    assert third.found.ignored == ((1, 2),)


def test_a_confirmation_sees_the_successor(stores):
    old = owner_of(stores())
    old.confirm()
    owner_of(stores(), "b")
    with pytest.raises(Moved):
        old.confirm()


def test_compaction_keeps_the_rows_and_their_owner(stores):
    owner = owner_of(stores())
    for _ in range(5):
        write(owner)
    prepared = owner.prepare_rewrite()
    write(owner)  # beside it
    owner.rewrite(prepared)
    write(owner)
    owner.clean_up(0)
    assert Owner(stores(), SystemClock(), "b").activate()["seq"].to_pylist() == list(range(1, 8))


def test_a_compaction_behind_a_successor_loses_the_log(stores):
    owner = owner_of(stores())
    for _ in range(3):
        write(owner)
    prepared = owner.prepare_rewrite()
    successor = owner_of(stores(), "b")
    with pytest.raises(Moved):
        owner.rewrite(prepared)
    assert owner.lost
    with pytest.raises(Moved):  # it finds a version that it did not make, and that nobody was promised
        write(successor)
    assert Owner(stores(), SystemClock(), "c").activate()["seq"].to_pylist()[:3] == [1, 2, 3]


def test_rows_that_do_not_count_are_removed_and_opens_and_claims_stay(stores):
    old = owner_of(stores())
    write(old, 2)
    owner_of(stores(), "b")
    with pytest.raises(Moved):
        write(old, 3)
    store = stores()
    owner = owner_of(store, "c")
    owner.remove_ignored()
    prepared = owner.prepare_rewrite()
    if prepared is not None:
        owner.rewrite(prepared)
    write(owner)
    _, table = stores().read()
    assert sorted(
        zip(table["op"].to_pylist(), table["epoch"].to_pylist(), table["seq"].to_pylist(), strict=True)
    ) == [
        ("add", 1, 1),
        ("add", 1, 2),
        ("add", 3, 3),
        ("claim", 1, 0),
        ("claim", 2, 0),
        ("claim", 3, 0),
        ("open", 1, 0),
        ("open", 2, 0),
        ("open", 3, 0),
    ]


def test_removed_rows_leave_the_files_once_they_are_cleaned_up(path):
    old = owner_of(opened(path))
    write(old)
    owner_of(opened(path), "b")
    with pytest.raises(Moved):
        old.write(rows(old.epoch, old.next_seq, text="SECRET-TEXT"))
    owner = owner_of(opened(path), "c")
    owner.remove_ignored()
    owner.rewrite(owner.prepare_rewrite())
    owner.clean_up(0)
    for folder, _, names in os.walk(path):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                assert b"SECRET-TEXT" not in file.read(), name


def test_compaction_leaves_large_settled_fragments_alone(path):
    store = opened(path)
    owner = owner_of(store)
    write(owner, 500)
    for _ in range(4):
        write(owner)
    large = max(store._handle().get_fragments(), key=lambda x: x.physical_rows)
    owner.rewrite(owner.prepare_rewrite())
    left = {x.fragment_id: x.physical_rows for x in store._handle().get_fragments()}
    assert left[large.fragment_id] == 500
    assert len(left) == 3  # what came before it, itself, and what came after it


def test_many_processes_create_the_same_table(anywhere):
    path, options = anywhere
    barrier = threading.Barrier(4)

    def create(n):
        barrier.wait()
        dataset, made = creating.create_or_open(f"{path}/{n}", STORED.empty_table(), options)
        return dataset.version, made

    with ThreadPoolExecutor(4) as pool:
        for n in range(5):
            results = [f.result() for f in [pool.submit(create, n) for _ in range(4)]]
            assert sorted(results) == [(1, False)] * 3 + [(1, True)]


def test_a_table_with_rows_is_created_once(anywhere):
    path, options = anywhere
    barrier = threading.Barrier(4)

    def create(i):
        barrier.wait()
        return creating.create_or_open(path, rows(1, i), options)[1]

    with ThreadPoolExecutor(4) as pool:
        assert sorted(f.result() for f in [pool.submit(create, i) for i in range(4)]) == [False] * 3 + [True]
    assert lance.dataset(path, storage_options=options).count_rows() == 1


def test_a_file_that_vanishes_is_looked_for_at_the_latest_version(path):
    owner = owner_of(opened(path))
    for _ in range(3):
        write(owner)
    reader = opened(path)
    version = reader.latest()
    owner.rewrite(owner.prepare_rewrite())
    owner.clean_up(0)  # takes away the files of the version that the reader has looked up
    real = reader.latest
    answers = iter([version])
    reader.latest = lambda: next(answers, None) or real()
    found, table = reader.read()
    assert found > version
    assert table.num_rows == 5


# -- schema ---------------------------------------------------------------------------------------------------


def with_schema_version(path, version, without=()):
    fields = [field for field in STORED if field.name not in without]
    schema = pa.schema(fields, metadata={SCHEMA_VERSION_KEY: str(version).encode()})
    table = rows(1, 1, 2).drop_columns(list(without)).replace_schema_metadata(schema.metadata)
    lance.write_dataset(table.cast(schema), path)


def test_a_newer_schema_is_refused(path):
    with_schema_version(path, 2)
    with pytest.raises(SchemaTooNew, match="schema version 2; this release reads up to 1") as caught:
        opened(path)
    assert (caught.value.found, caught.value.supported) == (2, 1)


def test_an_older_schema_is_upgraded_once(path):
    with_schema_version(path, 0, without=("payload",))
    calls = []

    def add_payload(dataset):
        calls.append(dataset.version)
        if "payload" not in dataset.schema.names:
            dataset.add_columns(pa.field("payload", pa.string()))

    store = opened(path, upgrades={0: add_payload})
    owner = Owner(store, SystemClock(), "a")
    live = owner.activate()
    assert live["payload"].to_pylist() == [None, None]
    write(owner)
    _, table = opened(path, upgrades={0: add_payload}).read()
    assert table.num_rows == 5
    assert len(calls) == 1


def test_an_older_schema_without_a_way_up_is_corrupt(path):
    with_schema_version(path, 0)
    with pytest.raises(Corrupt, match="cannot upgrade"):
        opened(path)


def test_something_else_than_a_journal_is_corrupt(path):
    lance.write_dataset(pa.table({"x": [1]}), path)
    with pytest.raises(Corrupt, match="not a journal"):
        opened(path)


# -- damage ---------------------------------------------------------------------------------------------------


def newest(path, folder):
    where = os.path.join(path, folder)
    return max((os.path.join(where, name) for name in os.listdir(where)), key=os.path.getmtime)


def damage(file, how):
    size = os.path.getsize(file)
    if how == "gone":
        os.remove(file)
    else:
        data = Path(file).read_bytes()
        content = {"empty": b"", "half": data[: size // 2], "zeros": bytes(size), "ones": b"\xff" * size}
        Path(file).write_bytes(content[how])


@pytest.mark.parametrize("how", ["empty", "half", "zeros", "ones"])
def test_a_damaged_manifest_is_corrupt_and_named(path, how):
    owner = owner_of(opened(path))
    write(owner)
    where = os.path.join(path, "_versions")
    newest_manifest = min(name for name in os.listdir(where) if name.endswith(".manifest"))
    damage(os.path.join(where, newest_manifest), how)
    with pytest.raises(Corrupt, match=r"doctor --repair") as caught:
        opened(path).read()
    assert caught.value.path == path


@pytest.mark.parametrize("how", ["empty", "half", "zeros", "ones", "gone"])
def test_a_damaged_data_file_is_corrupt_and_named(path, how):
    owner = owner_of(opened(path))
    write(owner)
    damage(newest(path, "data"), how)
    with pytest.raises(Corrupt, match=r"doctor --repair") as caught:
        Owner(opened(path), SystemClock(), "b").activate()
    assert caught.value.path == path


def test_a_journal_without_manifests_is_not_taken_for_a_new_one(path):
    write(owner_of(opened(path)))
    where = os.path.join(path, "_versions")
    for name in os.listdir(where):
        os.remove(os.path.join(where, name))
    with pytest.raises(Corrupt):
        opened(path)
    assert os.listdir(where) == []


# -- storage that fails ---------------------------------------------------------------------------------------


class FailsOnce:
    def __init__(self, point, error):
        self.point, self.error, self.armed = point, error, False

    def __call__(self, point):
        if self.armed and point == self.point:
            self.armed = False
            raise self.error


def test_who_stalls_while_creating_wipes_nothing(anywhere):
    """Lance's own create, stalled between its two looks for a dataset, would replace all rows."""
    path, options = anywhere
    at_put, written = threading.Event(), threading.Event()

    @contextmanager
    def stall(version):
        assert version == 1
        at_put.set()
        assert written.wait(20)
        yield

    def late():
        return creating.create_or_open(path, STORED.empty_table(), options, commit_lock=stall)

    with ThreadPoolExecutor(1) as pool:
        stalled = pool.submit(late)
        try:
            assert at_put.wait(20)
            owner = owner_of(opened(path, storage_options=options))
            write(owner)
        finally:
            written.set()
        dataset, made = stalled.result()
        assert (dataset.version, made) == (4, False)
    write(owner)
    following = Owner(opened(path, storage_options=options), SystemClock(), "b")
    assert following.activate()["seq"].to_pylist() == [1, 2]


def test_who_stalls_while_creating_until_the_first_version_was_cleaned_up_wipes_nothing(anywhere):
    path, options = anywhere
    at_put, cleaned = threading.Event(), threading.Event()

    @contextmanager
    def stall(version):
        at_put.set()
        assert cleaned.wait(20)
        yield

    with ThreadPoolExecutor(1) as pool:
        stalled = pool.submit(creating.create_or_open, path, STORED.empty_table(), options, commit_lock=stall)
        try:
            assert at_put.wait(20)
            owner = owner_of(opened(path, storage_options=options))
            write(owner)
            owner.clean_up(0)
        finally:
            cleaned.set()
        assert stalled.result()[0].version == 4  # its own version 1 was put, and is not the latest
    write(owner)
    following = Owner(opened(path, storage_options=options), SystemClock(), "b")
    assert following.activate()["seq"].to_pylist() == [1, 2]


def test_a_commit_held_up_on_its_way_to_the_store_is_refused_there(s3_server, s3_root, monkeypatch):
    """The real conditional put: no lock of Lance's is in between."""
    held, over = threading.Event(), threading.Event()

    def hold(method, where):
        if method == "PUT" and where.endswith(".manifest") and armed:
            armed.clear()
            held.set()
            assert over.wait(20)

    armed = []
    proxy = Proxy(s3_server.endpoint, before=hold)
    try:
        path, direct = f"{s3_root}/memories.lance", storage_options(s3_root)
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        old = owner_of(opened(path, storage_options=storage_options(s3_root)))
        write(old)
        armed.append(True)
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(write, old)
            try:
                assert held.wait(20)
                new = owner_of(opened(path, storage_options=direct), "new")
                write(new)
            finally:
                over.set()
            with pytest.raises(Moved):
                late.result()
        write(new)
        assert Owner(opened(path, storage_options=direct), SystemClock(), "c").activate()[
            "seq"
        ].to_pylist() == [1, 2, 3]
    finally:
        proxy.stop()


@pytest.mark.parametrize("point", ["written", "put", "landed"])
def test_a_commit_that_raises_is_never_acknowledged_or_retried(path, point):
    hook = FailsOnce(point, OSError(ENOSPC, "No space left on device"))
    owner = owner_of(opened(path, hook=hook))
    write(owner)
    hook.armed = True
    with pytest.raises(Unavailable, match="No space left") as caught:
        write(owner)
    assert caught.value.what == path
    with pytest.raises(Moved, match="No space left"):
        write(owner)
    successor = Owner(opened(path), SystemClock(), "b")
    found = successor.activate()["seq"].to_pylist()
    assert found == ([1, 2] if point == "landed" else [1])
    write(successor)


@pytest.mark.parametrize("number", [EACCES, EIO])
def test_a_read_that_may_succeed_later_is_unavailable(path, number):
    write(owner_of(opened(path)))
    store = opened(path)
    real = store._at_version

    def fails(version):
        real(version)
        raise OSError(f"LanceError(IO): Generic LocalFileSystem error: (os error {number}), /src/lib.rs:1:2")

    store._at_version = fails
    with pytest.raises(Unavailable, match=rf"os error {number}\)$"):
        store.read()


# -- power ----------------------------------------------------------------------------------------------------


@pytest.fixture
def synced(monkeypatch):
    """What is fsynced, in order, as names below the dataset."""
    done = []
    real = os.fsync

    def fsync(fd):
        done.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    return done


def kinds(synced, path):
    """data, manifest or folder, in the order in which they were synced."""
    names = [name.removeprefix(path).lstrip("/") for name in synced if name.startswith(path)]
    return ["manifest" if n.endswith(".manifest") else "data" if n.endswith(".lance") else n for n in names]


def test_power_syncs_data_before_the_commit_and_the_manifest_before_the_answer(path, synced):
    points = []
    store = opened(path, durability="power", hook=lambda point: points.append((point, len(synced))))
    assert os.path.dirname(path) in synced  # a new folder is in its parent's entries
    owner = owner_of(store)
    synced.clear()
    points.clear()
    write(owner)
    assert kinds(synced, path) == ["data", "data", "manifest", "_versions"]
    assert points == [("written", 0), ("put", 2), ("landed", 2)]


def test_process_syncs_nothing_until_clean_up_which_syncs_what_it_keeps_first(path, synced):
    store = opened(path)
    owner = owner_of(store)
    for _ in range(3):
        write(owner)
    owner.rewrite(owner.prepare_rewrite())
    assert synced == []
    before = set(os.listdir(os.path.join(path, "data")))
    real = durable.Synced.version

    def checks(self, dataset):
        assert set(os.listdir(os.path.join(path, "data"))) == before  # nothing is deleted yet
        real(self, dataset)

    durable_version = durable.Synced.version
    try:
        durable.Synced.version = checks
        owner.clean_up(0)
    finally:
        durable.Synced.version = durable_version
    assert kinds(synced, path) == ["data", "data", "manifest", "_versions"]
    assert len(os.listdir(os.path.join(path, "data"))) == 1


def test_objects_in_a_store_are_not_local_files():
    assert durable.local_path("s3://bucket/x.lance") is None
    assert str(durable.local_path("file:///data/x.lance")) == "/data/x.lance"
    durable.Synced("s3://bucket/x.lance").manifest(3)
