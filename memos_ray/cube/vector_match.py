"""Which stored row is which slot's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memos_ray.cube.state import CubeState
from memos_ray.cube.vector_store import Hashes, VectorKeys

NO_ROW = -1


def stored_rows(state: CubeState, keys: VectorKeys, texts: Hashes, contexts: Hashes) -> NDArray[np.int64]:
    """(n,) for each of the first n slots the last row of its memory, version and text, or -1.

    `texts` and `contexts` (n,) are the slots' hashes. A live slot's row must have its context too. A slot that is not
    live takes the row that it had last: what was live around it when it was embedded cannot be told any more.
    """
    n = len(texts)
    found = np.full(n, NO_ROW, np.int64)
    stored = _places(state.numbers(keys.ids), keys.versions)
    order = np.argsort(stored, kind="stable")
    stored = stored[order]
    wanted = _places(state.slot_memory.view[:n], state.slot_version.view[:n])
    first, last = (np.searchsorted(stored, wanted, side=side) for side in ("left", "right"))
    live = state.slot_active.view[:n]
    open_ = np.flatnonzero(first < last)
    while len(open_):  # once, and once more for each context that the most changed slot has had
        last[open_] -= 1
        rows = order[last[open_]]
        fits = keys.texts[rows] == texts[open_]
        fits &= (keys.contexts[rows] == contexts[open_]) | ~live[open_]
        found[open_[fits]] = rows[fits]
        open_ = open_[~fits]
        open_ = open_[first[open_] < last[open_]]
    return found


def _places(memories: NDArray[np.int64], versions: NDArray[np.int32]) -> NDArray[np.int64]:
    return (memories << 32) | versions.astype(np.int64)
