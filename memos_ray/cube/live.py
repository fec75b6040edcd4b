"""Which rows of a journal count: rule 5 of the fence, on plain numbers and on Arrow tables.

A log may hold rows that nobody was ever told about: a stalled owner's commit can land after its successor
opened. Every `open` row therefore names `start`, the first seq of its owner, and `after`, the epoch of the
`open` before it that was in force when its owner read the log. From these two numbers the readers of a log
all draw the same line between rows that count and rows that never will.

Knows nothing about storage or memories.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from memos_ray.cube.rows import EPOCH_START, Op

FENCE_COLUMNS = ("epoch", "seq", "op", "op_id", "payload", "recorded_at")
NO_LIMIT = 2**63 - 1


class Open(NamedTuple):
    """One `open` row: its owner's epoch, its first seq, and the epoch of the open it follows (0: none)."""

    epoch: int
    start: int
    after: int


class Claim(NamedTuple):
    """One `claim` row: the epoch it asks for, and the token that says whose it is."""

    epoch: int
    token: str


def in_force(opens: Iterable[Open]) -> tuple[Open, ...]:
    """The opens that count, lowest epoch first: the highest one, the one it names in `after`, and so on.

    An owner that stalls between reading and opening can put its `open` after an owner with a higher epoch
    has read the log. That late `open` would take rows away that the other has built on; the other does not
    name it, so it is left out.
    """
    by_epoch = {o.epoch: o for o in opens}
    chain: list[Open] = []
    at = max(by_epoch, default=0)
    while at in by_epoch:
        chain.append(by_epoch[at])
        at = min(by_epoch[at].after, at - 1)  # a damaged row cannot make this loop for ever
    return tuple(reversed(chain))


def limit(chain: Sequence[Open], epoch: int) -> int:
    """Rows of `epoch` count if their seq is lower than this, the lowest `start` of a later open in force."""
    return min((o.start for o in chain if o.epoch > epoch), default=NO_LIMIT)


@dataclass(frozen=True, slots=True)
class Survey:
    """What one version of a log says about ownership."""

    highest_epoch: int
    claims: tuple[Claim, ...]
    chain: tuple[Open, ...]  # opens in force
    top_seq: int  # of the rows that count
    last_recorded_at: datetime
    ignored: tuple[tuple[int, int], ...]  # (epoch, first seq that does not count), where there are such rows
    live: NDArray[np.int64]  # positions of the rows that count, in order of seq


def survey(table: pa.Table) -> Survey:
    """Reads `FENCE_COLUMNS` of a log (any row order) and says which of its rows count.

    `claim` and `open` rows are not among `live`. Where a commit was stored twice, one row of each
    (epoch, seq) is.
    """
    epoch = table["epoch"].to_numpy()
    seq = table["seq"].to_numpy()
    is_claim = pc.equal(table["op"], Op.CLAIM.value).to_numpy()
    is_open = pc.equal(table["op"], Op.OPEN.value).to_numpy()
    claims = tuple(
        Claim(int(row["epoch"]), row["op_id"])
        for row in table.select(["epoch", "op_id"]).filter(pa.array(is_claim)).to_pylist()
    )
    opens = [
        Open(int(row["epoch"]), int(payload["start"]), int(payload["after"]))
        for row in table.select(["epoch", "payload"]).filter(pa.array(is_open)).to_pylist()
        for payload in (json.loads(row["payload"]),)
    ]
    chain = in_force(opens)
    counts = ~(is_claim | is_open)
    ignored: list[tuple[int, int]] = []
    for e in np.unique(epoch).tolist():
        bound = limit(chain, e)
        if bound != NO_LIMIT:
            late = (epoch == e) & (seq >= bound) & counts
            if late.any():
                ignored.append((e, bound))
                counts &= ~late
    live = np.flatnonzero(counts)
    live = _in_order(live, seq[live], epoch[live])
    last = table["recorded_at"][int(live[-1])].as_py() if len(live) else EPOCH_START
    return Survey(
        highest_epoch=int(epoch.max()) if len(epoch) else 0,
        claims=claims,
        chain=chain,
        top_seq=int(seq[live[-1]]) if len(live) else 0,
        last_recorded_at=last,
        ignored=tuple(ignored),
        live=live,
    )


def _in_order(live: NDArray[np.int64], seq: NDArray[np.int64], epoch: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sorted by seq with doubled rows left out; a log is nearly always in that order already."""
    if len(seq) < 2 or bool((seq[1:] > seq[:-1]).all()):
        return live
    order = np.lexsort((epoch, seq))
    seq, epoch = seq[order], epoch[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (seq[1:] != seq[:-1]) | (epoch[1:] != epoch[:-1])
    return live[order[first]]


def take_live(table: pa.Table, found: Survey) -> pa.Table:
    """The rows of `table` that count, by seq. Copies nothing if they are one run of the table."""
    live = found.live
    if len(live) and int(live[-1]) - int(live[0]) + 1 == len(live) and bool((np.diff(live) == 1).all()):
        return table.slice(int(live[0]), len(live))
    return table.take(pa.array(live))
