"""Turns: no call is forgotten, none too many run, and no cube keeps the others waiting."""

import asyncio
import contextlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_ray.admission import Admission
from memos_ray.errors import Overloaded


class Calls:
    """Calls that end when they are told to; who runs, in what order they got their turns."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.began: list[str] = []
        self.running: Counter[str] = Counter()
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def _one(self, name: str, cube: str) -> None:
        async with self.admission.turn(cube):
            self.began.append(name)
            self.running[cube] += 1
            try:
                await self.ends[name].wait()
            finally:
                self.running[cube] -= 1

    async def begin(self, name: str) -> None:
        """`name` is the cube's, and a number: "a1"."""
        self.ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._one(name, name[0]))
        await settled()

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await self.tasks[name]
        await settled()

    async def cancel(self, name: str) -> None:
        self.tasks[name].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.tasks[name]
        await settled()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_calls_run_until_slots_or_the_cubes_part_are_taken():
    calls = Calls(Admission(slots=3, per_cube=2, waiting=10))
    for name in ("a1", "a2", "a3", "b1", "b2"):
        await calls.begin(name)
    assert calls.began == ["a1", "a2", "b1"]
    assert calls.admission.waiting == 2
    await calls.end("b1")
    assert calls.began[3:] == ["b2"]  # `a` has its part
    await calls.end("a1")
    assert calls.began[4:] == ["a3"]
    assert calls.admission.waiting == 0


async def test_a_cube_with_one_call_waits_for_one_call_of_every_other_at_most():
    calls = Calls(Admission(slots=1, per_cube=1, waiting=100))
    await calls.begin("a0")
    for i in range(1, 50):
        await calls.begin(f"a{i}")
    for i in range(5):
        await calls.begin(f"b{i}")
    await calls.begin("c0")
    order = []
    for _ in range(9):
        name = calls.began[-1]
        await calls.end(name)
        order.append(calls.began[-1])
    assert order == ["a1", "b0", "c0", "a2", "b1", "a3", "b2", "a4", "b3"]


async def test_a_full_mailbox_says_when_to_come_back_and_others_are_not_concerned():
    calls = Calls(Admission(slots=1, per_cube=1, waiting=2))
    for name in ("a0", "a1", "a2"):
        await calls.begin(name)
    with pytest.raises(Overloaded) as refused:
        async with calls.admission.turn("a"):
            pass
    assert refused.value.retry_after_s >= 0.05
    await calls.begin("b0")
    assert calls.admission.waiting == 3
    await calls.end("a0")
    await calls.begin("a3")  # there is room again
    assert calls.admission.waiting == 3


async def test_no_mailbox_at_all():
    calls = Calls(Admission(slots=1, per_cube=1, waiting=0))
    await calls.begin("a0")
    for cube in ("a", "b"):
        with pytest.raises(Overloaded):
            async with calls.admission.turn(cube):
                pass
    await calls.end("a0")
    await calls.begin("b0")
    assert calls.began == ["a0", "b0"]


async def test_retry_after_grows_with_what_waits_and_how_long_calls_take():
    admission = Admission(slots=1, per_cube=1, waiting=50)
    admission._takes_s = 1.0
    calls = Calls(admission)
    for i in range(51):
        await calls.begin(f"a{i}")
    with pytest.raises(Overloaded) as refused:
        async with admission.turn("a"):
            pass
    assert refused.value.retry_after_s == 25.0


async def test_a_caller_that_goes_away_leaves_no_gap():
    calls = Calls(Admission(slots=1, per_cube=1, waiting=10))
    for name in ("a0", "a1", "a2", "b0"):
        await calls.begin(name)
    await calls.cancel("a1")
    assert calls.admission.waiting == 2
    await calls.end("a0")
    await calls.end(calls.began[-1])
    assert calls.began == ["a0", "a2", "b0"]


async def test_a_turn_given_to_a_caller_that_has_just_gone_is_passed_on():
    calls = Calls(Admission(slots=1, per_cube=1, waiting=10))
    for name in ("a0", "a1", "b0"):
        await calls.begin(name)
    calls.ends["a0"].set()
    for _ in range(20):
        await asyncio.sleep(0)
        calls.tasks["a1"].cancel()  # at whatever moment: before, with, or after its turn
        if calls.tasks["a0"].done():
            break
    await settled()
    assert calls.began[-1] == "b0"
    await calls.end("b0")
    await calls.begin("c0")
    assert calls.began[-1] == "c0"


async def test_a_call_that_fails_gives_its_turn_back():
    admission = Admission(slots=1, per_cube=1, waiting=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with admission.turn("a"):
                raise ZeroDivisionError
    assert admission._total == 0
    assert not admission._running


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.sampled_from("abc")),
        st.tuples(st.sampled_from(["end", "cancel", "cancel with"]), st.integers(0, 30)),
    ),
    max_size=60,
)


@given(steps=STEPS, slots=st.integers(1, 4), per_cube=st.integers(1, 3), waiting=st.integers(1, 5))
def test_whatever_happens_no_turn_is_lost_and_none_is_given_twice(
    steps: list[tuple[str, str | int]], slots: int, per_cube: int, waiting: int
):
    async def run() -> None:
        admission = Admission(slots=slots, per_cube=per_cube, waiting=waiting)
        calls = Calls(admission)
        for number, (what, which) in enumerate(steps):
            live = [name for name, task in calls.tasks.items() if not task.done()]
            if what == "begin":
                await calls.begin(f"{which}{number}")
                task = calls.tasks[f"{which}{number}"]
                assert task.done() == (isinstance(task.done() and task.exception(), Overloaded))
            elif live:
                name = live[int(which) % len(live)]
                if what == "end" and name in calls.began:
                    await calls.end(name)
                elif what == "cancel with" and name in calls.began:  # somebody leaves as a turn becomes free
                    other = live[(int(which) + 1) % len(live)]
                    calls.ends[name].set()
                    await asyncio.sleep(0)
                    await calls.cancel(other)
                elif what == "cancel":
                    await calls.cancel(name)
            await settled()
            held = calls.running
            waits = Counter(n[0] for n, t in calls.tasks.items() if not t.done() and n not in calls.began)
            assert held.total() <= slots
            assert all(n <= per_cube for n in held.values())
            assert admission.waiting == waits.total()
            assert all(n <= waiting for n in waits.values())
            if held.total() < slots:  # a slot is free: nobody waits who could have it
                assert all(held[cube] >= per_cube for cube in waits)
        for name, task in calls.tasks.items():
            if not task.done():
                calls.ends[name].set()
        for event in calls.ends.values():
            event.set()
        done = await asyncio.wait_for(
            asyncio.gather(*calls.tasks.values(), return_exceptions=True), timeout=10
        )
        assert all(isinstance(d, None | Overloaded | asyncio.CancelledError) for d in done)
        assert admission._total == 0
        assert not admission._running
        assert not admission._mailboxes

    asyncio.run(run())
