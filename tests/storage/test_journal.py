"""The journal: group commit, order, stamping, callers that go away, loss, overload, upkeep."""

import asyncio
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from memos_ray.clock import SystemClock
from memos_ray.config import Settings
from memos_ray.cube.journal import Journal, JournalConfig
from memos_ray.cube.lance_store import LanceStore
from memos_ray.cube.owner import Owner
from memos_ray.cube.packing import stored_table
from memos_ray.cube.planned import Planned
from memos_ray.cube.rows import JournalRow, Op
from memos_ray.errors import Conflict, Invalid, Moved, Overloaded, Unavailable
from memos_ray.storage.options import storage_options
from memos_ray.testing.memory_store import MemoryStore


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.at = datetime(2025, 1, 1, tzinfo=UTC)
        self.seconds = 0.0

    def now(self):
        return self.at

    def monotonic(self):
        return self.seconds


@dataclass
class Listing:
    """A planner for requests ("add", text…), whose state is the list of texts."""

    texts: list = field(default_factory=list)
    groups: list = field(default_factory=list)
    applied: list = field(default_factory=list)

    def begin_group(self):
        self.groups.append(0)
        self.draft = list(self.texts)

    def plan(self, request):
        verb, *texts = request
        if verb == "reject":
            raise Conflict("no")
        if verb == "bug":
            self.draft.append("half-planned")
            raise ZeroDivisionError
        if verb == "known":
            return Planned((), lambda rows: ("known", len(rows), list(self.texts)))
        self.groups[-1] += 1
        at = len(self.draft)
        self.draft += texts
        rows = tuple(JournalRow(op=Op.ADD, memory_id=f"m{at + i}", text=t) for i, t in enumerate(texts))
        return Planned(rows, lambda stamped: (at, [r.seq for r in stamped]))

    def apply(self, rows):
        self.applied.append(list(rows))
        self.texts += [r.text for r in rows]


class Gate(MemoryStore):
    """Appends of rows wait until the gate opens; a failure can be put in their way."""

    def __init__(self, shared=None):
        super().__init__(shared)
        self.entered = threading.Event()
        self.open_gate = threading.Event()
        self.open_gate.set()
        self.failure = None

    def append(self, base, rows):
        self.entered.set()
        assert self.open_gate.wait(20)
        if self.failure is not None:
            raise self.failure
        return super().append(base, rows)

    def shut(self):
        self.entered.clear()
        self.open_gate.clear()


class Elsewhere(LanceStore):
    """A journal's table in an object store."""

    def another(self):
        other = Elsewhere(self.path, storage_options=self._options)
        other.open()
        return other


@pytest.fixture(params=["memory", "s3"])
def store(request):
    """One that all opened by `another` share."""
    if request.param == "memory":
        return MemoryStore()
    root = request.getfixturevalue("s3_root")
    return Elsewhere(f"{root}/memories.lance", storage_options=storage_options(root))


async def activate(store, planner=None, *, clock=None, owner="a", **config):
    journal = await Journal.activate(
        store, clock=clock or SystemClock(), config=JournalConfig(**config), owner=owner
    )
    planner = planner or Listing()
    journal.start(planner)
    return journal, planner


async def in_commit(store):
    """Waits until a commit has reached the gate."""
    await asyncio.to_thread(store.entered.wait, 20)


async def in_queue(journal, count):
    """Lets the tasks that were just made run up to the queue, which takes one turn of the loop."""
    await asyncio.sleep(0)
    assert journal.waiting == count


async def test_one_request(store):
    journal, planner = await activate(store)
    assert await journal.submit(("add", "x", "y")) == (0, [1, 2])
    assert (journal.epoch, journal.next_seq) == (1, 3)
    assert planner.texts == ["x", "y"]
    await journal.close()


async def test_what_queues_during_a_commit_is_one_group():
    store = Gate()
    journal, planner = await activate(store)
    store.shut()
    first = asyncio.create_task(journal.submit(("add", "0")))
    await in_commit(store)
    rest = [asyncio.create_task(journal.submit(("add", str(i)))) for i in range(1, 9)]
    await in_queue(journal, 8)
    store.open_gate.set()
    assert await first == (0, [1])
    assert await asyncio.gather(*rest) == [(i, [i + 1]) for i in range(1, 9)]
    assert planner.groups == [1, 8]
    assert planner.texts == [str(i) for i in range(9)]
    await journal.close()


