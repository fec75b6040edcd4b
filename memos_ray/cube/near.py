"""Near duplicates among derived memories and documents: which of them say the same in almost the same words.

Decides by exact Jaccard similarity of character shingles over normalised text, English and Chinese alike. It only
proposes: `MergeMemories` checks everything again, with the versions named here. Messages are never looked at.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from memos_ray.cube.keys import KEY_FIELD, holder_key, scope_of, triple_object
from memos_ray.cube.rows import JournalRow
from memos_ray.cube.state import KIND_CODE, CubeState
from memos_ray.types import Kind

THRESHOLD = 0.9  # Graphiti merges names deterministically from this similarity on
_SHINGLE = 3
_MESSAGE = KIND_CODE[Kind.MESSAGE]
_WORDS = re.compile(r"\w+")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
# One of these words more or less turns a statement into its opposite, at any similarity.
_NEGATIONS_EN = frozenset(
    [
        "no",
        "not",
        "never",
        "none",
        "nobody",
        "nothing",
        "neither",
        "nor",
        "without",
        "cannot",
        "don",
        "doesn",
        "didn",
        "isn",
        "aren",
        "wasn",
        "weren",
        "won",
        "wouldn",
        "can",
        "couldn",
        "shouldn",
        "hasn",
        "haven",
        "hadn",
        "t",
        "dislikes",
        "hates",
        "stopped",
    ]
)
_NEGATIONS_ZH = re.compile("[不没無无非未别莫勿否]")

Shingles = frozenset[str]


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Memories to merge into `survivor`, if all are still at these versions: what `MergeMemories` takes."""

    survivor: str
    merged: tuple[str, ...]
    if_versions: Mapping[str, int]


def shingles(text: str) -> Shingles:
    """Normalised text (NFKC, lower case, no punctuation) -> its character trigrams; CJK text: bigrams."""
    plain = " ".join(_WORDS.findall(unicodedata.normalize("NFKC", text).casefold()))
    size = 2 if _CJK.search(plain) else _SHINGLE
    return frozenset(plain[i : i + size] for i in range(max(1, len(plain) - size + 1)))


def jaccard(a: Shingles, b: Shingles) -> float:
    """Size of the intersection over the size of the union; 1 for two empty sets."""
    common = len(a & b)
    union = len(a) + len(b) - common
    return common / union if union else 1.0


def candidates(state: CubeState, slots: Iterable[int], threshold: float = THRESHOLD) -> list[Duplicates]:
    """`NearIndex.candidates` for a single use."""
    return NearIndex(state).candidates(slots, threshold)


