"""How rows become a cube's current incarnation: written beside the old one, then switched to.

Whoever restores writes the rows to storage (`write_unless_there`); the directory alone lets the cube go, fences the
old incarnation off and changes the registry (`adopt`). The old incarnation stays where it is.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Literal

import pyarrow as pa

from memos_ray.config import Settings
from memos_ray.cube.live import FENCE_COLUMNS
from memos_ray.cube.opening import fence_off, journal_store, write_incarnation
from memos_ray.cube.registry import CubeRecord, Grant, Registry
from memos_ray.errors import Conflict, Corrupt, MemosError, Unavailable
from memos_ray.protocols import Clock

log = logging.getLogger(__name__)


class Names:
    """The incarnations that one restore of one cube may have: the same when it is repeated."""

    def __init__(self, *of: str) -> None:
        self._digest = hashlib.sha256("\0".join(of).encode()).digest()[:12]

    def __contains__(self, incarnation: str) -> bool:
        try:
            return uuid.UUID(incarnation).bytes.startswith(self._digest)
        except ValueError:
            return False

    def __getitem__(self, number: int) -> str:
        return str(uuid.UUID(bytes=self._digest + number.to_bytes(4)))


def write_first_free(settings: Settings, cube_id: str, names: Names, table: pa.Table) -> str:
    """Writes the rows as an incarnation that nobody ever owned; returns its name. One that an interrupted attempt has
    written already is taken as it is. Raises `Corrupt` for rows that no cube can be made of, `Unavailable`."""
    number = 0
    while not write_unless_there(settings, cube_id, names[number], table):
        number += 1
    return names[number]


def write_unless_there(settings: Settings, cube_id: str, incarnation: str, table: pa.Table) -> bool:
    """Begins an incarnation with these rows; False if it has begun with others, or was owned, and nothing was done."""
    state = _state(settings, cube_id, incarnation, table)
    if state == "none":
        write_incarnation(settings, cube_id, incarnation, table)
    return state != "other"


def _state(
    settings: Settings, cube_id: str, incarnation: str, table: pa.Table
) -> Literal["none", "same", "other"]:
    store = journal_store(settings, cube_id, incarnation)
    if not store.open_existing():
        return "none"
    found = store.read(FENCE_COLUMNS)[1]
    if not found.num_rows:  # made, but its rows were not written
        return "none"
    # An owner's claim is a row too, so that one that was owned is never the same.
    same = all(found[n].to_pylist() == table[n].to_pylist() for n in ("seq", "op_id", "recorded_at"))
    return "same" if same else "other"


async def adopt(
    settings: Settings,
    registry: Registry,
    cube_id: str,
    incarnation: str,
    *,
    replace: bool,
    owner: str,
    grants: tuple[Grant, ...] = (),
    clock: Clock,
    let_go: Callable[[], Awaitable[object]],
) -> None:
    """Makes an incarnation that lies in storage the cube's current one. Repeating it changes nothing.

    `owner` and `grants` are those of a cube that is not there; one that is keeps its own. The directory calls it while
    it alone changes where this cube is; `let_go` makes its host drain and drop it. Raises `Conflict` if there is a cube
    of that id and `replace` is False, `Unavailable` if the incarnation is not there.
    """
    record = await asyncio.to_thread(registry.lookup, cube_id)
    active = record is not None and record.state == "active"
    if record is not None and active and record.incarnation == incarnation:
        return
    if record is not None and active and not replace:
        raise Conflict(f"there is a cube {cube_id!r} already; replace it, or restore under another id")
    store = journal_store(settings, cube_id, incarnation)
    if not await asyncio.to_thread(store.open_existing):
        raise Unavailable(
            f"there are no rows at {store.path}: whoever restores must have the same storage as the system",
            what=store.path,
        )
    if record is None or not active:
        made = await asyncio.to_thread(
            lambda: registry.create_if_absent(
                cube_id, incarnation=incarnation, embedder=settings.embedder, owner=owner, grants=grants
            )
        )
        if made.incarnation != incarnation:
            raise Conflict(f"a cube {cube_id!r} was made at the same time")
        return
    await let_go()
    await switch(settings, registry, record, incarnation, clock=clock)


async def switch(
    settings: Settings, registry: Registry, record: CubeRecord, incarnation: str, *, clock: Clock
) -> None:
    """Makes an incarnation the current one of an active cube, in place of the one in `record`, into which nobody
    acknowledges anything any more once this returns.

    Raises `Conflict` if the record has changed.
    """
    cube_id = record.cube_id
    try:
        await fence_off(settings, cube_id, record.incarnation, clock=clock)
    except Corrupt as error:  # nobody can activate it, and to replace it is what a reset or a restore is for
        log.warning("the incarnation of %r that is left behind is unreadable: %s", cube_id, error)
    await asyncio.to_thread(
        lambda: registry.compare_and_set(cube_id, record.revision, incarnation=incarnation)
    )
    # Whoever claimed it since it was fenced off, and looked at the registry before the change, owns it now. A claim
    # that is still to come finds the registry changed.
    try:
        await fence_off(settings, cube_id, record.incarnation, clock=clock)
    except MemosError as error:
        log.warning("the old incarnation of %r was not fenced off a second time: %s", cube_id, error)
