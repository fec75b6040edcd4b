"""What each rule of the fence is for: a schedule of two or three owners that goes wrong without it.

An activation is 8 steps: read, look up and put the claim, check; read again, look up and put the open, check.
A write is 3: look up, put, check. The explorer found each of these as the one with the fewest turns.
"""

from __future__ import annotations

from dataclasses import dataclass

from memos_ray.testing.explorer import ACTIVATE, CLEAN, COMPACT, READ, WRITE


@dataclass(frozen=True, slots=True)
class Schedule:
    """`turns` are (owner, steps). Without `rule`, a name in `fence.Rules`, it breaks the invariant named."""

    rule: str
    story: str
    scripts: tuple[tuple[str, ...], ...]
    turns: tuple[tuple[int, int], ...]
    breaks: str


SCHEDULES = {
    "a loser of two claims opens all the same": Schedule(
        "reread",
        "0 claims and stalls. 1 claims above it and opens. 0 wakes, knows its claim to be in time, and opens "
        "below 1, although 1's claim was there to be read.",
        ((ACTIVATE, WRITE), (ACTIVATE,)),
        ((0, 4), (1, 8), (0, 4)),
        "one owner",
    ),
    "nobody says where the old owner's rows end": Schedule(
        "open_row",
        "0 stalls before its first write. 1 takes over and acknowledges a row. 0's row lands, is not "
        "acknowledged, and counts before the row that was.",
        ((ACTIVATE, WRITE), (ACTIVATE, WRITE)),
        ((0, 5), (1, 8), (0, 2)),
        "kept",
    ),
    "start beyond the old owner's next row": Schedule(
        "start_at_live",
        "0 opens and stalls in its first write, seq 1. 1 takes over; as 0's open recorded start 1, it starts "
        "at 2. 0's row lands below that and counts, which 1 never knew.",
        ((ACTIVATE, WRITE), (ACTIVATE, WRITE)),
        ((0, 8), (1, 11), (0, 2)),
        "kept",
    ),
    "an open that comes late": Schedule(
        "chain",
        "1 claims, reads, and stalls before its open. A row of 0 lands, not acknowledged. 2 takes over and "
        "builds on that row. 1's open lands and takes the row away from under 2.",
        ((ACTIVATE, WRITE), (ACTIVATE,), (ACTIVATE,)),
        ((0, 8), (1, 5), (0, 2), (2, 8), (1, 2)),
        "kept",
    ),
    "a commit rebased behind the successor": Schedule(
        "landing",
        "0 stalls while it activates. 1 takes over. 0's open is put behind 1's, as the latest version, and 0 "
        "believes that it owns the log.",
        ((ACTIVATE, WRITE), (ACTIVATE,)),
        ((0, 5), (1, 8), (0, 3)),
        "one owner",
    ),
    "a commit fills a cleaned slot": Schedule(
        "latest",
        "0 stalls between look-up and put. 1 takes over and cleans up. 0's put fills the freed version "
        "right where 0 expects it, and no reader will ever see it.",
        ((ACTIVATE, WRITE), (ACTIVATE, WRITE, CLEAN)),
        ((0, 5), (1, 9), (0, 1)),
        "one owner",
    ),
    "the old owner's row counts": Schedule(
        "fold_ignores",
        "0 stalls in a write. 1 takes over and acknowledges a row. 0's row lands behind it, unacknowledged, "
        "and sorts before it.",
        ((ACTIVATE, WRITE), (ACTIVATE, WRITE)),
        ((0, 8), (1, 11), (0, 2)),
        "kept",
    ),
    "a compaction adopts the successor's version": Schedule(
        "rewrite_check",
        "0 prepares a compaction. 1 takes over. 0's compaction lands behind 1's rows; 0 takes that version "
        "for its own, and its next commit lands right after it.",
        ((ACTIVATE, COMPACT, WRITE), (ACTIVATE,)),
        ((0, 10), (1, 7), (0, 5)),
        "kept",
    ),
    "a read by the old owner": Schedule(
        "confirm_reads",
        "1 takes over from 0 and acknowledges a row. 0, which has nothing to write, goes on answering.",
        ((ACTIVATE, READ), (ACTIVATE, WRITE)),
        ((0, 8), (1, 11), (0, 1)),
        "fresh",
    ),
}
