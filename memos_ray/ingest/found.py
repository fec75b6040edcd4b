"""What the date readers share: a text with the time at which it was said, its tenses, and what was found.

Tense is read off the nearest marker word in the same sentence ("went", "will"; 了, 打算); knows no grammar.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime

from memos_ray.ingest.periods import Period
from memos_ray.text.sentences import sentence_at

_MARKERS = re.compile(
    r"(?P<future>\b(?:will|won't|shall|going to|gonna|plan(?:s|ning)?|let's|hop(?:e|es|ing)|wants?|upcoming|"
    r"looking forward|can't wait|would|should|due|soon|until|till|by)\b|['’]ll\b|"
    r"打算|准备|计划|将要?|会(?!议)|想要?|希望|要(?!是)|期待|即将|吧)"
    r"|(?P<past>\b(?:was|were|had|did|didn't|went|got|came|made|took|saw|met|bought|found|gave|felt|been|told|said|"
    r"left|won|lost|ran|ate|spent|began|started|thought|knew|read|taught|held|heard|wrote|sent|kept|grew|fell|"
    r"built|broke|[a-z]{2,}ed)\b|了|过(?![去程来敏])|刚刚?|已经|曾)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Found:
    """A date in a text: characters [start, end) name `period`. `absolute` needs no time of speaking."""

    start: int
    end: int
    period: Period
    absolute: bool = False


@dataclass(frozen=True, slots=True)
class Speech:
    """`text`, said at the local time `at`."""

    text: str
    at: datetime

    @property
    def day(self) -> date:
        """The local day of speaking."""
        return self.at.date()

    def tense(self, start: int, end: int) -> int:
        """-1 past, 1 future, 0 if the sentence around `text[start:end]` does not say. Nearest marker wins."""
        first, last = sentence_at(self.text, start, end)
        best, distance = 0, last - first + 1
        for marker in _MARKERS.finditer(self.text, first, last):
            gap = start - marker.end() if marker.end() <= start else marker.start() - end
            if 0 <= gap < distance:
                best, distance = (1 if marker.lastgroup == "future" else -1), gap
        return best