async def test_a_group_is_bounded_by_rows():
    store = Gate()
    journal, planner = await activate(store, group_rows=3)
    store.shut()
    tasks = [asyncio.create_task(journal.submit(("add", str(i), str(i)))) for i in range(5)]
    await in_commit(store)
    store.open_gate.set()
    await asyncio.gather(*tasks)
    assert planner.groups == [2, 2, 1]
    await journal.close()


async def test_a_request_that_changes_nothing_waits_for_the_groups_before_it_and_commits_nothing():
    store = Gate()
    journal, _ = await activate(store)
    store.shut()
    first = asyncio.create_task(journal.submit(("add", "x")))
    await in_commit(store)
    known = asyncio.create_task(journal.submit(("known",)))
    await in_queue(journal, 1)
    assert not known.done()
    version = store.latest()
    store.open_gate.set()
    await first
    assert await known == ("known", 0, ["x"])
    assert store.latest() == version + 1
    await journal.close()


async def test_a_rejected_request_fails_alone():
    store = Gate()
    journal, planner = await activate(store)
    requests = [("add", "x"), ("reject",), ("add", "y")]
    results = await asyncio.gather(*(journal.submit(r) for r in requests), return_exceptions=True)
    assert results[0] == (0, [1])
    assert isinstance(results[1], Conflict)
    assert results[2] == (1, [2])
    assert planner.texts == ["x", "y"]
    await journal.close()


async def test_a_bug_in_planning_fails_that_request_and_leaves_no_draft_behind(store):
    journal, planner = await activate(store)
    requests = [("add", "x"), ("bug",), ("add", "y")]
    results = await asyncio.gather(*(journal.submit(r) for r in requests), return_exceptions=True)
    assert isinstance(results[1], ZeroDivisionError)
    assert [results[0], results[2]] == [(0, [1]), (1, [2])]
    assert planner.texts == ["x", "y"]
    await journal.close()


async def test_rows_that_no_table_can_hold_are_refused_and_the_others_are_written(store):
    journal, planner = await activate(store)
    requests = [("add", "x"), ("add", "lone \ud800 surrogate"), ("add", "y")]
    results = await asyncio.gather(*(journal.submit(r) for r in requests), return_exceptions=True)
    assert isinstance(results[1], Invalid)
    assert planner.texts == ["x", "y"]
    assert journal.lost is None
    await journal.close()


async def test_a_caller_that_goes_away_never_harms_its_group():
    store = Gate()
    journal, planner = await activate(store)
    store.shut()
    running = asyncio.create_task(journal.submit(("add", "committing")))
    await in_commit(store)
    queued = asyncio.create_task(journal.submit(("add", "never began")))
    stays = asyncio.create_task(journal.submit(("add", "stays")))
    await in_queue(journal, 2)
    running.cancel()
    queued.cancel()
    await asyncio.wait([running, queued])
    store.open_gate.set()
    assert await stays == (1, [2])
    assert planner.texts == ["committing", "stays"]
    await journal.close()


async def test_stamps_never_go_back_along_seq(store):
    clock = ManualClock()
    journal, planner = await activate(store, clock=clock)
    noon = clock.at
    await journal.submit(("add", "x"))
    clock.at = noon - timedelta(hours=1)
    await journal.submit(("add", "y"))
    await journal.close()
    again, planner_again = await activate(store.another(), clock=clock, owner="b")
    await again.submit(("add", "z"))
    stamps = [
        (r.epoch, r.seq, r.recorded_at) for rows in planner.applied + planner_again.applied for r in rows
    ]
    assert stamps == [(1, 1, noon), (1, 2, noon), (2, 3, noon)]
    await again.close()


async def test_live_rows_come_back_at_the_next_activation(store):
    journal, _ = await activate(store)
    assert journal.live.num_rows == 0
    for i in range(3):
        await journal.submit(("add", str(i)))
    await journal.close()
    journal, _ = await activate(store.another())
    assert journal.live["text"].to_pylist() == ["0", "1", "2"]
    assert set(journal.live["op"].to_pylist()) == {"add"}
    assert (journal.epoch, journal.next_seq) == (2, 4)
    journal.release_live()
    assert journal.live.num_rows == 0
    await journal.close()


