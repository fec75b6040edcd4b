"""LoCoMo's file format -> conversations, turns and questions.

From a conversation only turns, speakers, session dates and photo captions are read; evidence and category
of the questions are for scoring alone and never reach the system.
LoCoMo: Maharana et al., ACL 2024 (CC BY-NC 4.0).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from memos_ray.errors import Invalid

CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}
_SESSION = re.compile(r"session_(\d+)")
_TURN_ID = re.compile(r"D:?(\d+):(\d+)")


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn; `text` is what a participant saw: the words, and the caption of a shared photo."""

    id: str
    speaker: str
    text: str


@dataclass(frozen=True, slots=True)
class DatedSession:
    """The turns of one session. `when` is in UTC: the data names no zone."""

    name: str
    when: datetime
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """`gold` are ids of turns that exist, each once; empty: the question is asked but not scored."""

    id: str
    text: str
    category: int
    gold: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation with its questions."""

    id: str
    sessions: tuple[DatedSession, ...]
    questions: tuple[Question, ...]

    @property
    def n_turns(self) -> int:
        """Turns of all sessions."""
        return sum(len(s.turns) for s in self.sessions)


def read_locomo(path: Path) -> list[Conversation]:
    """All conversations of a file. Raises `Invalid` if it is not of LoCoMo's shape."""
    try:
        samples = json.loads(path.read_text(encoding="utf-8"))
        return [conversation_of(sample) for sample in samples]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Invalid(
            f"{path} is not a LoCoMo file ({type(error).__name__}: {error})", argument="data"
        ) from error


def conversation_of(sample: Mapping[str, Any]) -> Conversation:
    """One sample of such a file, as JSON gives it."""
    talk = sample["conversation"]
    numbers = sorted(int(match.group(1)) for key in talk if (match := _SESSION.fullmatch(key)))
    sessions = tuple(
        DatedSession(
            str(n), _when(talk[f"session_{n}_date_time"]), tuple(_turn(t) for t in talk[f"session_{n}"])
        )
        for n in numbers
    )
    known = {turn.id for session in sessions for turn in session.turns}
    questions = tuple(
        Question(
            f"{sample['sample_id']}/{i}",
            q["question"],
            int(q["category"]),
            _gold(q.get("evidence") or (), known),
        )
        for i, q in enumerate(sample["qa"])
    )
    return Conversation(str(sample["sample_id"]), sessions, questions)


def _turn(raw: Mapping[str, Any]) -> Turn:
    caption = raw.get("blip_caption")
    text = f"{raw['text']} [shares {caption}]" if caption else raw["text"]
    return Turn(raw["dia_id"], raw["speaker"], text)


def _when(text: str) -> datetime:
    """'1:56 pm on 8 May, 2023'."""
    return datetime.strptime(text.replace(",", "").strip(), "%I:%M %p on %d %B %Y").replace(tzinfo=UTC)


def _gold(evidence: Sequence[str], known: set[str]) -> tuple[str, ...]:
    """Evidence as turn ids: 'D8:6; D9:17' is split, 'D:11:26' repaired, unknown ids dropped."""
    ids = [f"D{int(a)}:{int(b)}" for entry in evidence for a, b in _TURN_ID.findall(entry)]
    return tuple(dict.fromkeys(i for i in ids if i in known))
