"""The cube's core against a model of plain dicts, under random calls, crashes included.

The system under test sits behind `Sut`, so that the same machine can drive a cube with real storage.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from memos_ray.cube import views
from memos_ray.cube.requests import (
    AddMemories,
    ArchiveMemory,
    CreateSnapshot,
    DeleteAll,
    DeleteMemories,
    MergeMemories,
    Request,
    RestoreMemory,
    RestoreSnapshot,
    UpdateMemory,
)
from memos_ray.cube.state import CubeState
from memos_ray.errors import Conflict, MemosError, NotFound
from memos_ray.ids import memory_id
from memos_ray.ingest.drafts import MemoryDraft
from memos_ray.testing.plain_journal import PlainJournal
from memos_ray.types import Kind, Source

DAY = timedelta(days=1)
ORIGIN = datetime(2023, 1, 1, tzinfo=UTC)
TEXTS = st.sampled_from(["likes tea", "likes coffee", "moved", "去了上海", "ok"])
DAYS = st.sampled_from([0, 0, 0, 3, 6])


class Sut(Protocol):
    """What the machine needs of a cube."""

    def group(self, requests: list[Request]) -> list[Any]:
        """Submits together; for each an answer or the `MemosError`."""

    def crash(self) -> None:
        """Loses the process."""

    @property
    def state(self) -> CubeState:
        """What is read from."""

    def now(self) -> datetime:
        """A time not before the last commit, and before the next."""


class CoreSut:
    def __init__(self) -> None:
        self.journal = PlainJournal("cube")

    def group(self, requests: list[Request]) -> list[Any]:
        return self.journal.submit_group(requests)

    def crash(self) -> None:
        self.journal.crash()

    @property
    def state(self) -> CubeState:
        return self.journal.state

    def now(self) -> datetime:
        return self.journal.clock.time


@dataclass(frozen=True)
class Version:
    """What the model knows of one version. `status` as in `types.Status`, `into` for merged ones."""

    text: str
    kind: Kind
    start: int
    end: int | None
    sources: frozenset[str]
    status: str = "active"
    into: str | None = None
    number: int = 1


@dataclass
class Model:
    """Memories by id, and every state that there was, by commit."""

    memories: dict[str, list[Version]] = field(default_factory=dict)
    snapshots: dict[str, dict[str, Version]] = field(default_factory=dict)

    def newest(self) -> dict[str, Version]:
        return {i: v[-1] for i, v in self.memories.items()}

    def resolve(self, wanted: str) -> str:
        while (version := self.memories[wanted][-1]).status == "merged":
            assert version.into is not None
            wanted = version.into
        return wanted

    def alive(self, wanted: str) -> str | None:
        found = self.resolve(wanted)
        return None if self.memories[found][-1].status == "deleted" else found

    def push(self, wanted: str, **changes: Any) -> None:
        old = self.memories[wanted][-1]
        self.memories[wanted].append(replace(old, number=old.number + 1, **changes))

    def add(self, op_id: str, drafts: list[tuple[str, Kind, int, int | None, str]]) -> list[str]:
        ids = []
        for position, (text, kind, start, end, source) in enumerate(drafts):
            same = None
            if kind is not Kind.MESSAGE:
                key = (text, kind, start, end)
                same = next(
                    (i for i, v in self.newest().items() if v.status == "active" and _key(v) == key), None
                )
            if same is None:
                same = memory_id("cube", op_id, position)
                self.memories[same] = [Version(text, kind, start, end, frozenset([source]))]
            elif source not in self.memories[same][-1].sources:
                self.push(same, sources=self.memories[same][-1].sources | {source})
            ids.append(same)
        return ids

    def visible(self, as_of: int | None = None) -> dict[str, str]:
        """Texts of the memories in view. Only for the present place on the recorded axis."""
        found = {}
        for i, versions in self.memories.items():
            if versions[-1].status != "active":
                continue
            if as_of is None:
                found[i] = versions[-1].text
                continue
            deciding = [v for v in versions if v.status == "active" and v.start <= as_of]
            if deciding and (deciding[-1].end is None or deciding[-1].end > as_of):
                found[i] = deciding[-1].text
        return found


def _key(v: Version) -> tuple[str, Kind, int, int | None]:
    return (v.text, v.kind, v.start, v.end)


def _time(day: int) -> datetime:
    return ORIGIN + day * DAY


drafts_ = st.lists(
    st.tuples(
        TEXTS,
        st.sampled_from([Kind.MESSAGE, Kind.FACT, Kind.DOCUMENT]),
        DAYS,
        st.none() | st.just(9),
        st.sampled_from(["d1", "d2"]),
    ),
    min_size=1,
    max_size=3,
)


class CubeMachine(RuleBasedStateMachine):
    """Random requests; after each, the present view is compared, and now and then everything."""

    ids = Bundle("ids")
    done = Bundle("done")

    def make(self) -> Sut:
        return CoreSut()

    @initialize()
    def start(self) -> None:
        self.sut, self.model = self.make(), Model()
        self.ops = 0
        self.seen: list[tuple[datetime, dict[str, str], list[dict[str, str]]]] = []

    def submit(self, request: Request, expected: type[MemosError] | None = None) -> Any:
        answer = self.sut.group([request])[0]
        if expected is None:
            assert not isinstance(answer, MemosError), answer
        else:
            assert isinstance(answer, expected), answer
        return answer

    def op(self) -> str:
        self.ops += 1
        return f"op{self.ops}"

    @rule(target=ids, drafts=drafts_)
    def add(self, drafts: list[Any]) -> Any:
        request = self._request(drafts)
        result = self.submit(request)
        expected = self.model.add(request.op_id, drafts)
        assert list(result.ids) == expected
        return multiple(*expected)

    @rule(target=ids, first=drafts_, second=drafts_)
    def add_group_with_repetition(self, first: list[Any], second: list[Any]) -> Any:
        one, two = self._request(first), self._request(second)
        answers = self.sut.group([one, two, one])
        expected = [self.model.add(one.op_id, first), self.model.add(two.op_id, second)]
        assert [list(a.ids) for a in answers] == [*expected, expected[0]]
        assert answers[0] == answers[2]
        return multiple(*expected[0], *expected[1])

    def _request(self, drafts: list[Any]) -> AddMemories:
        made = [
            MemoryDraft(text, kind, _time(a), None if b is None else _time(b), source=Source(document=s))
            for text, kind, a, b, s in drafts
        ]
        return AddMemories(made, op_id=self.op())

    @rule(target=done, wanted=ids, text=TEXTS, day=st.none() | DAYS, wrong=st.booleans())
    def update(self, wanted: str, text: str, day: int | None, wrong: bool) -> Any:
        found = self.model.alive(wanted)
        times = {} if day is None else {"valid_from": _time(day)}
        number = None if found is None else self.model.memories[found][-1].number
        request = UpdateMemory(
            wanted, text=text, if_version=99 if wrong else number, op_id=self.op(), **times
        )
        if found is None:
            self.submit(request, NotFound)
            return multiple()
        if wrong:
            self.submit(request, Conflict)
            return multiple()
        answer = self.submit(request)
        old = self.model.memories[found][-1]
        changed = replace(old, text=text, start=old.start if day is None else day)
        assert answer.events[0].event == ("NONE" if changed == old else "UPDATE")
        if changed != old:
            self.model.push(found, text=text, start=changed.start)
        return (request, answer)

    @rule(target=done, wanted=consumes(ids))
    def delete(self, wanted: str) -> Any:
        found, request = self.model.alive(wanted), DeleteMemories((wanted,), op_id=self.op())
        if found is None:
            self.submit(request, NotFound)
            return multiple()
        answer = self.submit(request)
        self.model.push(found, status="deleted", text="")
        return (request, answer)

    @rule(kind=st.sampled_from([Kind.FACT, Kind.DOCUMENT]))
    def delete_all(self, kind: Kind) -> None:
        answer = self.submit(DeleteAll({"kind": kind.value}, op_id=self.op()))
        gone = [
            i for i, v in self.model.newest().items() if v.kind is kind and v.status in ("active", "archived")
        ]
        assert sorted(answer.ids) == sorted(gone)
        for i in gone:
            self.model.push(i, status="deleted", text="")

    @rule(wanted=ids, back=st.booleans())
    def archive_or_restore(self, wanted: str, back: bool) -> None:
        found = self.model.alive(wanted)
        request = (RestoreMemory if back else ArchiveMemory)(wanted, op_id=self.op())
        if found is None:
            self.submit(request, NotFound)
            return
        self.submit(request)
        status = "active" if back else "archived"
        if self.model.memories[found][-1].status != status:
            self.model.push(found, status=status)

    @rule(a=ids, b=ids)
    def merge_any(self, a: str, b: str) -> None:
        self.merge(a, b)

    def merge(self, a: str, b: str) -> None:
        x, y = self.model.memories[a][-1], self.model.memories[b][-1]
        request = MergeMemories(a, (b,), {a: x.number, b: y.number}, op_id=self.op())
        alike = (x.kind, x.start, x.end, x.status) == (y.kind, y.start, y.end, y.status)
        if a == b or not alike or x.status not in ("active", "archived") or x.kind is Kind.MESSAGE:
            self.submit(request, MemosError)
            return
        self.submit(request)
        self.model.push(a, sources=x.sources | y.sources)
        self.model.push(b, status="merged", into=a, text="")

    @rule(data=st.data())
    def merge_alike(self, data: st.DataObject) -> None:
        newest = self.model.newest().items()
        alive = [(i, v) for i, v in newest if v.status == "active" and v.kind is not Kind.MESSAGE]
        alike = [
            (i, j)
            for i, v in alive
            for j, w in alive
            if i != j and (v.kind, v.start, v.end) == (w.kind, w.start, w.end)
        ]
        if alike:
            self.merge(*data.draw(st.sampled_from(alike)))

    @precondition(lambda self: len(self.model.snapshots) < 3)
    @rule()
    def snapshot(self) -> None:
        name = f"s{len(self.model.snapshots)}"
        self.submit(CreateSnapshot(name, op_id=self.op()))
        self.submit(CreateSnapshot(name, op_id=self.op()), Conflict)
        self.model.snapshots[name] = self.model.newest()

    @precondition(lambda self: self.model.snapshots)
    @rule(data=st.data())
    def restore_snapshot(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.model.snapshots)))
        self.submit(RestoreSnapshot(name, op_id=self.op()))
        target = self.model.snapshots[name]
        for i, current in self.model.newest().items():
            wanted = target.get(i)
            if wanted is None or wanted.status == "deleted":
                if current.status != "deleted":
                    self.model.push(i, status="deleted", text="")
            elif wanted.status == "merged":
                if (current.status, current.into) != ("merged", wanted.into):
                    self.model.push(i, status="merged", into=wanted.into, text="")
            elif replace(current, number=0, into=None) != replace(wanted, number=0, into=None):
                self.model.push(i, **{n: getattr(wanted, n) for n in ("text", "start", "status", "sources")})

    @rule(earlier=done)
    def repeat(self, earlier: Any) -> None:
        request, answer = earlier
        assert self.submit(request) == answer
        self.submit(ArchiveMemory("other", op_id=request.op_id), Conflict)

    @rule()
    def crash(self) -> None:
        self.sut.crash()

    @rule()
    def note_what_is_known(self) -> None:
        days = [self.model.visible(as_of=day) for day in range(7)]
        self.seen.append((self.sut.now(), self.model.visible(), days))

    @invariant()
    def the_present_is_right(self) -> None:
        if hasattr(self, "sut"):
            state = self.sut.state
            assert _texts(state, views.current(state, self.sut.now())) == self.model.visible()

    def teardown(self) -> None:
        if not hasattr(self, "sut"):
            return
        self.check_everything()
        self.sut.crash()
        self.check_everything()

    def check_everything(self) -> None:
        state, now = self.sut.state, self.sut.now()
        assert set(state.ids) == set(self.model.memories)
        for i, versions in self.model.memories.items():
            history = state.history(i)
            assert [(e.item.version, e.item.text, e.item.status.value) for e in history] == [
                (v.number, v.text, v.status) for v in versions
            ]
            assert {s.document for s in history[0].item.sources} <= {"d1", "d2"}
            alive = self.model.alive(i)
            found = state.find(i)
            assert (found.id if found else None) == alive
            if found is not None and alive is not None:
                assert {s.document for s in found.sources} == self.model.memories[alive][-1].sources
        for day in range(7):
            mask = views.view(state, now=now, as_of=_time(day))
            assert _texts(state, mask) == self.model.visible(as_of=day)
        for when, visible, days in self.seen:
            assert _texts(state, views.view(state, now=now, known_at=when)) == visible
            for day in (0, 3, 6):
                mask = views.view(state, now=now, known_at=when, as_of=_time(day))
                assert _texts(state, mask) == days[day]
        for name, newest in self.model.snapshots.items():
            expected = {i: v.text for i, v in newest.items() if v.status == "active"}
            assert _texts(state, views.at_snapshot(state, name)) == expected


def _texts(state: CubeState, mask: views.Mask) -> dict[str, str]:
    slots = mask.nonzero()[0]
    found = dict(zip((state.ids[m] for m in state.slot_memory.view[slots]), state.texts(slots), strict=True))
    assert len(found) == len(slots)
    return found


CubeMachine.TestCase.settings = settings(
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestCubeModel = CubeMachine.TestCase
