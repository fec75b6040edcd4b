"""The hits that fit a token budget, laid out as passages. Pure: knows neither cubes nor tokenizers.

A hit costs what it adds to the text: its line, its passage's heading if it is the first there, and the marks of what
is left out around it. Hits are taken in the order of their scores as long as they fit. Tokens of parts need not add up
to those of the whole, so the whole text is counted in the end, and decides.
"""

from __future__ import annotations

import math
from bisect import bisect, insort
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from memos_ray.arguments import check_whole
from memos_ray.protocols import TokenCounter
from memos_ray.retrieval.budget import approximate_tokens
from memos_ray.retrieval.passages import GAP, Entry, entry, holds, is_gap, passage_order, passage_text
from memos_ray.types import Passage, SearchHit

_ROUNDS = 3  # of filling up what the whole text turned out to leave


class Fate(StrEnum):
    """What became of a hit."""

    SHOWN = "shown"
    REPEAT = "repeat"  # one that is shown says the same, or holds it
    TOO_LONG = "too long"  # did not fit what was left of the budget
    BEYOND = "beyond"  # nothing was left, or as many as were asked for were shown


@dataclass(frozen=True, slots=True)
class Packed:
    """`hits`: those that are shown, best first, each with the `tokens` that it cost when it came in. `passages` are in
    the order of `text`. `fates` tells of every hit that was given, in their order."""

    hits: list[SearchHit]
    passages: tuple[Passage, ...]
    text: str
    fates: tuple[Fate, ...]


def pack_hits(
    hits: Sequence[SearchHit],
    *,
    budget_tokens: int | None = None,
    most: int | None = None,
    count_tokens: TokenCounter = approximate_tokens,
) -> Packed:
    """Passages of `hits` (best first) of at most `budget_tokens`, headings and marks included.

    `most`: so many hits are shown at most. What says the same as a hit that is shown (letter case and white space
    aside), or is a passage of a document that is contained in another, is left out; its sources stay with the passage.
    Raises `Invalid` for a budget or a number below 1.
    """
    if budget_tokens is not None:
        check_whole(budget_tokens, "budget_tokens", 1)
    if most is not None:
        check_whole(most, "top_k", 1)
    several = len({hit.cube_id for hit in hits}) > 1
    draft = _Draft([entry(hit, name_cube=several) for hit in hits], count_tokens, most or len(hits))
    if budget_tokens is None:
        draft.fill(range(len(hits)), math.inf)
    else:
        draft.fill_to(budget_tokens)
    return draft.packed()


