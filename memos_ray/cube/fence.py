"""The fence: how one owner of a cube's log is told from another. A pure machine; it does no I/O.

`step(fence, event)` returns the next state and the effect to carry out; the effect's outcome comes back as
the next event. The same code is driven by `cube.owner` on real storage and by `testing.explorer` through
every interleaving of several owners. The rules, by the names that `Rules` gives them:

1. To activate, an owner reads the log and appends a `claim` with epoch = highest + 1.
2. `reread`: it reads again, and steps back if another claim has this or a higher epoch. (A version never changes:
   while its claim is the latest, `cube.owner` has that version in memory, and only looks up that it is.)
3. `open_row`: it folds what it read, and appends an `open` whose `start` exceeds every seq that counts
   (`start_at_live`: not those of rows that do not count, see below), and that names the `open` before it
   (`chain`).
4. `landing`: every commit must land at exactly the version after the one it was built on (a compaction of
   Lance takes two versions: at the second after); `latest`: after it returned, the latest version is looked
   up and must be that same version. Otherwise, and after any exception, the owner is lost: it acknowledges
   nothing, and never goes on from what it reads then.
5. `fold_ignores`: rows of an epoch whose seq reaches the `start` of a later `open` in force do not count.
6. `rewrite_check`: after the owner's own compaction was committed, the same checks as in 4, and at the new
   version no other epoch has claimed.
7. `confirm_reads`: before it answers a read, an owner looks up the latest version (how often is the caller's
   business).

Why `start` follows the rows that count and not every seq ever recorded: an owner's stalled commit carries the
seq after its own last row. If rows that do not count had pushed `start` beyond that, the stalled commit would
land below it and count, behind the back of the owner that opened. Why `chain`: see `live.in_force`.

A switched-off rule is for tests only: each has a schedule in `testing.explorer` that goes wrong without it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Rules(NamedTuple):
    """Which rules hold. All of them, outside tests that show what each is for."""

    reread: bool = True
    open_row: bool = True
    start_at_live: bool = True
    chain: bool = True
    landing: bool = True
    latest: bool = True
    fold_ignores: bool = True
    rewrite_check: bool = True
    confirm_reads: bool = True


ALL_RULES = Rules()


class Phase(IntEnum):
    """Where an owner stands."""

    NEW = 0
    SURVEYING = 1  # reads the log before its claim
    COMMITTING = 2  # something of its own is on the way
    CHECKING = 3  # that landed; is it still the latest version?
    REREADING = 4  # its claim stands; reads again
    PROBING = 5  # its compaction stands; has another epoch claimed?
    OWNING = 6
    CONFIRMING = 7
    LOST = 8


class Item(IntEnum):
    """What is being committed."""

    CLAIM = 0
    OPEN = 1
    ROWS = 2
    REWRITE = 3


class Fence(NamedTuple):
    """One owner's state. `version` is the version of the log that it knows to be its own latest."""

    token: str  # names this owner in its claim row
    phase: Phase = Phase.NEW
    epoch: int = 0
    version: int = 0
    next_seq: int = 1
    after: int = 0  # epoch of the open in force before ours
    item: Item = Item.CLAIM
    rows: int = 0  # rows on the way
    span: int = 1  # versions that what is on the way takes
    landed: int = 0
    reason: str = ""  # why it was lost


class Activate(NamedTuple):
    """Command: become the owner."""


class Write(NamedTuple):
    """Command: commit `rows` rows."""

    rows: int


class Rewrite(NamedTuple):
    """Command: commit a compaction that was prepared beside the writes. It takes `span` versions."""

    span: int


class Confirm(NamedTuple):
    """Command: make sure that this is still the owner."""


class Read(NamedTuple):
    """Event: the log as of `version`, its latest."""

    version: int
    highest_epoch: int
    rival: bool  # another's claim has this owner's epoch or a higher one
    top_seq: int  # of the rows that count
    top_recorded_seq: int  # of all rows, and of all starts
    last_open: int  # epoch of the highest open in force, 0 without


class Landed(NamedTuple):
    """Event: the commit returned; it is version `version`."""

    version: int


class Failed(NamedTuple):
    """Event: the commit, or any look at storage, raised."""

    reason: str


class Latest(NamedTuple):
    """Event: `version` is the latest in storage."""

    version: int


class Probed(NamedTuple):
    """Event: the highest epoch found in the version that a compaction made."""

    highest_epoch: int


Event = Activate | Write | Rewrite | Confirm | Read | Landed | Failed | Latest | Probed


class ReadLog(NamedTuple):
    """Effect: read the latest version; answer `Read`."""


