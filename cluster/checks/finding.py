"""What a check found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `note`: it works, but may not for long. `do` says what helps; empty if nothing is
    wrong."""

    state: Literal["ok", "note", "repaired", "bad"]
    what: str
    text: str
    do: str = ""
