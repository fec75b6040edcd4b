"""Which signals of the first ranking there are, as groups that can be switched off."""

from __future__ import annotations

from collections.abc import Mapping

GROUPS: Mapping[str, tuple[str, ...]] = {
    "late interaction": ("late*", "*_late*", "*late"),
    "one vector": ("dense*", "*_dense*", "*dense"),
    "words": ("bm25*", "share*", "rarest", "*bm25"),
    "words, with the message before": ("window*", "*window*"),
    "names": ("names",),
    "speaker": ("*speaker*",),
    "time": ("said", "tells", "time", "*[*]time", "timed*"),
    "messages around": ("before_*", "after_*"),
    "session agreement": ("session_*", "*session_late"),
    "ranks": ("rank_*",),
    "form of messages": ("form_*", "*[*]dated", "*[*]length", "*[*]opens", "*[*]number", "*[*]name", "*[*]quote",
                         "*[*]note", "*[*]first_person", "*[*]ends_asking"),
}  # fmt: skip
"""Group -> patterns of the names of its signals, those derived from it included (`fnmatch`)."""