class _Draft:
    """Passages in the making. Hits are named by their position among the hits."""

    def __init__(self, entries: Sequence[Entry], count: TokenCounter, most: int) -> None:
        self._entries = entries
        self._count = count
        self._most = most
        self._passages: dict[Hashable, list[tuple[Any, int]]] = {}  # (order, position), ascending
        self._tokens: dict[int, int] = {}  # shown -> what it cost when it came in
        self._by_text: dict[Hashable, int] = {}  # what is said -> who is shown saying it
        self._repeats: dict[int, int] = {}  # repeat -> who is shown in its place
        self._missed: set[int] = set()
        self._counted: dict[str, int] = {}  # headings and marks
        self._lines: dict[int, int] = {}

    def fill(self, positions: Iterable[int], left: float) -> None:
        """Takes each of `positions` in turn that says something new and costs no more than what is left by then."""
        for position in positions:
            if len(self._tokens) >= self._most or left <= 0:
                break
            if self._is_repeat(position):
                continue
            cost = self._take(position, left)
            if cost is None:
                self._missed.add(position)
            else:
                left -= cost

    def fill_to(self, budget: int) -> None:
        """`fill`, and again while the whole text is shorter than its parts were; never longer than `budget`."""
        left, given_up = budget, set[int]()
        for _ in range(_ROUNDS):
            before = set(self._tokens)  # not how many: a document's passage may take another's place
            seen = {*self._tokens, *self._repeats, *given_up}
            self.fill([i for i in range(len(self._entries)) if i not in seen], left)
            if before == set(self._tokens):
                break
            while (total := self._count(self._text())) > budget:
                worst = max(self._tokens)
                self._drop(worst)
                given_up.add(worst)
            left = budget - total
        self._missed |= given_up

    def packed(self) -> Packed:
        """What there is now."""
        passages = []
        for members in self._in_order():
            said = [self._entries[j].hit for i in members for j in (i, *self._repeats_of(i))]
            sources = dict.fromkeys(source for hit in said for source in hit.item.sources)
            text = passage_text([self._entries[i] for i in members])
            passages.append(Passage(text, tuple(self._hit(i) for i in members), tuple(sources)))
        return Packed(
            hits=[self._hit(i) for i in sorted(self._tokens)],
            passages=tuple(passages),
            text="\n\n".join(passage.text for passage in passages),
            fates=tuple(self._fate(i) for i in range(len(self._entries))),
        )

    def _text(self) -> str:
        passages = (passage_text([self._entries[i] for i in members]) for members in self._in_order())
        return "\n\n".join(passages)

    def _hit(self, position: int) -> SearchHit:
        return replace(self._entries[position].hit, tokens=self._tokens[position])

    def _fate(self, position: int) -> Fate:
        if position in self._tokens:
            return Fate.SHOWN
        if position in self._repeats:
            return Fate.REPEAT
        return Fate.TOO_LONG if position in self._missed else Fate.BEYOND

    def _in_order(self) -> list[list[int]]:
        best: dict[str | None, int] = {}  # document -> its first hit
        for i in sorted(self._tokens):
            best.setdefault(self._entries[i].hit.item.source.document, i)
        passages = [[i for _, i in members] for members in self._passages.values()]
        return sorted(passages, key=lambda p: self._rank(p, best))

    def _rank(self, members: list[int], best: dict[str | None, int]) -> tuple[Any, ...]:
        first = self._entries[members[0]]
        return passage_order(first, best[first.hit.item.source.document])

    def _repeats_of(self, position: int) -> list[int]:
        return [i for i, shown in self._repeats.items() if shown == position]

    def _is_repeat(self, position: int) -> bool:
        """Whether one that is shown says the same, or is a document's passage that contains it; if so, notes that."""
        e = self._entries[position]
        by = self._by_text.get(e.same)
        if by is None and e.is_document:
            by = next((i for i in self._documents(e) if holds(self._entries[i].says, e.says)), None)
        if by is not None:
            self._repeats[position] = by
        return by is not None

    def _documents(self, e: Entry) -> list[int]:
        """The shown passages of documents in the same cube."""
        return [i for i in self._tokens if self._entries[i].same[:-1] == e.same[:-1]]

    def _take(self, position: int, left: float) -> int | None:
        """Shows one, in the place of a document's passages that it contains. Returns what that added; None, and nothing
        has changed, if it is more than `left`."""
        e = self._entries[position]
        inside = (
            [i for i in self._documents(e) if holds(e.says, self._entries[i].says)] if e.is_document else []
        )
        had = {i: (self._tokens[i], self._repeats_of(i)) for i in inside}
        freed = sum(self._drop(i) for i in inside)
        own = self._cost(position)
        cost = own - freed
        fits = cost <= left
        for i, (tokens, repeats) in had.items():
            if not fits:
                self._put(i, tokens)
            self._repeats |= dict.fromkeys(repeats if not fits else (i, *repeats), position if fits else i)
        if not fits:
            return None
        self._put(position, own)
        return cost

    def _put(self, position: int, tokens: int) -> None:
        e = self._entries[position]
        insort(self._passages.setdefault(e.passage, []), (e.order, position))
        self._tokens[position] = tokens
        self._by_text[e.same] = position

    def _drop(self, position: int) -> int:
        """Takes one out. Returns how many tokens that frees. What it stood for is open again."""
        e = self._entries[position]
        members = self._passages[e.passage]
        members.remove((e.order, position))
        if not members:
            del self._passages[e.passage]
        del self._tokens[position], self._by_text[e.same]
        for i in self._repeats_of(position):
            del self._repeats[i]
        return self._cost(position)

    def _cost(self, position: int) -> int:
        """What one that is not shown would add to the text."""
        e = self._entries[position]
        line = self._lines.get(position)
        if line is None:
            line = self._lines[position] = self._count(f"{e.line}\n")
        members = self._passages.get(e.passage)
        if not members:
            return line + self._part(e.header)
        at = bisect(members, (e.order, position))
        before = self._entries[members[at - 1][1]] if at else None
        after = self._entries[members[at][1]] if at < len(members) else None
        marks = _marks(before, e) + _marks(e, after) - _marks(before, after)
        return line + marks * self._part(GAP) if marks else line

    def _part(self, text: str) -> int:
        tokens = self._counted.get(text)
        if tokens is None:
            tokens = self._counted[text] = self._count(f"{text}\n")
        return tokens


def _marks(before: Entry | None, after: Entry | None) -> int:
    return int(before is not None and after is not None and is_gap(before, after))
