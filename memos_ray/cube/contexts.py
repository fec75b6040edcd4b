"""What is read before a memory's text when it is embedded: a message means more after what was said before it.

The context of a message is the end of what its session said before it, by the versions that are live now. That of a
document's part is its path of headings; other kinds have none. Knows the state, and no vectors.

So a memory's text goes into the vectors of those that follow it. It must not outlast itself there: `affected` tells
whose context to look at again after a change, and a message that expires is read only before those that expire no
later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from memos_ray.cube.columns import Growable, values_of
from memos_ray.cube.state import KIND_CODE, CubeState
from memos_ray.types import Kind, LinkType

CONTEXT_CHARS = 240
_LOOK_BACK = (
    32  # messages, live or not: who deletes a long session and goes on in it does not pay for all of it
)
_WORD = 40  # characters: where no space comes so soon, the text has none (Chinese), and is cut anywhere
_SPACE = re.compile(r"\s")
_MESSAGE, _DOCUMENT = KIND_CODE[Kind.MESSAGE], KIND_CODE[Kind.DOCUMENT]
_NONE = -1


class Contexts:
    """Which message came before which, by memory numbers. Reads what is new in the state when it is asked."""

    def __init__(self, state: CubeState) -> None:
        self._state = state
        self._before = Growable(np.empty(0, np.int64))  # memory -> the one that it follows
        self._follower = Growable(np.empty(0, np.int64))  # memory -> the last one that follows it
        self._sibling = Growable(np.empty(0, np.int64))  # memory -> another one that follows the same
        self._taken = 0

    def of(self, slots: Sequence[int] | NDArray[np.integer]) -> list[str]:
        """The contexts of these slots as they are now, "" for none: of `CONTEXT_CHARS` characters at most."""
        self._catch_up()
        at = np.asarray(slots, np.int64)
        kinds = self._state.slot_kind.view[at]
        contexts = [""] * len(at)
        for kind, find in ((_MESSAGE, self._said_before), (_DOCUMENT, self._headings)):
            wanted = np.flatnonzero(kinds == kind)
            if len(wanted):
                for i, context in zip(wanted.tolist(), find(at[wanted]), strict=True):
                    contexts[i] = context
        return contexts

    def affected(self, memories: Iterable[int]) -> NDArray[np.int64]:
        """Live slots, ascending, whose context these memories (or one that took their place) may be part of."""
        self._catch_up()
        follower, sibling = self._follower.view, self._sibling.view
        seen = set(memories)
        level, reached = list(seen), []
        for _ in range(_LOOK_BACK):
            behind = []
            for memory in level:
                after = int(follower[memory])
                while after != _NONE:
                    if after not in seen:
                        seen.add(after)
                        behind.append(after)
                    after = int(sibling[after])
            if not behind:
                break
            reached += behind
            level = behind
        slots = self._state.memory_slot.view[np.array(reached, np.int64)]
        slots = slots[slots >= 0]
        return np.sort(slots[self._state.slot_active.view[slots]])

    def _said_before(self, slots: NDArray[np.int64]) -> list[str]:
        state = self._state
        active, expires, newest = state.slot_active.view, state.slot_expires.view, state.memory_slot.view
        before = self._before.view
        pieces: list[list[str]] = [[] for _ in slots]
        left = [CONTEXT_CHARS] * len(slots)
        at, memory, end = np.arange(len(slots)), state.slot_memory.view[slots], expires[slots]
        for _ in range(_LOOK_BACK):
            memory = before[memory]
            going = memory != _NONE
            at, memory, end = at[going], memory[going], end[going]
            if not len(at):
                break
            said = newest[memory]
            live = (said != _NONE) & active[said] & (expires[said] >= end)
            done = np.zeros(len(at), np.bool_)
            where = np.flatnonzero(live)
            for j, i, text in zip(where.tolist(), at[where].tolist(), state.texts(said[where]), strict=True):
                pieces[i].append(text)
                left[i] -= len(text) + 1
                done[j] = left[i] < 0
            at, memory, end = at[~done], memory[~done], end[~done]
        return [_end(" ".join(reversed(parts))) if parts else "" for parts in pieces]

    def _headings(self, slots: NDArray[np.int64]) -> list[str]:
        store = self._state.store
        rows = self._state.slot_row.view[slots]
        found: list[str | None] = [None] * len(rows)
        loaded = np.flatnonzero(rows < store.base)
        if len(loaded):
            offsets, sources = store.source_spans()
            loaded = loaded[offsets[rows[loaded] + 1] > offsets[rows[loaded]]]
            headings = sources.field("heading").take(pa.array(offsets[rows[loaded]]))
            for i, heading in zip(loaded.tolist(), values_of(headings), strict=True):
                found[i] = heading
        for i in np.flatnonzero(rows >= store.base).tolist():
            origin = store.appended[int(rows[i]) - store.base].sources
            found[i] = origin[0].heading if origin else None
        return [_end(heading) if heading else "" for heading in found]

    def _catch_up(self) -> None:
        state, store = self._state, self._state.store
        for column in (self._before, self._follower, self._sibling):
            column.extend(np.full(state.n_memories - column.size, _NONE, np.int64))
        if not self._taken and store.base:
            self._take_loaded()
        for slot in range(self._taken, state.n_slots):
            row = store.appended[int(state.slot_row.view[slot]) - store.base]
            for link in row.links:
                if link.type == LinkType.FOLLOWS:
                    self._follow(int(state.slot_memory.view[slot]), state.number(link.target))
                    break
        self._taken = state.n_slots

    def _follow(self, memory: int, before: int | None) -> None:
        """Only the first time: later versions of a memory have the same place in the session."""
        if before is None or before == memory or self._before.view[memory] != _NONE:
            return
        self._before.view[memory] = before
        self._sibling.view[memory] = self._follower.view[before]
        self._follower.view[before] = memory

    def _take_loaded(self) -> None:
        """`_follow` for all slots of the loaded table, by column."""
        state, store = self._state, self._state.store
        rows = state.slot_row.view
        self._taken = int(np.searchsorted(rows, store.base))
        offsets, links = store.link_spans()
        at = np.flatnonzero(_equal(links.field("type"), LinkType.FOLLOWS))
        linked = np.searchsorted(offsets, at, side="right") - 1
        slot = np.minimum(np.searchsorted(rows[: self._taken], linked), max(self._taken - 1, 0))
        before = state.numbers(values_of(links.field("target").take(pa.array(at))))
        memory = state.slot_memory.view[slot] if len(at) else at
        good = np.flatnonzero((before >= 0) & (before != memory) & (rows[slot] == linked)) if len(at) else at
        _, first = np.unique(memory[good], return_index=True)
        memory, before = memory[good][first], before[good][first]  # ascending by memory
        self._before.view[memory] = before
        order = np.argsort(before, kind="stable")
        memory, before = memory[order], before[order]
        same = np.flatnonzero(before[1:] == before[:-1])
        self._sibling.view[memory[same + 1]] = memory[same]
        self._follower.view[before] = memory  # numpy keeps the last of repeated indices


def _equal(column: Any, value: str) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = pc.fill_null(pc.equal(column, value), False).to_numpy(zero_copy_only=False)
    return mask


def _end(text: str) -> str:
    """The last `CONTEXT_CHARS` characters, from the begin of a word."""
    if len(text) <= CONTEXT_CHARS:
        return text
    start = len(text) - CONTEXT_CHARS
    if not text[start - 1].isspace():
        space = _SPACE.search(text, start, start + _WORD)
        start = space.end() if space else start
    return text[start:]
