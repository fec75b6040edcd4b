"""The tokens of every slot as one-bit sketches, and late interaction over them.

MaxSim is ColBERT's (Khattab and Zaharia, SIGIR 2020): how well a text holds a word of the question is the highest
cosine of that word's vector with any token of the text. Knows slots and sketches, no texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memos_ray.errors import Invalid
from memos_ray.retrieval.arrays import Mask, Saved, Slots, array_of
from memos_ray.retrieval.sketch import Codes, Scales, Sketches, code_width, spread

_TOGETHER = 256  # tokens unpacked at a time: their signs in float32 stay in the processor's cache
_WASTE = 0.5  # share of unused rows beyond which they are given back
_SIGNS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float32) * 2 - 1


class TokenIndex:
    """Rows of codes and scales in one growing store, and for each slot where its own begin and how many they are."""

    def __init__(self, dim: int) -> None:
        """`dim`: of the vectors that were sketched. A token takes ceil(dim / 8) + 2 bytes."""
        if dim < 1:
            raise Invalid(f"dim must be at least 1, not {dim}", argument="dim")
        self.dim = dim
        self._width = code_width(dim)
        self._codes = np.empty((0, self._width), np.uint8)
        self._scales = np.empty(0, np.float16)
        self._filled = 0  # rows in use or wasted
        self._wasted = 0
        self._start = np.zeros(0, np.int64)
        self._count = np.full(0, -1, np.int64)  # by slot; -1: never set
        self._size = 0
        self._shared = False  # rows in use are others' memory too: a file's, or of what was `saved`

    @classmethod
    def restored(cls, dim: int, saved: Saved) -> TokenIndex:
        """The index that was `saved`, on the same memory. `KeyError`, `TypeError` or `ValueError` for what is none."""
        this = cls(dim)
        codes, scales = array_of(saved, "codes", np.uint8), array_of(saved, "scales", np.float16)
        start, count = array_of(saved, "start", np.int64), array_of(saved, "count", np.int64)
        ends = start + np.maximum(count, 0)
        if codes.shape != (len(scales), this._width) or start.shape != count.shape:
            raise ValueError(f"codes of {codes.shape} do not go with {scales.shape} scales")
        if len(start) and (int(start.min()) < 0 or int(ends.max()) > len(codes)):
            raise ValueError("a slot's tokens lie beyond the codes")
        this._codes, this._scales = codes, scales
        this._start, this._count = start.copy(), count.copy()
        this._size, this._filled, this._shared = len(start), len(codes), True
        this._wasted = len(codes) - int(np.maximum(count, 0).sum())
        return this

    def saved(self) -> Saved:
        """What `restored` takes. Codes and scales are not copied: from now on a change in them makes new ones."""
        self._shared = True
        return {
            "codes": self._codes[: self._filled],
            "scales": self._scales[: self._filled],
            "start": self._start[: self._size].copy(),
            "count": self._count[: self._size].copy(),
        }

    def __len__(self) -> int:
        """One more than the highest slot that was set."""
        return self._size

    @property
    def has(self) -> Mask:
        """(len(self),) which slots were set, be it with no tokens."""
        return self._count[: self._size] >= 0

    @property
    def n_tokens(self) -> int:
        """Of all slots."""
        return self._filled - self._wasted

    @property
    def bytes_per_token(self) -> int:
        """Of a code and its scale."""
        return self._width + self._scales.itemsize

    def set(
        self,
        slots: Sequence[int] | Slots,
        counts: Sequence[int] | NDArray[np.integer],
        codes: Codes,
        scales: Scales,
    ) -> None:
        """Gives each of `slots`, none twice, its next `counts` rows; what it had before is replaced.

        Raises `Invalid`, before anything is changed, if the shapes do not fit.
        """
        at, many = np.asarray(slots, np.intp), np.asarray(counts, np.int64)
        self._check(at, many, codes, scales)
        if not len(at):
            return
        self._reserve_slots(int(at.max()) + 1)
        before = self._count[at]
        starts = np.cumsum(many) - many
        same = before == many
        if same.any():
            _, rows = spread(self._start[at[same]], many[same])
            _, given = spread(starts[same], many[same])
            if self._shared:
                self._codes, self._scales = self._codes.copy(), self._scales.copy()
                self._shared = False
            self._codes[rows], self._scales[rows] = codes[given], scales[given]
        new = ~same
        if new.any():
            self._append(at[new], starts[new], many[new], codes, scales)
            self._wasted += int(before[new & (before > 0)].sum())
            if self._wasted > _WASTE * self._filled:
                self._reclaim()

    def of(self, slots: Sequence[int] | Slots) -> Sketches:
        """A copy of what these slots hold; slots that were never set have none."""
        starts, counts = self._places(np.asarray(slots, np.intp))
        _, rows = spread(starts, counts)
        return Sketches(counts, self._codes[rows], self._scales[rows])

    def maxsim(self, query: NDArray[np.float32], slots: Sequence[int] | Slots) -> NDArray[np.float32]:
        """(t, n): for each row of the query the highest estimated cosine over the tokens of each of n `slots`.

        `query` (t, dim) are rotated unit rows (`Sketcher.rotate`). 0 for a slot without tokens. Raises `Invalid` for
        another shape.
        """
        if query.ndim != 2 or query.shape[1] != self.dim:
            message = f"the query's token vectors must have shape (t, {self.dim}), not {query.shape}"
            raise Invalid(message, argument="query")
        starts, counts = self._places(np.asarray(slots, np.intp))
        found = np.zeros((len(query), len(counts)), np.float32)
        filled = np.flatnonzero(counts > 0)
        if not len(filled) or not len(query):
            return found
        first, rows = spread(starts[filled], counts[filled])
        cosines = self._cosines(np.ascontiguousarray(query, np.float32), rows)
        found[:, filled] = np.maximum.reduceat(cosines, first, axis=1)
        return found

    def _cosines(self, query: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(t, len(rows)) estimates.

        Measured for 7,500 rows of 384 dimensions and 12 of the query, one core: signs by `take` from a table of bytes
        2.3 ms; by `unpackbits` and a conversion 3.2; tables of the query's sums by byte, as in product quantisation,
        3.6. The product alone is 1.9.
        """
        padded = 8 * self._width
        if padded > self.dim:
            query = np.concatenate((query, np.zeros((len(query), padded - self.dim), np.float32)), axis=1)
        codes = self._codes[rows]
        cosines = np.empty((len(query), len(rows)), np.float32)
        signs = np.empty((_TOGETHER * self._width, 8), np.float32)
        for start in range(0, len(rows), _TOGETHER):
            part = codes[start : start + _TOGETHER]
            unpacked = signs[: part.size]
            np.take(_SIGNS, part.reshape(-1), axis=0, out=unpacked, mode="clip")
            block = unpacked.reshape(len(part), padded)
            np.matmul(query, block.T, out=cosines[:, start : start + len(part)])
        cosines *= self._scales[rows].astype(np.float32)
        return cosines

    def _places(self, at: Slots) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Start and count of each slot; beyond the end, or never set: none."""
        if not self._size:
            return np.zeros(len(at), np.int64), np.zeros(len(at), np.int64)
        known = np.minimum(at, self._size - 1)
        counts = np.where(at < self._size, np.maximum(self._count[known], 0), 0)
        return self._start[known], counts

    def _append(
        self,
        at: Slots,
        starts: NDArray[np.int64],
        counts: NDArray[np.int64],
        codes: Codes,
        scales: Scales,
    ) -> None:
        total = int(counts.sum())
        end = self._filled + total
        if end > len(self._codes):
            capacity = max(end, 2 * len(self._codes), 1024)
            grown = np.empty((capacity, self._width), np.uint8)  # untouched pages cost no memory
            grown[: self._filled] = self._codes[: self._filled]
            grown_scales = np.empty(capacity, np.float16)
            grown_scales[: self._filled] = self._scales[: self._filled]
            self._codes, self._scales, self._shared = grown, grown_scales, False
        if total == len(codes):  # nothing was set in place
            self._codes[self._filled : end], self._scales[self._filled : end] = codes, scales
        else:
            _, given = spread(starts, counts)
            self._codes[self._filled : end], self._scales[self._filled : end] = codes[given], scales[given]
        self._start[at] = self._filled + np.cumsum(counts) - counts
        self._count[at] = counts
        self._filled = end

    def _reclaim(self) -> None:
        """Rows in the order of slots, none between them that no slot has."""
        counts = np.maximum(self._count[: self._size], 0)
        first, rows = spread(self._start[: self._size], counts)
        self._codes, self._scales, self._shared = self._codes[rows], self._scales[rows], False
        self._start[: self._size] = first
        self._filled, self._wasted = len(rows), 0

    def _reserve_slots(self, size: int) -> None:
        if size > len(self._count):
            capacity = max(size, 2 * len(self._count), 64)
            start, count = np.zeros(capacity, np.int64), np.full(capacity, -1, np.int64)
            start[: self._size], count[: self._size] = self._start[: self._size], self._count[: self._size]
            self._start, self._count = start, count
        self._size = max(self._size, size)

    def _check(self, at: Slots, counts: NDArray[np.int64], codes: Codes, scales: Scales) -> None:
        total = int(counts.sum())
        shapes = (at.shape, codes.shape, scales.shape)
        if counts.ndim != 1 or shapes != (counts.shape, (total, self._width), (total,)):
            message = f"{len(at)} slots with {total} tokens of {self._width} bytes do not go with {shapes}"
            raise Invalid(message, argument="codes")
        if len(counts) and int(counts.min()) < 0:
            raise Invalid("a slot cannot have fewer than no tokens", argument="counts")
