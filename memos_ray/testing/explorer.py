"""Every interleaving of a few owners of one log: drives the pure fence over Lance's semantics, in memory.

An owner follows a script of commands. Each of its steps is one access to storage: a read, the look-up or the
put of a commit, a look-up of the latest version, a clean-up. Any owner may take the next step at any time, so
stalls of any length and crashes (an owner that takes no further step) are among the schedules. States that
were reached before are not explored again.

What must hold, whatever the schedule:

- *kept*: what an owner opened with and acknowledged stays: the rows that count, of the log as in storage
  at any later time, begin with exactly these, in this order. Nothing acknowledged is missing, doubled or
  overtaken by a row that its owner did not know.
- *one owner*: nobody acknowledges or opens after an owner with a higher epoch opened.
- *fresh*: a read (with `consistency="latest"`) sees every row that was acknowledged before it was answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from memos_ray.cube import fence as f
from memos_ray.cube.live import Open, in_force, limit
from memos_ray.testing.memory_store import Slots

# Commands of a script. "write2" commits two rows at once.
ACTIVATE, WRITE, WRITE2, COMPACT, CLEAN, READ = "activate", "write", "write2", "compact", "clean", "read"


@dataclass(frozen=True, slots=True)
class World:
    """What the owners live in. `probing`: how Lance's commits look up the latest version in a local folder.

    They probe upwards from the version that they were built on (or a hint that may be older): once versions
    were cleaned up, a commit of a stalled owner needs no bad luck to fill a freed slot. Reads and look-ups of the
    latest version list the folder.
    """

    rules: f.Rules = f.ALL_RULES
    probing: bool = True

    def next_version(self, slots: Slots, base: int) -> int:
        """The version that a commit built on `base` will try to put."""
        return slots.first_free(base) if self.probing else slots.latest() + 1


class Row(NamedTuple):
    """A row of the abstract log. `seq` is the `start` of an open; `after` is 0 for anything else."""

    kind: int  # one of f.Item: CLAIM, OPEN, ROWS
    epoch: int
    seq: int
    after: int
    owner: int


Log = tuple[Row, ...]


class Host(NamedTuple):
    """One owner: its fence, where it is in its script, and what it is in the middle of."""

    fence: f.Fence
    at: int  # next command
    todo: f.Effect | None = None  # to be carried out
    put: tuple[int, Log] | None = None  # a commit that was looked up: the slot it will try, and its content
    view: Log = ()  # rows that count, as it folded them, and its own
    ignored: Log = ()  # rows that did not count when it opened
    opened: bool = False


class State(NamedTuple):
    """Everything there is, between two steps."""

    slots: Slots
    hosts: tuple[Host, ...]
    promised: Log  # the longest view of any owner that opened
    highest: int  # the highest epoch that opened


@dataclass(frozen=True, slots=True)
class Violation:
    """What went wrong, and the steps that lead there: (owner, what it did)."""

    what: str
    schedule: tuple[tuple[int, str], ...]

    def __str__(self) -> str:
        steps = "\n".join(f"  {i:3} owner {owner}: {did}" for i, (owner, did) in enumerate(self.schedule))
        return f"{self.what}, after\n{steps}"


@dataclass(frozen=True, slots=True)
class Explored:
    """`states` distinct states were seen; `violation` is the first thing found wrong, None if nothing was."""

    states: int
    violation: Violation | None


class _Wrong(Exception):
    """An invariant does not hold."""


def explore(
    scripts: Sequence[Sequence[str]], world: World = World(), *, max_states: int = 5_000_000
) -> Explored:
    """Explores all interleavings, depth first, up to the first violation.

    Raises `RuntimeError` beyond `max_states` states: the answer would not be one about all of them.
    """
    start = initial(len(scripts))
    came_from: dict[State, tuple[State, int, str] | None] = {start: None}
    stack = [start]
    while stack:
        state = stack.pop()
        for owner, host in enumerate(state.hosts):
            if not _can_step(host, scripts[owner]):
                continue
            try:
                after, did = step(state, owner, scripts[owner], world)
            except _Wrong as wrong:
                return Explored(
                    len(came_from), Violation(str(wrong), (*_path(came_from, state), (owner, "…")))
                )
            if after not in came_from:
                came_from[after] = (state, owner, did)
                stack.append(after)
        if len(came_from) > max_states:
            raise RuntimeError(f"more than {max_states} states: give shorter scripts")
    return Explored(len(came_from), None)


def replay(
    scripts: Sequence[Sequence[str]], turns: Sequence[tuple[int, int]], world: World = World()
) -> Violation | None:
    """Runs one schedule, given as (owner, steps that it takes). One that is lost or done skips its turns."""
    state = initial(len(scripts))
    done: list[tuple[int, str]] = []
    for owner in (owner for owner, steps in turns for _ in range(steps)):
        if not _can_step(state.hosts[owner], scripts[owner]):
            continue
        try:
            state, did = step(state, owner, scripts[owner], world)
        except _Wrong as wrong:
            return Violation(str(wrong), (*done, (owner, "…")))
        done.append((owner, did))
    return None


def initial(owners: int) -> State:
    """An empty log, and owners that have done nothing."""
    hosts = tuple(Host(f.Fence(token=str(i)), 0) for i in range(owners))
    return State(Slots(((1, ()),)), hosts, (), 0)


def _can_step(host: Host, script: Sequence[str]) -> bool:
    if host.fence.phase is f.Phase.LOST:
        return False
    return host.todo is not None or host.at < len(script)


def step(state: State, owner: int, script: Sequence[str], world: World) -> tuple[State, str]:
    """One access to storage by one owner."""
    host = state.hosts[owner]
    if host.todo is None:
        host, did = _begin(host, script[host.at], world.rules)
        if did == CLEAN:
            cleaned = state._replace(slots=state.slots.clean(host.fence.version))
            return _with(cleaned, owner, host), "cleans up"
        if host.todo is None:  # a read without the confirmation that storage would be asked for
            return _answer_read(_with(state, owner, host), host), "answers a read"
    return _access(state, owner, host, world)


def _begin(host: Host, command: str, rules: f.Rules) -> tuple[Host, str]:
    host = host._replace(at=host.at + 1)
    events: dict[str, f.Event] = {
        ACTIVATE: f.Activate(),
        WRITE: f.Write(1),
        WRITE2: f.Write(2),
        COMPACT: f.Rewrite(2),
        READ: f.Confirm(),
    }
    if command == CLEAN:
        return host, CLEAN
    fence, effect = f.step(host.fence, events[command], rules)
    return host._replace(fence=fence, todo=None if isinstance(effect, f.Done) else effect), command


def _access(state: State, owner: int, host: Host, world: World) -> tuple[State, str]:
    rules = world.rules
    todo = host.todo
    slots = state.slots
    if isinstance(todo, f.Commit):
        if host.put is None:
            version = world.next_version(slots, todo.base)
            looked_up = (version, _content(slots.content(), host, todo, owner))
            return _with(state, owner, host._replace(put=looked_up)), f"looks up, to commit {todo.item.name}"
        version, content = host.put
        after = slots.put(version, content)
        if after is None:
            return _event(state, owner, host, f.Failed("conflict"), rules), f"fails to put {version}"
        state = state._replace(slots=after)
        _check_kept(state, rules)
        if todo.item is f.Item.REWRITE and todo.rows == 0:  # first of its two versions; now the second
            again = host._replace(put=None, todo=todo._replace(rows=1))
            return _with(state, owner, again), f"puts {version}, to reserve"
        return _event(state, owner, host, f.Landed(version), rules), f"puts {version}, {todo.item.name}"
    if isinstance(todo, f.LookUp):
        return _event(state, owner, host, f.Latest(slots.latest()), rules), "looks up the latest version"
    if isinstance(todo, f.Probe):
        highest = max((r.epoch for r in slots.content()), default=0)
        return _event(state, owner, host, f.Probed(highest), rules), "looks for other epochs"
    assert isinstance(todo, f.ReadLog)
    read, view, ignored = _read(slots, host, owner, rules)
    host = host._replace(view=view, ignored=ignored)
    return _event(state, owner, host, read, rules), "reads the log"


def _content(log: Log, host: Host, commit: f.Commit, owner: int) -> Log:
    """What a commit makes of the log that it finds."""
    if commit.item is f.Item.REWRITE:
        return tuple(row for row in log if row not in host.ignored) if commit.rows else log
    if commit.item is f.Item.ROWS:
        return log + tuple(
            Row(f.Item.ROWS, commit.epoch, commit.start + i, 0, owner) for i in range(commit.rows)
        )
    return (*log, Row(commit.item, commit.epoch, commit.start, commit.after, owner))


def _read(slots: Slots, host: Host, owner: int, rules: f.Rules) -> tuple[f.Read, Log, Log]:
    log: Log = slots.content()
    chain = _chain(log, rules)
    view = _live(log, rules)
    ignored = tuple(r for r in log if r.kind == f.Item.ROWS and r not in view)
    read = f.Read(
        version=slots.latest(),
        highest_epoch=max((r.epoch for r in log), default=0),
        rival=any(r.kind == f.Item.CLAIM and r.epoch >= host.fence.epoch and r.owner != owner for r in log),
        top_seq=view[-1].seq if view else 0,
        top_recorded_seq=max((r.seq for r in log if r.kind != f.Item.CLAIM), default=0),
        last_open=chain[-1].epoch if chain else 0,
    )
    return read, view, ignored


def _chain(log: Log, rules: f.Rules) -> tuple[Open, ...]:
    opens = [Open(r.epoch, r.seq, r.after) for r in log if r.kind == f.Item.OPEN]
    return in_force(opens) if rules.chain else tuple(opens)


@lru_cache(maxsize=100_000)
def _live(log: Log, rules: f.Rules) -> Log:
    """The rows that count, by seq: the fold of the abstract log."""
    rows = [r for r in log if r.kind == f.Item.ROWS]
    if rules.fold_ignores:
        chain = _chain(log, rules)
        rows = [r for r in rows if r.seq < limit(chain, r.epoch)]
    return tuple(sorted(rows, key=lambda r: (r.seq, r.epoch)))


def _event(state: State, owner: int, host: Host, event: f.Event, rules: f.Rules) -> State:
    """Gives the fence what storage answered, and checks what its owner then tells its callers."""
    was = host.fence
    fence, effect = f.step(was, event, rules)
    host = host._replace(fence=fence, put=None, todo=None)
    if isinstance(effect, f.StepBack):
        return _with(state, owner, Host(f.Fence(fence.token, f.Phase.LOST), 0))
    if not isinstance(effect, f.Done):
        return _with(state, owner, host._replace(todo=effect))
    if was.phase is f.Phase.CONFIRMING:
        return _answer_read(_with(state, owner, host), host)
    if host.opened and was.item is f.Item.ROWS:
        own = tuple(Row(f.Item.ROWS, fence.epoch, s, 0, owner) for s in range(was.next_seq, fence.next_seq))
        host = host._replace(view=host.view + own)
    elif host.opened:
        return _with(state, owner, host)  # compacted: promises nothing
    host = host._replace(opened=True)
    if state.highest > fence.epoch:
        raise _Wrong(f"one owner: epoch {fence.epoch} acknowledged after epoch {state.highest} opened")
    longer, shorter = sorted((host.view, state.promised), key=len, reverse=True)
    if longer[: len(shorter)] != shorter:
        raise _Wrong(f"kept: epoch {fence.epoch} goes on without what others were promised")
    state = state._replace(promised=longer, highest=fence.epoch)
    _check_kept(state, rules)
    return _with(state, owner, host)


def _check_kept(state: State, rules: f.Rules) -> None:
    if _live(state.slots.content(), rules)[: len(state.promised)] != state.promised:
        raise _Wrong("kept: a row that was acknowledged, or built upon, no longer counts as it did")


def _answer_read(state: State, host: Host) -> State:
    if len(host.view) < len(state.promised):
        raise _Wrong(f"fresh: epoch {host.fence.epoch} answered a read without what was acknowledged before")
    return state


def _with(state: State, owner: int, host: Host) -> State:
    hosts = state.hosts
    return state._replace(hosts=(*hosts[:owner], host, *hosts[owner + 1 :]))


def _path(came_from: dict[State, tuple[State, int, str] | None], state: State) -> tuple[tuple[int, str], ...]:
    def back() -> Iterator[tuple[int, str]]:
        at = came_from[state]
        while at is not None:
            before, owner, did = at
            yield owner, did
            at = came_from[before]

    return tuple(reversed(list(back())))