async def test_an_owner_that_was_taken_over_tells_everybody_and_stays_lost():
    store = Gate()
    journal, planner = await activate(store)
    await journal.submit(("add", "kept"))
    store.shut()
    tasks = [asyncio.create_task(journal.submit(("add", str(i)))) for i in range(3)]
    await in_commit(store)
    successor, _ = await activate(store.another())
    store.open_gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(r) for r in results] == [Moved] * 3
    assert len({id(r) for r in results}) == 3
    assert isinstance(journal.lost, Moved)
    with pytest.raises(Moved):
        await journal.submit(("add", "x"))
    with pytest.raises(Moved):
        await journal.confirm()
    assert planner.texts == ["kept"]
    assert successor.live["text"].to_pylist() == ["kept"]
    await journal.close()
    await successor.close()


async def test_failing_storage_is_unavailable_for_its_group_and_moved_after_that():
    store = Gate()
    journal, _ = await activate(store)
    store.failure = Unavailable("storage failed to append: No space left on device", what="memory")
    results = await asyncio.gather(
        *(journal.submit(("add", str(i))) for i in range(2)), return_exceptions=True
    )
    assert [type(r) for r in results] == [Unavailable] * 2
    assert "No space left" in str(results[0])
    assert results[0].what == "memory"
    with pytest.raises(Moved, match="No space left"):
        await journal.submit(("add", "x"))
    await journal.close()


async def test_a_compaction_with_nothing_to_do_confirms_nothing():
    class Compact(MemoryStore):
        def prepare_rewrite(self, version):
            return None

        def clean_up(self, version, keep_s):
            pass

    clock = ManualClock()
    store = Compact()
    journal, _ = await activate(store, clock=clock)
    Owner(store.another(), clock, "b").activate()
    clock.seconds = 10.0
    await journal._compact()
    assert journal.lost is None
    with pytest.raises(Moved):
        await journal.confirm()
    await journal.close()


async def test_a_planner_that_cannot_begin_leaves_nobody_waiting():
    class Broken(Listing):
        def begin_group(self):
            raise KeyError("x")

    journal, _ = await activate(MemoryStore(), Broken())
    with pytest.raises(Moved, match="the journal ended"):
        await journal.submit(("add", "x"))
    with pytest.raises(KeyError):
        await journal.close()


async def test_rows_that_do_not_count_are_removed_once(store):
    old = Owner(store.another(), SystemClock(), "old")
    old.activate()
    Owner(store.another(), SystemClock(), "between").activate()
    with pytest.raises(Moved):
        old.write(stored_table([JournalRow(op=Op.ADD, text="late", epoch=1, seq=1)]))
    journal, _ = await activate(store)
    assert journal._owner.has_ignored
    await journal._compact()
    assert not journal._owner.has_ignored
    assert "late" not in store.read()[1]["text"].to_pylist()
    version = store.latest()
    await journal._compact()
    assert store.latest() == version
    await journal.close()


async def test_a_bug_while_applying_lets_go_of_the_cube():
    class Broken(Listing):
        def apply(self, rows):
            raise KeyError("x")

    store = MemoryStore()
    journal, _ = await activate(store, Broken())
    with pytest.raises(Moved, match="failed to apply"):
        await journal.submit(("add", "x"))
    with pytest.raises(Moved):
        await journal.submit(("add", "y"))
    await journal.close()
    again, _ = await activate(store.another())
    assert again.live["text"].to_pylist() == ["x"]
    await again.close()


async def test_a_full_queue_says_when_to_come_back():
    store = Gate()
    journal, _ = await activate(store, queue_limit=2)
    store.shut()
    tasks = [asyncio.create_task(journal.submit(("add", "0")))]
    await in_commit(store)
    tasks += [asyncio.create_task(journal.submit(("add", str(i)))) for i in (1, 2)]
    await in_queue(journal, 2)
    with pytest.raises(Overloaded) as caught:
        await journal.submit(("add", "3"))
    assert caught.value.retry_after_s > 0
    store.open_gate.set()
    await asyncio.gather(*tasks)
    await journal.close()


