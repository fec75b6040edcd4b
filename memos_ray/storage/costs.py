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


ACTIVATION = Requests(gets=9, lists=8, puts=6)
"""Of a cube of 1,000 memories whose journal has some four files, each of which is a GET or two: 7 with three. With a
checkpoint or without, as one that is not there is asked for too. One LIST is the registry's (`LOOKUP`)."""
FIRST_SEARCH = Requests(gets=2, lists=1)
"""The vectors of a cube that has a checkpoint of all of them."""
FIRST_SEARCH_WITHOUT = Requests(gets=22, lists=1)
"""Without one, the vectors in four files."""
PASSIVATION = Requests(lists=2, puts=2)
"""With both checkpoints, as when there was none or more than a twentieth is new; else nothing. One of more than 8 MB
takes two POSTs, and a PUT for every 8 MB."""
LOOKUP = Requests(gets=2, lists=1)
"""A cube in the registry, as a host does that activates it. No GETs if the table is as at the last look-up, one more if
the process has not opened it. The directory asks its memory, which costs nothing."""
REGISTRATION = Requests(lists=2, puts=3)
"""By whoever has the registry in memory; else a GET more. The first one in each of the 64 tables makes that:
gets=3, lists=6, puts=6."""
REGISTRY_REFRESH = Requests(lists=64)
"""What a listing of cubes begins with, at most once a second; two GETs more for each table that others have changed."""
COMMIT = Requests(lists=2, puts=3)
"""A group of adds, up to `group_rows`: data file, look-up, transaction, manifest, look-up."""
VECTORS = Requests(lists=1, puts=3)
"""For all adds until none came for two seconds, or 256 memories."""
CONFIRM = Requests(lists=1)
"""A read whose owner last confirmed over `read_confirm_s` ago."""
SEARCH = Requests()
"""Beyond the confirmation: all is in memory."""
COMPACTION = Requests(gets=62, lists=13, puts=6)
"""With its clean-up, of a journal with 46 versions and 16 young files: a GET for each of both. What clean-up
deletes, once versions are older than `cleanup_keep_s`, comes on top; there was none here."""
IDLE_MINUTE = Requests()
"""An active cube that nobody calls."""
