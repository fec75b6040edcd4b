"""The fence machine, one transition at a time."""

import pytest

from memos_ray.cube import fence as f


def drive(fence, *events):
    effect = None
    for event in events:
        fence, effect = f.step(fence, event)
    return fence, effect


def read(version, highest=0, rival=False, top=0, after=0):
    return f.Read(version, highest, rival, top, top, after)


OPENING = (
    f.Activate(),
    read(4, 2),
    f.Landed(5),
    f.Latest(5),
    read(5, 3, top=9, after=2),
    f.Landed(6),
    f.Latest(6),
)


def owner():
    fence, effect = drive(f.Fence("me"), *OPENING)
    assert effect == f.Done()
    return fence


def test_activation():
    fence, effect = drive(f.Fence("me"), *OPENING[:2])
    assert effect == f.Commit(f.Item.CLAIM, base=4, epoch=3, start=1, after=0, rows=0)
    fence, effect = drive(fence, *OPENING[2:5])
    assert effect == f.Commit(f.Item.OPEN, base=5, epoch=3, start=10, after=2, rows=0)
    fence, effect = drive(fence, *OPENING[5:])
    assert (fence.phase, fence.epoch, fence.version, fence.next_seq) == (f.Phase.OWNING, 3, 6, 10)


def test_a_write():
    fence, effect = drive(owner(), f.Write(2))
    assert effect == f.Commit(f.Item.ROWS, base=6, epoch=3, start=10, after=2, rows=2)
    fence, effect = drive(fence, f.Landed(7))
    assert effect == f.LookUp()
    fence, effect = drive(fence, f.Latest(7))
    assert effect == f.Done()
    assert (fence.version, fence.next_seq) == (7, 12)


def test_it_may_fold_a_version_after_its_claim():
    """A stalled commit of the owner before may land in between; nobody else has claimed."""
    fence, effect = drive(f.Fence("me"), *OPENING[:4], read(6, 3, top=11))
    assert effect == f.Commit(f.Item.OPEN, base=6, epoch=3, start=12, after=0, rows=0)
    assert drive(fence, f.Landed(7), f.Latest(7))[1] == f.Done()


@pytest.mark.parametrize(
    "events",
    [
        (f.Write(1), f.Landed(8)),
        (f.Write(1), f.Landed(7), f.Latest(8)),
        (f.Write(1), f.Failed("disk full")),
        (f.Write(1), f.Landed(7), f.Failed("unreachable")),
        (f.Confirm(), f.Latest(7)),
        (f.Confirm(), f.Failed("unreachable")),
        (f.Rewrite(2), f.Landed(7)),
        (f.Rewrite(2), f.Landed(9)),
        (f.Rewrite(2), f.Landed(8), f.Latest(9)),
        (f.Rewrite(2), f.Landed(8), f.Latest(8), f.Probed(4)),
    ],
)
def test_whatever_is_not_as_expected_loses_the_log_for_good(events):
    fence, effect = drive(owner(), *events)
    assert fence.phase is f.Phase.LOST
    assert isinstance(effect, f.StepBack)
    assert effect.reason
    for command in (f.Write(1), f.Confirm(), f.Rewrite(2), f.Activate()):
        assert f.step(fence, command) == (fence, effect)


@pytest.mark.parametrize(
    "events",
    [
        (read(4, 2), f.Landed(6)),
        (read(4, 2), f.Landed(5), f.Latest(6)),
        (read(4, 2), f.Landed(5), f.Latest(5), read(6, 4, rival=True)),
        (read(4, 2), f.Landed(5), f.Latest(5), read(5, 3), f.Landed(7)),
        (read(4, 2), f.Landed(5), f.Latest(5), read(5, 3), f.Landed(6), f.Latest(7)),
        (f.Failed("unreadable"),),
    ],
)
def test_an_activation_that_another_crosses_steps_back(events):
    fence, effect = drive(f.Fence("me"), f.Activate(), *events)
    assert fence.phase is f.Phase.LOST
    assert isinstance(effect, f.StepBack)


def test_a_compaction_and_a_confirmation_keep_the_log():
    fence, effect = drive(owner(), f.Rewrite(2), f.Landed(8), f.Latest(8))
    assert effect == f.Probe(8)
    fence, effect = drive(fence, f.Probed(3))
    assert (effect, fence.version, fence.next_seq) == (f.Done(), 8, 10)
    fence, effect = drive(fence, f.Confirm(), f.Latest(8), f.Write(1))
    assert effect == f.Commit(f.Item.ROWS, base=8, epoch=3, start=10, after=2, rows=1)
    assert drive(fence, f.Landed(9), f.Latest(9))[0].version == 9


def test_events_out_of_order_are_a_bug():
    with pytest.raises(RuntimeError, match="does not fit"):
        f.step(f.Fence("me"), f.Write(1))
    with pytest.raises(RuntimeError, match="does not fit"):
        f.step(owner(), f.Landed(7))
