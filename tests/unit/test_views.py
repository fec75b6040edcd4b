from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from memos_ray.cube import views
from memos_ray.cube.requests import (
    AddMemories,
    ArchiveMemory,
    CreateSnapshot,
    DeleteMemories,
    MergeMemories,
    RestoreMemory,
    RestoreSnapshot,
    UpdateMemory,
)
from memos_ray.errors import NotFound
from memos_ray.ingest.drafts import MemoryDraft
from memos_ray.testing.plain_journal import START, PlainJournal
from memos_ray.types import Kind

JAN, FEB, MAR, APR, MAY = (datetime(2023, m, 1, tzinfo=UTC) for m in range(1, 6))
NOW = START + timedelta(days=1)  # after everything that a journal of these tests commits


def fact(text: str, since: datetime = JAN, **changes: object) -> MemoryDraft:
    return replace(MemoryDraft(text, Kind.FACT, since), **changes)  # type: ignore[arg-type]


class Cube(PlainJournal):
    def add(self, *drafts: MemoryDraft) -> tuple[str, ...]:
        return self.submit(AddMemories(drafts)).ids  # type: ignore[no-any-return]

    def seen(self, *, now: datetime = NOW, **point: datetime) -> list[str]:
        mask = views.view(self.state, now=now, **point)
        folded = self.state.from_table("cube", self.state.store.to_table())
        assert (views.view(folded, now=now, **point) == mask).all()
        return self.texts(mask)

    def texts(self, mask: views.Mask) -> list[str]:
        assert mask.shape == (self.state.n_slots,)
        return sorted(self.state.texts(mask.nonzero()[0]))


@pytest.fixture
def cube() -> Cube:
    return Cube()


def test_as_of_asks_valid_time(cube: Cube) -> None:
    key = ("Ann", "lives_in")
    cube.add(fact("Rome", JAN, supersedes_key=key), fact("Bonn", MAR, supersedes_key=key))
    cube.add(fact("trip", FEB, valid_to=MAR), fact("always", JAN))
    assert cube.seen() == ["Bonn", "always", "trip"]
    assert cube.seen(as_of=JAN - timedelta(days=1)) == []
    assert cube.seen(as_of=JAN) == ["Rome", "always"]
    assert cube.seen(as_of=FEB) == ["Rome", "always", "trip"]
    assert cube.seen(as_of=MAR) == ["Bonn", "always"]


def test_versions_with_times_of_their_own(cube: Cube) -> None:
    (one,) = cube.add(fact("v1", JAN))
    cube.submit(UpdateMemory(one, text="v2", valid_from=MAR))
    cube.submit(UpdateMemory(one, text="v3", valid_from=MAR, valid_to=APR))
    assert [cube.seen(as_of=t) for t in (JAN, FEB, MAR, APR)] == [["v1"], ["v1"], ["v3"], []]
    cube.submit(UpdateMemory(one, text="v4", valid_from=JAN, valid_to=None))
    assert [cube.seen(as_of=t) for t in (JAN, MAR, APR)] == [["v4"]] * 3


def test_deleted_archived_and_merged_are_in_no_present_view(cube: Cube) -> None:
    a, b, c, d = cube.add(*(fact(x) for x in "abcd"))
    before = cube.clock.time
    cube.submit(UpdateMemory(a, text="A", valid_from=MAR))
    cube.submit(DeleteMemories((a,)))
    cube.submit(ArchiveMemory(b))
    cube.submit(MergeMemories(c, (d,)))
    assert cube.seen() == cube.seen(as_of=FEB) == cube.seen(as_of=MAY) == ["c"]
    assert cube.seen(known_at=before) == cube.seen(known_at=before, as_of=FEB) == ["a", "b", "c", "d"]
    cube.submit(RestoreMemory(b))
    assert cube.seen(as_of=FEB) == ["b", "c"]


def test_known_at_asks_recorded_time(cube: Cube) -> None:
    times = [cube.clock.time]
    (one,) = cube.add(fact("v1"))
    times.append(cube.clock.time)
    cube.submit(UpdateMemory(one, text="v2", valid_from=MAR))
    times.append(cube.clock.time)
    cube.submit(DeleteMemories((one,)))
    times.append(cube.clock.time)
    assert [cube.seen(known_at=t) for t in times] == [[], ["v1"], ["v2"], []]
    assert [cube.seen(known_at=t, as_of=FEB) for t in times] == [[], ["v1"], ["v1"], []]
    assert [cube.seen(known_at=t, as_of=APR) for t in times] == [[], ["v1"], ["v2"], []]


def test_expiry_is_deletion_at_that_time(cube: Cube) -> None:
    end = START + timedelta(hours=1)
    cube.add(fact("brief", expires_at=end), fact("lasting"))
    second = timedelta(seconds=1)
    assert cube.seen(now=end - second) == ["brief", "lasting"]
    assert cube.seen(now=end) == cube.seen(now=end, as_of=FEB) == ["lasting"]
    assert cube.seen(now=NOW, known_at=end - second) == ["brief", "lasting"]
    assert cube.seen(now=NOW, known_at=end - second, as_of=FEB) == ["brief", "lasting"]
    assert cube.seen(now=NOW, known_at=end) == ["lasting"]
    assert cube.seen(now=end - second, known_at=NOW) == ["brief", "lasting"]  # the future is not known


def test_an_update_can_take_an_expiry_back(cube: Cube) -> None:
    (one,) = cube.add(fact("a", expires_at=START))
    assert cube.seen(now=NOW) == []
    cube.submit(UpdateMemory(one, text="b", valid_from=MAR, expires_at=None))
    assert cube.seen(now=NOW) == ["b"]
    assert cube.seen(now=NOW, as_of=FEB) == ["a"]


def test_a_snapshot_is_a_view(cube: Cube) -> None:
    (one, two) = cube.add(fact("a"), fact("b"))
    cube.submit(CreateSnapshot("s"))
    cube.submit(UpdateMemory(one, text="A"))
    cube.submit(DeleteMemories((two,)))
    assert cube.texts(views.at_snapshot(cube.state, "s")) == ["a", "b"]
    assert cube.texts(views.at_snapshot(cube.state, "s", as_of=JAN - timedelta(days=1))) == []
    assert cube.texts(views.at_seq(cube.state, 1, now=NOW)) == ["a"]
    cube.submit(RestoreSnapshot("s"))
    assert cube.seen() == ["a", "b"]
    with pytest.raises(NotFound, match="there are: s"):
        views.at_snapshot(cube.state, "t")


def test_slot_at_finds_a_memory_in_a_view(cube: Cube) -> None:
    a, b = cube.add(fact("a"), fact("b"))
    before = cube.clock.time
    cube.submit(MergeMemories(a, (b,)))
    state = cube.state
    assert state.item(views.slot_at(state, b, views.current(state, NOW)) or 0).id == a
    then = views.view(state, now=NOW, known_at=before)
    assert state.item(views.slot_at(state, b, then) or 0).id == b
    assert views.slot_at(state, a, views.view(state, now=NOW, as_of=JAN - timedelta(days=1))) is None
    with pytest.raises(NotFound):
        views.slot_at(state, "nope", then)


def test_masks_belong_to_the_caller(cube: Cube) -> None:
    (one,) = cube.add(fact("a"))
    mask = views.current(cube.state, NOW)
    mask[:] = False
    cube.submit(UpdateMemory(one, text="b"))
    assert mask.tolist() == [False]
    assert views.current(cube.state, NOW).tolist() == [False, True]
