"""Waiting for Ray's answers with asyncio."""

from __future__ import annotations

import asyncio
from typing import Any


async def answer(ref: Any, timeout_s: float) -> Any:
    """The value of an ObjectRef. Raises `TimeoutError`, and what the call raised."""
    async with asyncio.timeout(timeout_s):
        return await ref
