"""The system clock behind the `Clock` protocol."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """Wall and monotonic time of this machine."""

    def now(self) -> datetime:
        """UTC, microseconds."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds; see `time.monotonic`."""
        return time.monotonic()
