"""Waiting for Ray's answers with asyncio."""

from __future__ import annotations

import asyncio
from typing import Any


async def answer(ref: Any, timeout_s: float) -> Any:
    """The value of an ObjectRef. Raises `asyncio.TimeoutError`, and what the call raised.

    `asyncio.wait_for` wants a coroutine; an ObjectRef is only awaitable.
    """

    async def value() -> Any:
        return await ref

    return await asyncio.wait_for(value(), timeout_s)
