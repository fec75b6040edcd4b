"""What activating a cube costs in one process, and the first thing asked of it: with checkpoints and without.

    python -m memos_ray.bench.activation --items 1000 10000 --rounds 15 --cubes 100

Each cube is made once. Every figure is of fresh objects on files that were read before; rounds with and without
checkpoints alternate, so that both see the same machine. Embedding costs next to nothing (`bench.synthetic`).
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from itertools import islice
from pathlib import Path

import numpy as np

from memos_ray.bench.synthetic import Synthetic, SyntheticEmbedder
from memos_ray.clock import SystemClock
from memos_ray.config import Settings
from memos_ray.cube.cube import MemCube
from memos_ray.cube.opening import activate, journal_store, open_cube
from memos_ray.cube.paths import checkpoints_path, cube_folder, vectors_path
from memos_ray.cube.registry import Registry
from memos_ray.cube.vector_store import LanceVectorStore
from memos_ray.ids import new_op_id

_TOGETHER = 50  # sessions in flight while filling
_INCARNATION = "00000000-0000-0000-0000-000000000001"
_FIRSTS: dict[str, Callable[[MemCube], Awaitable[object]]] = {
    "first search": lambda cube: cube.search("anything at all", top_k=1),
    "first get": lambda cube: cube.get_all(limit=1),
    "first write": lambda cube: cube.add_messages("One more thing to remember.", op_id=new_op_id()),
}

Taken = dict[tuple[str, bool], list[float]]
"""(what, with checkpoints) -> milliseconds."""


class Place:
    """Where measured cubes lie."""

    def __init__(self, root: str) -> None:
        self.settings = Settings(data=root, embedder="synthetic")
        self._embedder = SyntheticEmbedder()

    async def open(self, cube_id: str, *, checkpoints: bool = True) -> MemCube:
        """Activates a cube as production does; or so, without its checkpoints."""
        settings, clock = self.settings, SystemClock()
        if checkpoints:
            return await open_cube(
                settings, cube_id, _INCARNATION, embedder=self._embedder, clock=clock, owner="bench"
            )
        return await activate(
            settings,
            cube_id,
            journal_store(settings, cube_id, _INCARNATION),
            open_vectors=lambda name, dim, tokens: LanceVectorStore(
                vectors_path(settings.data, cube_id, _INCARNATION, name), dim, tokens
            ),
            embedder=self._embedder,
            clock=clock,
            owner="bench",
            check=lambda: self._look_up(cube_id),
        )

    def _look_up(self, cube_id: str) -> None:
        Registry(self.settings.data).lookup(cube_id)

    async def make(self, cube_id: str, items: int) -> tuple[float, int]:
        """Fills a cube and passivates it. Returns the milliseconds and the bytes of its checkpoint."""
        Registry(self.settings.data).create_if_absent(cube_id, incarnation=_INCARNATION, embedder="synthetic")
        cube = await self.open(cube_id, checkpoints=False)  # which writes none while it grows
        sessions = Synthetic(items).sessions(items)
        while together := list(islice(sessions, _TOGETHER)):
            await asyncio.gather(*(cube.add_messages(**s, op_id=new_op_id()) for s in together))
        await cube.settled()
        await cube.close()
        cube = await self.open(cube_id)
        await cube.search("anything at all", top_k=1)
        begun = time.perf_counter()
        await cube.checkpoint()
        taken = 1000 * (time.perf_counter() - begun)
        await cube.close()
        return taken, self._checkpoint_bytes(cube_id)

    def _checkpoint_bytes(self, cube_id: str) -> int:
        folder = Path(checkpoints_path(self.settings.data, cube_id, _INCARNATION))
        return sum(path.stat().st_size for path in folder.iterdir())

    def copy(self, cube_id: str, to: str) -> None:
        """The same cube under another name."""
        root = self.settings.data
        shutil.copytree(cube_folder(root, cube_id), cube_folder(root, to))
        Registry(root).create_if_absent(to, incarnation=_INCARNATION, embedder="synthetic")


async def rounds(place: Place, cube_id: str, n: int) -> Taken:
    """Activates the cube `n` times for each thing to be asked first, with checkpoints and without."""
    taken: Taken = defaultdict(list)
    for what, ask in list(_FIRSTS.items()) * n:
        for checkpoints in (True, False):
            begun = time.perf_counter()
            cube = await place.open(cube_id, checkpoints=checkpoints)
            attached = time.perf_counter()
            await ask(cube)
            asked = time.perf_counter()
            await cube.close()
            taken["attach", checkpoints].append(1000 * (attached - begun))
            taken[what, checkpoints].append(1000 * (asked - attached))
            if what == "first search":
                taken["attach and first search", checkpoints].append(1000 * (asked - begun))
    return taken


async def memory(place: Place, cube_id: str, n: int) -> tuple[float, float]:
    """MB of private memory (file pages that are mapped are not among it), and of resident memory in all, that each of
    `n` copies of a cube takes once it has been searched."""
    for i in range(n):
        place.copy(cube_id, f"{cube_id}-{i}")
    warm = await place.open(cube_id)
    await warm.search("anything at all", top_k=1)
    before = _resident()
    cubes = []
    for i in range(n):
        cube = await place.open(f"{cube_id}-{i}")
        await cube.search("anything at all", top_k=1)
        cubes.append(cube)
    after = _resident()
    for cube in (warm, *cubes):
        await cube.close()
    private, resident = ((b - a) / n / 1e6 for a, b in zip(before, after, strict=True))
    return private, resident


def _resident() -> tuple[int, int]:
    """(private, all) resident bytes of this process, as Linux counts them."""
    sizes = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, size, *_ = line.split()
        sizes[name] = 1024 * int(size)
    return sizes["Private_Clean:"] + sizes["Private_Dirty:"], sizes["Rss:"]


def _print(items: int, taken: Taken) -> None:
    for what in dict.fromkeys(name for name, _ in taken):
        cells = []
        for checkpoints in (False, True):
            p50, p99 = np.percentile(taken[what, checkpoints], (50, 99))
            cells.append(f"{p50:9.1f} {p99:9.1f}")
        _say(f"{items:>8,} {what:<24} {'   '.join(cells)}   n={len(taken[what, True])}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def _main(arguments: argparse.Namespace, root: str) -> None:
    place = Place(root)
    _say(f"{'items':>8} {'ms':<24} {'without, p50, p99':>19}   {'with, p50, p99':>19}")
    for items in arguments.items:
        cube_id = f"bench-{items}"
        written_ms, size = await place.make(cube_id, items)
        _print(items, await rounds(place, cube_id, arguments.rounds))
        _say(f"{items:>8,} checkpoint written in {written_ms:.0f} ms, {size / 1e6:.1f} MB")
        if arguments.cubes and items <= 1_000:
            private, resident = await memory(place, cube_id, arguments.cubes)
            _say(
                f"{items:>8,} each of {arguments.cubes} active cubes: {private:.1f} MB private, "
                f"{resident:.1f} MB resident"
            )


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m memos_ray.bench.activation")
    parser.add_argument("--items", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--cubes", type=int, default=0, help="also measure memory with so many small cubes")
    parser.add_argument("--data", default=None, help="an empty folder (default: a temporary one)")
    arguments = parser.parse_args()
    if arguments.data is not None:
        asyncio.run(_main(arguments, arguments.data))
    else:
        with tempfile.TemporaryDirectory() as root:
            asyncio.run(_main(arguments, root))


if __name__ == "__main__":
    main()