class Commit(NamedTuple):
    """Effect: commit `item` built on version `base`; answer `Landed`.

    A claim or open row carries `epoch`, `start` and `after`; rows carry `epoch` and seqs from `start` on.
    """

    item: Item
    base: int
    epoch: int
    start: int
    after: int
    rows: int


class LookUp(NamedTuple):
    """Effect: look up the latest version in storage; answer `Latest`."""


class Probe(NamedTuple):
    """Effect: find the highest epoch in `version`; answer `Probed`."""

    version: int


class Done(NamedTuple):
    """Effect: tell the caller that its command succeeded: opened, acknowledged, compacted or confirmed."""


class StepBack(NamedTuple):
    """Effect: tell every caller to look the cube up again."""

    reason: str


Effect = ReadLog | Commit | LookUp | Probe | Done | StepBack


def step(f: Fence, event: Event, rules: Rules = ALL_RULES) -> tuple[Fence, Effect]:
    """The next state and what to do. An event that does not fit the phase is a bug and raises."""
    if f.phase is Phase.LOST:
        return f, StepBack(f.reason)
    match f.phase, event:
        case _, Failed(reason):
            return _lose(f, reason)
        case Phase.NEW, Activate():
            return f._replace(phase=Phase.SURVEYING), ReadLog()
        case Phase.SURVEYING, Read():
            return _commit(f._replace(version=event.version, epoch=event.highest_epoch + 1), Item.CLAIM)
        case Phase.COMMITTING, Landed(version):
            return _on_landed(f, version, rules)
        case Phase.CHECKING, Latest(version):
            if version != f.landed:
                return _lose(f, f"version {version} is in storage after this owner's {f.landed}")
            return _on_committed(f, rules)
        case Phase.REREADING, Read():
            return _on_reread(f, event, rules)
        case Phase.PROBING, Probed(highest):
            if highest > f.epoch:
                return _lose(f, f"epoch {highest} has claimed the log from epoch {f.epoch}")
            return f._replace(phase=Phase.OWNING), Done()
        case Phase.OWNING, Write(rows):
            return _commit(f._replace(rows=rows), Item.ROWS)
        case Phase.OWNING, Rewrite(span):
            return _commit(f._replace(span=span), Item.REWRITE)
        case Phase.OWNING, Confirm():
            if not rules.confirm_reads:
                return f, Done()
            return f._replace(phase=Phase.CONFIRMING), LookUp()
        case Phase.CONFIRMING, Latest(version):
            if version != f.version:
                return _lose(f, f"version {version} is in storage after this owner's {f.version}")
            return f._replace(phase=Phase.OWNING), Done()
        case _:
            raise RuntimeError(f"{event!r} does not fit {f!r}")


def _commit(f: Fence, item: Item) -> tuple[Fence, Effect]:
    f = f._replace(phase=Phase.COMMITTING, item=item)
    return f, Commit(item, f.version, f.epoch, f.next_seq, f.after, f.rows)


def _on_landed(f: Fence, version: int, rules: Rules) -> tuple[Fence, Effect]:
    f = f._replace(landed=version)
    if f.item is Item.REWRITE and not rules.rewrite_check:
        return f._replace(phase=Phase.OWNING, version=version, span=1), Done()
    if rules.landing and version != f.version + f.span:
        return _lose(f, f"a commit built on version {f.version} landed at {version}: another owner wrote")
    if rules.latest:
        return f._replace(phase=Phase.CHECKING), LookUp()
    return _on_committed(f, rules)


def _on_committed(f: Fence, rules: Rules) -> tuple[Fence, Effect]:
    """The commit is where it was expected, and the latest."""
    f = f._replace(version=f.landed, span=1)
    match f.item:
        case Item.CLAIM:
            return f._replace(phase=Phase.REREADING), ReadLog()
        case Item.OPEN:
            return f._replace(phase=Phase.OWNING), Done()
        case Item.ROWS:
            return f._replace(phase=Phase.OWNING, next_seq=f.next_seq + f.rows, rows=0), Done()
        case Item.REWRITE:
            return f._replace(phase=Phase.PROBING), Probe(f.landed)


def _on_reread(f: Fence, read: Read, rules: Rules) -> tuple[Fence, Effect]:
    if rules.reread and read.rival:
        return _lose(f, f"another owner has claimed epoch {f.epoch} or a higher one")
    top = read.top_seq if rules.start_at_live else read.top_recorded_seq
    f = f._replace(version=read.version, next_seq=top + 1, after=read.last_open)
    if not rules.open_row:
        return f._replace(phase=Phase.OWNING), Done()
    return _commit(f, Item.OPEN)


def _lose(f: Fence, reason: str) -> tuple[Fence, Effect]:
    f = Fence(f.token, Phase.LOST, f.epoch, reason=reason)
    return f, StepBack(reason)
