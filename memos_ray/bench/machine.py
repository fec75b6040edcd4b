"""What this machine does without us, now: the figures beside which the others mean something on shared hardware."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Awaitable, Callable

import lance

from memos_ray.cube.packing import stored_table
from memos_ray.cube.rows import JournalRow, Op


def bare_commits(n: int) -> list[float]:
    """Seconds of each of `n` Lance commits of one journal row to a young table in a temporary folder."""
    rows = stored_table([JournalRow(op=Op.ADD, memory_id="m", version=1, text="some thirty words " * 10)])
    taken = []
    with tempfile.TemporaryDirectory(prefix="memos-ray-bench-") as folder:
        dataset = lance.write_dataset(rows, f"{folder}/bare.lance")
        for _ in range(n):
            begun = time.perf_counter()
            fragments = lance.fragment.write_fragments(rows, dataset, mode="append")
            dataset = lance.LanceDataset.commit(
                dataset, lance.LanceOperation.Append(fragments), read_version=dataset.version, max_retries=0
            )
            taken.append(time.perf_counter() - begun)
    return taken


async def calls(call: Callable[[], Awaitable[object]], n: int) -> list[float]:
    """Seconds of each of `n` calls, one after another."""
    taken = []
    for _ in range(n):
        begun = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - begun)
    return taken