class NearIndex:
    """Remembers what it has read, so that asking for a few new slots at a time costs about 50 µs each.

    Ask in small portions where other work waits: a first question about slots whose kind and valid times many
    others share (a batch of documents) reads all of those.
    """

    def __init__(self, state: CubeState) -> None:
        self._state = state
        self._by_time: dict[tuple[int, ...], list[int]] = defaultdict(list)
        self._taken = 0
        self._by_meaning: dict[Hashable, list[int]] = defaultdict(list)
        self._meaning: dict[int, Hashable] = {}

    def candidates(self, slots: Iterable[int], threshold: float = THRESHOLD) -> list[Duplicates]:
        """What to merge, among pairs of which at least one is in `slots`: both active, of the same kind, valid
        times, scope and entities, with the same numbers and negations, and similar to at least `threshold`.

        The older one of a pair survives. Every memory is in at most one of the results.
        """
        state = self._state
        active, kinds = state.slot_active.view, state.slot_kind.view
        wanted = {int(s) for s in slots if active[s] and kinds[s] != _MESSAGE}
        if not wanted:
            return []
        self._read(wanted)
        pairs: list[tuple[int, int, float]] = []
        for meaning in {self._meaning[s] for s in wanted if s in self._meaning}:
            group = [s for s in self._by_meaning[meaning] if active[s]]
            if len(group) > 1:
                found = similar([shingles(t) for t in state.texts(group)], threshold)
                pairs += [
                    (group[i], group[j], x)
                    for i, j, x in found
                    if not wanted.isdisjoint((group[i], group[j]))
                ]
        return self._stars(pairs)

    def _stars(self, pairs: list[tuple[int, int, float]]) -> list[Duplicates]:
        """Pairs of slots -> survivors with what is merged into each; none that is merged survives another."""
        state = self._state
        age = state.slot_memory.view  # memories are numbered in the order in which they came
        survivor_of: dict[int, int] = {}
        for a, b, _ in sorted(pairs, key=lambda p: (-p[2], p[0], p[1])):
            older, newer = (a, b) if age[a] < age[b] else (b, a)
            if newer in survivor_of or older in survivor_of or newer in survivor_of.values():
                continue
            survivor_of[newer] = older
        merged: dict[int, list[int]] = defaultdict(list)
        for newer, older in survivor_of.items():
            merged[older].append(newer)
        ids, version = state.ids, state.slot_version.view
        return [
            Duplicates(
                ids[age[older]],
                tuple(ids[age[s]] for s in newer),
                {ids[age[s]]: int(version[s]) for s in (older, *newer)},
            )
            for older, newer in merged.items()
        ]

    def _read(self, wanted: set[int]) -> None:
        """Finds out what the wanted slots mean, and all those that share kind and valid times with them."""
        state, start = self._state, self._taken
        new = np.flatnonzero(state.slot_kind.view[start:] != _MESSAGE) + start
        columns = (state.slot_kind, state.slot_valid_from, state.slot_valid_to)
        for slot, *key in zip(new.tolist(), *(c.view[new].tolist() for c in columns), strict=True):
            self._by_time[tuple(key)].append(slot)
        self._taken = state.n_slots
        keys = {tuple(int(c.view[s]) for c in columns) for s in wanted}
        groups = [g for k in keys if len(g := self._by_time[k]) > 1]
        unread = [s for g in groups for s in g if s not in self._meaning and state.slot_active.view[s]]
        rows = state.store.rows(state.slot_row.view[unread].tolist())
        for slot, row in sorted(zip(unread, rows, strict=True), key=lambda x: x[0]):
            meaning = hash(_meaning(row))
            self._meaning[slot] = meaning
            self._by_meaning[meaning].append(slot)


def _meaning(row: JournalRow) -> Hashable:
    """What must be equal whatever the similarity of the texts."""
    text = unicodedata.normalize("NFKC", row.text).casefold()
    words = _WORDS.findall(text)
    return (
        (row.kind, row.valid_from, row.valid_to),
        scope_of(row.metadata),
        frozenset(e.casefold() for e in row.entities),
        tuple(sorted(w for w in words if any(c.isdigit() for c in w))),
        tuple(sorted(w for w in words if w in _NEGATIONS_EN)),
        len(_NEGATIONS_ZH.findall(text)),
        holder_key(row.payload.get(KEY_FIELD), row.metadata),
        triple_object(row.text, row.metadata) if row.kind is Kind.TRIPLE else None,
        tuple(str(row.metadata.get(k)) for k in ("subject", "relation")) if row.kind is Kind.TRIPLE else None,
    )


def similar(sets: Sequence[Shingles], threshold: float) -> list[tuple[int, int, float]]:
    """All pairs (i, j), i < j, with a Jaccard similarity of at least `threshold`, and it.

    Only pairs are compared that can reach it: sets with Jaccard >= t share one of the first |x| - ceil(t |x|) + 1
    elements in any common order, rarest first here (prefix filtering: Bayardo, Ma and Srikant, "Scaling Up All
    Pairs Similarity Search", WWW 2007).
    """
    counts = Counter(s for one in sets for s in one)
    seen: dict[str, list[int]] = defaultdict(list)
    pairs = []
    for i, one in enumerate(sets):
        size = len(one)
        rarest = sorted(one, key=lambda s: (counts[s], s))
        prefix = rarest[: size - _least(size, threshold) + 1]
        for j in sorted({j for s in prefix for j in seen[s]}):
            if threshold * size <= len(sets[j]) <= size / threshold:
                similarity = jaccard(one, sets[j])
                if similarity >= threshold:
                    pairs.append((j, i, similarity))
        for s in prefix:
            seen[s].append(i)
    return pairs


def _least(size: int, threshold: float) -> int:
    """How many elements two sets must share at least: ceil(threshold * size), safe against rounding."""
    return max(1, -int(-(threshold * size - 1e-9) // 1))
