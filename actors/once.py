"""Something that takes long to make, made once for all who need it, and again if that failed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """Awaits one run of `make`, whoever asks first. A waiter that leaves does not end it."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._make = make
        self._making: asyncio.Task[T] | None = None

    async def __call__(self) -> T:
        """The value. Raises what making it raised."""
        if self._making is None:
            self._making = asyncio.create_task(self._make())
        making = self._making
        try:
            return await asyncio.shield(making)
        except BaseException:
            failed = making.done() and (making.cancelled() or making.exception() is not None)
            # What failed once may work at the next call; but another waiter may have begun that already.
            if failed and self._making is making:
                self._making = None
            raise
