"""Systems that a benchmark starts and ends on the Ray of this process, one namespace each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from cluster.launch import down_system
from memos_ray.errors import Unavailable
from memos_ray.ids import new_op_id
from memos_ray.memos import AsyncMemOS

_PATIENCE_S = 120.0
_LOOK_S = 0.05


@asynccontextmanager
async def system(data: str, **settings: Any) -> AsyncIterator[AsyncMemOS]:
    """A system on `data` with these settings; its processes are gone when it ends, the Ray cluster stays."""
    memory = AsyncMemOS(data=data, namespace=f"bench-{new_op_id()}", **settings)
    await asyncio.to_thread(memory.connect)
    try:
        yield memory
    finally:
        await asyncio.to_thread(down_system, memory.connect().settings)
        memory.close()


async def blank_hosts(memory: AsyncMemOS) -> int:
    """How many started host processes hold nothing."""
    return sum(not host["cubes"] for host in (await memory.status())["hosts"])


async def wait_for_pool(memory: AsyncMemOS, blanks: int) -> None:
    """Until so many blank hosts are up. Raises `Unavailable` if that takes too long."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while await blank_hosts(memory) < blanks:  # noqa: ASYNC110 - it is another process that changes
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        raise Unavailable(f"{blanks} blank hosts did not come up in {_PATIENCE_S:g} s", what="host") from None