async def test_a_read_confirms_ownership_when_it_last_did_too_long_ago():
    clock = ManualClock()
    store = MemoryStore()
    journal, _ = await activate(store, clock=clock, read_confirm_s=1.0)
    successor, _ = await activate(store.another(), clock=clock)
    clock.seconds = 1.0
    await journal.confirm()  # last known one second ago, not more: it may answer
    clock.seconds = 1.01
    with pytest.raises(Moved):
        await journal.confirm()
    assert journal.lost is not None
    await successor.confirm(latest=True)
    await journal.close()
    await successor.close()


async def test_a_read_of_the_latest_confirms_always_and_a_commit_confirms_too():
    clock = ManualClock()
    store = MemoryStore()
    looked = []
    real = store.latest
    store.latest = lambda: looked.append(clock.seconds) or real()
    journal, _ = await activate(store, clock=clock)
    looked.clear()
    clock.seconds = 5.0
    await journal.submit(("add", "x"))
    await journal.confirm()
    assert looked == [5.0]
    clock.seconds = 5.5
    await asyncio.gather(*(journal.confirm(latest=True) for _ in range(5)))
    assert looked == [5.0, 5.5]  # one look-up that began after all of them asked
    successor, _ = await activate(store.another(), clock=clock)
    with pytest.raises(Moved):
        await journal.confirm(latest=True)
    await journal.close()
    await successor.close()


async def test_closing_writes_what_is_queued_and_refuses_the_rest():
    store = Gate()
    journal, planner = await activate(store)
    store.shut()
    tasks = [asyncio.create_task(journal.submit(("add", str(i)))) for i in range(3)]
    await in_commit(store)
    closing = asyncio.create_task(journal.close())
    await asyncio.sleep(0)
    with pytest.raises(Moved, match="passivated"):
        await journal.submit(("add", "late"))
    store.open_gate.set()
    await closing
    assert [t.result() for t in tasks] == [(i, [i + 1]) for i in range(3)]
    assert planner.texts == ["0", "1", "2"]


async def test_upkeep_compacts_beside_the_writes(tmp_path):
    store = LanceStore(str(tmp_path / "memories.lance"))
    journal, planner = await activate(store, compact_every=10)
    for i in range(45):
        await journal.submit(("add", str(i)))
    await journal.close()
    assert journal.lost is None
    assert len(store._handle().get_fragments()) < 12
    again, _ = await activate(LanceStore(store.path), owner="b")
    assert again.live["text"].to_pylist() == [str(i) for i in range(45)] == planner.texts
    await again.close()


async def test_what_earlier_owners_left_is_compacted_too(tmp_path):
    """A cube that is taken over again and again, by hosts that die young, stays quick to read."""
    path = str(tmp_path / "memories.lance")
    for i in range(6):
        store = LanceStore(path)
        store.open()
        Owner(store, SystemClock(), str(i)).activate()
    journal, _ = await activate(LanceStore(path), compact_every=8)
    assert journal._owner.store.pieces() == 14
    await journal.close()
    assert journal._owner.store.pieces() == 1


async def test_two_journals_that_activate_at_once_leave_one_or_none(store):
    results = await asyncio.gather(
        *(activate(store.another(), owner=str(i)) for i in range(4)), return_exceptions=True
    )
    owners = [r[0] for r in results if not isinstance(r, BaseException)]
    assert all(isinstance(r, Moved) for r in results if isinstance(r, BaseException))
    written = 0
    for journal in owners:
        try:
            await journal.submit(("add", "x"))
            written += 1
        except Moved:
            pass
    assert written <= 1
    last, _ = await activate(store.another(), owner="last")
    assert len(last.live) >= written
    for journal in (*owners, last):
        await journal.close()


def test_the_settings_reach_the_journal():
    settings = Settings(queue_limit=5, group_rows=6, read_confirm_s=0.5, compact_every=7, cleanup_keep_s=700)
    assert JournalConfig.from_settings(settings) == JournalConfig(5, 6, 0.5, 7, 700)
