"""What is read before a memory's text when it is embedded: a message means more after what was said before it.

The context of a message is the end of what its session said before it, by the versions that are live now. That of a
document's part is its path of headings; other kinds have none. Knows the state, and no vectors.

So a memory's text goes into the vectors of those that follow it. It must not outlast itself there: `affected` tells
whose context to look at again after a change, and a message that expires is read only before those that expire no
later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from memos_ray.cube.columns import Growable, values_of
from memos_ray.cube.state import KIND_CODE, CubeState
from memos_ray.cube.vector_store import hashes as text_hashes
from memos_ray.retrieval.arrays import Saved, array_of
from memos_ray.types import Kind, LinkType

CONTEXT_CHARS = 160
"""What a text is read after. By length, on LoCoMo: turns embedded in a second of one core, and recall in the first 10
of late interaction alone: 0 characters 106 and 70.0; 120: 63 and 75.2; 160: 56 and 76.2; 240: 45 and 76.3."""
_LOOK_BACK = (
    32  # messages, live or not: who deletes a long session and goes on in it does not pay for all of it
)
_WORD = 40  # characters: where no space comes so soon, the text has none (Chinese), and is cut anywhere
_SPACE = re.compile(r"\s")
_MESSAGE, _DOCUMENT = KIND_CODE[Kind.MESSAGE], KIND_CODE[Kind.DOCUMENT]
_NONE = -1
_COLUMNS = ("before", "follower", "sibling", "length", "hash")


class Contexts:
    """Which message came before which, by memory numbers. Reads what is new in the state when it is asked."""

    def __init__(self, state: CubeState) -> None:
        self._state = state
        self._before = Growable(np.empty(0, np.int64))  # memory -> the one that it follows
        self._follower = Growable(np.empty(0, np.int64))  # memory -> the last one that follows it
        self._sibling = Growable(np.empty(0, np.int64))  # memory -> another one that follows the same
        self._linked = 0  # slots whose links are known
        self._length = Growable(np.empty(0, np.int64))  # by slot: characters
        self._hash = Growable(np.empty(0, np.int64))  # by slot: of the text

    def saved(self) -> Saved:
        """What `restore` takes, of all slots of this moment: copies."""
        self.catch_up()
        return {name: getattr(self, f"_{name}").view.copy() for name in _COLUMNS}

    def restore(self, saved: Saved) -> None:
        """Takes over what was `saved` of the first slots of this state; only before anything was read. `KeyError`,
        `TypeError` or `ValueError` for what is none, and nothing is changed."""
        columns = {name: Growable(array_of(saved, name, np.int64)) for name in _COLUMNS}
        slots, memories = columns["hash"].size, columns["before"].size
        if slots > self._state.n_slots or memories > self._state.n_memories:
            raise ValueError("contexts of more slots than there are")
        if {c.size for n, c in columns.items() if n not in ("hash", "length")} != {memories}:
            raise ValueError("contexts of columns that do not fit together")
        for name, column in columns.items():
            setattr(self, f"_{name}", column if name in ("hash", "length") else Growable(column.view.copy()))
        self._linked = slots

    def of(self, slots: Sequence[int] | NDArray[np.integer]) -> list[str]:
        """The contexts of these slots as they are now, "" for none: of `CONTEXT_CHARS` characters at most."""
        at = np.asarray(slots, np.int64)
        parts: list[list[str]] = [[] for _ in at]
        for owners, said in self._said_before(at):
            for i, text in zip(owners.tolist(), self._state.texts(said), strict=True):
                parts[i].append(text)
        contexts = [_end(" ".join(reversed(one))) if one else "" for one in parts]
        for i, heading in self._headings(at):
            contexts[i] = _end(heading)
        return contexts

    def hashes(self, slots: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
        """(n,) for each slot what its context is made of, in 64 bits; 0 for none.

        Of the hashes of the whole texts of which it has the end, so that no text must be read again for it.
        """
        at = np.asarray(slots, np.int64)
        made = np.zeros(len(at), np.uint64)
        for owners, said in self._said_before(at):
            made[owners] = _mixed(made[owners] + self._hash.view[said].astype(np.uint64))
        headings = list(self._headings(at))
        if headings:
            found = text_hashes([heading for _, heading in headings])
            made[[i for i, _ in headings]] = _mixed(found.astype(np.uint64))
        return made.astype(np.int64)

    def text_hashes(self, slots: NDArray[np.integer]) -> NDArray[np.int64]:
        """(n,) `vector_store.hashes` of the slots' texts."""
        self.catch_up()
        found: NDArray[np.int64] = self._hash.view[slots]
        return found

    def catch_up(self, most: int | None = None) -> bool:
        """Reads new slots, `most` of them if it is given (2,000 cost about 4 ms). Says whether all are read."""
        self._catch_up_links()
        start, stop = self._hash.size, self._state.n_slots
        stop = stop if most is None else min(stop, start + most)
        if start < stop:
            texts = self._state.texts(np.arange(start, stop))
            self._length.extend(list(map(len, texts)))
            self._hash.extend(text_hashes(texts))
        return stop == self._state.n_slots

    def affected(self, memories: Iterable[int]) -> NDArray[np.int64]:
        """Live slots, ascending, whose context these memories (or one that took their place) may be part of."""
        self.catch_up()
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

    def _said_before(self, slots: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """(positions in `slots`, a slot whose text is in the context of each), what was said last first."""
        self.catch_up()
        state = self._state
        active, expires, newest = state.slot_active.view, state.slot_expires.view, state.memory_slot.view
        before, length = self._before.view, self._length.view
        at = np.flatnonzero(state.slot_kind.view[slots] == _MESSAGE)
        memory, end = state.slot_memory.view[slots[at]], expires[slots[at]]
        left = np.full(len(at), CONTEXT_CHARS)
        for _ in range(_LOOK_BACK):
            memory = before[memory]
            going = (memory != _NONE) & (left >= 0)
            at, memory, end, left = at[going], memory[going], end[going], left[going]
            if not len(at):
                return
            said = newest[memory]
            live = (said != _NONE) & active[said] & (expires[said] >= end)
            if live.any():
                left[live] -= length[said[live]] + 1
                yield at[live], said[live]

    def _headings(self, slots: NDArray[np.int64]) -> Iterator[tuple[int, str]]:
        """Positions in `slots` of documents' parts that have a heading, and it."""
        at = np.flatnonzero(self._state.slot_kind.view[slots] == _DOCUMENT)
        if not len(at):
            return
        store = self._state.store
        rows = self._state.slot_row.view[slots[at]]
        if (rows < store.base).any():
            offsets, sources = store.source_spans()
            inside = np.flatnonzero(rows < store.base)
            inside = inside[offsets[rows[inside] + 1] > offsets[rows[inside]]]
            headings = sources.field("heading").take(pa.array(offsets[rows[inside]]))
            for i, heading in zip(at[inside].tolist(), values_of(headings), strict=True):
                if heading:
                    yield i, heading
        for j in np.flatnonzero(rows >= store.base).tolist():
            origin = store.appended[int(rows[j]) - store.base].sources
            if origin and (heading := origin[0].heading):
                yield int(at[j]), heading

    def _catch_up_links(self) -> None:
        state, store = self._state, self._state.store
        for column in (self._before, self._follower, self._sibling):
            column.extend(np.full(state.n_memories - column.size, _NONE, np.int64))
        loaded = int(np.searchsorted(state.slot_row.view, store.base))
        if self._linked < loaded:
            self._take_loaded(self._linked, loaded)
            self._linked = loaded
        for slot in range(self._linked, state.n_slots):
            row = store.appended[int(state.slot_row.view[slot]) - store.base]
            for link in row.links:
                if link.type == LinkType.FOLLOWS:
                    self._follow(int(state.slot_memory.view[slot]), state.number(link.target))
                    break
        self._linked = state.n_slots

    def _follow(self, memory: int, before: int | None) -> None:
        """Only the first time: later versions of a memory have the same place in the session."""
        if before is None or before == memory or self._before.view[memory] != _NONE:
            return
        self._before.view[memory] = before
        self._sibling.view[memory] = self._follower.view[before]
        self._follower.view[before] = memory

    def _take_loaded(self, start: int, stop: int) -> None:
        """`_follow` for these slots of the loaded table, by column."""
        state, store = self._state, self._state.store
        rows = state.slot_row.view[:stop]
        offsets, links = store.link_spans()
        first_link = int(offsets[rows[start]])
        at = first_link + np.flatnonzero(_equal(links.field("type").slice(first_link), LinkType.FOLLOWS))
        linked = np.searchsorted(offsets, at, side="right") - 1
        slot = np.minimum(np.searchsorted(rows, linked), stop - 1)
        before = state.numbers(values_of(links.field("target").take(pa.array(at))))
        memory = state.slot_memory.view[slot] if len(at) else at
        good = np.flatnonzero((before >= 0) & (before != memory) & (rows[slot] == linked)) if len(at) else at
        _, first = np.unique(memory[good], return_index=True)
        memory, before = memory[good][first], before[good][first]  # ascending by memory
        if start:
            for later, earlier in zip(memory.tolist(), before.tolist(), strict=True):
                self._follow(later, earlier)
            return
        self._before.view[memory] = before
        order = np.argsort(before, kind="stable")
        memory, before = memory[order], before[order]
        same = np.flatnonzero(before[1:] == before[:-1])
        self._sibling.view[memory[same + 1]] = memory[same]
        self._follower.view[before] = memory  # numpy keeps the last of repeated indices


def _equal(column: Any, value: str) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = pc.fill_null(pc.equal(column, value), False).to_numpy(zero_copy_only=False)
    return mask


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A permutation of 64 bits that is not additive: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (values ^ (values >> np.uint64(31))) + np.uint64(CONTEXT_CHARS)


def _end(text: str) -> str:
    """The last `CONTEXT_CHARS` characters, from the begin of a word."""
    if len(text) <= CONTEXT_CHARS:
        return text
    start = len(text) - CONTEXT_CHARS
    if not text[start - 1].isspace():
        space = _SPACE.search(text, start, start + _WORD)
        start = space.end() if space else start
    return text[start:]
