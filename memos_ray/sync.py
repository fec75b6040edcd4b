"""`MemOS` and `Cube`: the coroutines of `memos.py` and `cube_handle.py`, called without an event loop."""

from __future__ import annotations

import asyncio
import atexit
import functools
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from memos_ray.config import Settings
from memos_ray.cube_handle import AsyncCube
from memos_ray.memos import AsyncMemOS

P = ParamSpec("P")
R = TypeVar("R")


class _Loop:
    """One event loop in one daemon thread, shared by all synchronous facades of the process."""

    _lock = threading.Lock()
    _loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def run(cls, coroutine: Coroutine[Any, Any, R]) -> R:
        with cls._lock:
            if cls._loop is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=loop.run_forever, name="memos-ray", daemon=True)
                thread.start()
                atexit.register(loop.call_soon_threadsafe, loop.stop)
                cls._loop = loop
        future = asyncio.run_coroutine_threadsafe(coroutine, cls._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C in the caller ends the call
            raise


def _sync_client(
    method: Callable[Concatenate[AsyncMemOS, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[MemOS, P], R]:
    def call(self: MemOS, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return _Loop.run(method(self.asynchronous, *args, **kwargs))

    functools.update_wrapper(call, method)
    return call


def _sync_cube(
    method: Callable[Concatenate[AsyncCube, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Cube, P], R]:
    def call(self: Cube, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return _Loop.run(method(self.asynchronous, *args, **kwargs))

    functools.update_wrapper(call, method)
    return call


class Cube:
    """`AsyncCube`, synchronous."""

    def __init__(self, asynchronous: AsyncCube) -> None:
        self.asynchronous = asynchronous
        self.cube_id = asynchronous.cube_id

    add = _sync_cube(AsyncCube.add)
    add_document = _sync_cube(AsyncCube.add_document)
    add_triples = _sync_cube(AsyncCube.add_triples)
    search = _sync_cube(AsyncCube.search)
    get = _sync_cube(AsyncCube.get)
    get_all = _sync_cube(AsyncCube.get_all)
    update = _sync_cube(AsyncCube.update)
    delete = _sync_cube(AsyncCube.delete)
    delete_all = _sync_cube(AsyncCube.delete_all)
    archive = _sync_cube(AsyncCube.archive)
    restore = _sync_cube(AsyncCube.restore)
    history = _sync_cube(AsyncCube.history)
    snapshot = _sync_cube(AsyncCube.snapshot)
    snapshots = _sync_cube(AsyncCube.snapshots)
    restore_snapshot = _sync_cube(AsyncCube.restore_snapshot)
    neighbours = _sync_cube(AsyncCube.neighbours)
    stats = _sync_cube(AsyncCube.stats)
    export_table = _sync_cube(AsyncCube.export_table)


class MemOS:
    """Memory for agents: `AsyncMemOS`, synchronous, and ready when the constructor returns."""

    def __init__(self, settings: Settings | None = None, **overrides: Any) -> None:
        self.asynchronous = AsyncMemOS(settings, **overrides)
        self.asynchronous.connect()

    def __enter__(self) -> MemOS:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """See `AsyncMemOS.close`."""
        self.asynchronous.close()

    def cube(self, cube_id: str) -> Cube:
        """A typed handle bound to one cube."""
        return Cube(_Loop.run(self.asynchronous.cube(cube_id)))

    add = _sync_client(AsyncMemOS.add)
    add_document = _sync_client(AsyncMemOS.add_document)
    add_triples = _sync_client(AsyncMemOS.add_triples)
    search = _sync_client(AsyncMemOS.search)
    get = _sync_client(AsyncMemOS.get)
    get_all = _sync_client(AsyncMemOS.get_all)
    update = _sync_client(AsyncMemOS.update)
    delete = _sync_client(AsyncMemOS.delete)
    delete_all = _sync_client(AsyncMemOS.delete_all)
    archive = _sync_client(AsyncMemOS.archive)
    restore = _sync_client(AsyncMemOS.restore)
    history = _sync_client(AsyncMemOS.history)
    snapshot = _sync_client(AsyncMemOS.snapshot)
    restore_snapshot = _sync_client(AsyncMemOS.restore_snapshot)
    reset = _sync_client(AsyncMemOS.reset)
    cubes = _sync_client(AsyncMemOS.cubes)
    export_cube = _sync_client(AsyncMemOS.export_cube)
    import_cube = _sync_client(AsyncMemOS.import_cube)
    move = _sync_client(AsyncMemOS.move)
    passivate = _sync_client(AsyncMemOS.passivate)
    drain = _sync_client(AsyncMemOS.drain)
    backup_to = _sync_client(AsyncMemOS.backup_to)
    verify_backup = _sync_client(AsyncMemOS.verify_backup)
    restore_backup = _sync_client(AsyncMemOS.restore_backup)
    restore_to = _sync_client(AsyncMemOS.restore_to)
    stats = _sync_client(AsyncMemOS.stats)
    status = _sync_client(AsyncMemOS.status)
