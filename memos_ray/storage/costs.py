"""Requests that a cube makes to an object store, counted by `tests/measure_s3.py`; see docs/object-storage.md.

For planning. Counts, with pylance 14.0.2 and default settings; none of them HEAD, POST or DELETE. A single add and a
group cost the same, as a group is one commit.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Requests:
    """Of one action. Stores bill a LIST as they bill a PUT, which is more than a GET."""

    gets: int = 0
    lists: int = 0
    puts: int = 0


ACTIVATION = Requests(gets=28, lists=10, puts=6)
"""Of a cube of 1,000 memories, its vectors in four files, the most of two runs; 13 GETs with one such file."""
COMMIT = Requests(lists=2, puts=3)
"""A group of adds, up to `group_rows`: data file, look-up, transaction, manifest, look-up."""
VECTORS = Requests(lists=1, puts=3)
"""For all adds until none came for two seconds, or 256 memories."""
CONFIRM = Requests(lists=1)
"""A read whose owner last confirmed over `read_confirm_s` ago."""
SEARCH = Requests()
"""Beyond the confirmation: all is in memory."""
COMPACTION = Requests(gets=54, lists=13, puts=6)
"""With its clean-up, of a journal with some 40 versions and 11 young files: a GET for each of both. What clean-up
deletes, once versions are older than `cleanup_keep_s`, comes on top; there was none here."""
IDLE_MINUTE = Requests()
"""An active cube that nobody calls."""
