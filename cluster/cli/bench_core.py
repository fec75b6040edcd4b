"""The measured part of `memos-ray bench core`: hosts in a Ray of its own, pressed by this process.

What is measured is described in each figure's note. Correctness is checked beside it: searches equal brute
force, no add is lost, vectors from the shared embedder equal the bare model's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import ray

from actors.bench import create_bench_host
from cluster.launch import System, connect
from memos_ray.bench import embedding, machine
from memos_ray.bench.load import Load, press
from memos_ray.bench.report import Deadline, Report, quantile, timed
from memos_ray.bench.synthetic import Synthetic
from memos_ray.cube.registry import Registry
from memos_ray.ids import new_op_id
from memos_ray.memos import make_settings
from memos_ray.wire import Call

Step = Callable[[str, int, int], None]

_DEFAULT_AIMS = {100_000: "at most 60 ms"}
_SEARCH_AIMS = {1_000: "at most 1 ms", 10_000: "at most 3 ms", 100_000: "at most 20 ms"}
_CALLERS = (1, 8, 64)
_ACTIVATION_AIMS = {1_000: "", 10_000: "under 300 ms"}


def measure(report: Report, *, data: str, quick: bool, deadline: Deadline, step: Step) -> None:
    """Runs all parts that the deadline leaves time for; what is left out is noted."""
    settings = make_settings(None, {"data": data, "address": "local", "embedder": "minilm", "warm_actors": 0})
    step("starting Ray", 0, 1)
    system = connect(settings)
    try:
        bench = _Bench(report, system, quick, deadline, step)
        sizes = [n for n in _SEARCH_AIMS if not quick or n <= 10_000]
        parts: list[tuple[str, Callable[[], None]]] = [
            *((f"search and activation at {n}", lambda n=n: bench.size(n)) for n in sizes),
            ("the machine", bench.machine),
            ("adds", bench.adds),
            ("embedding", bench.embedding),
        ]
        for name, part in parts:
            try:
                part()
            except _OutOfTimeError:
                report.notes.append(f"cut short by --max-seconds: {name}")
    finally:
        ray.shutdown()


class _OutOfTimeError(Exception):
    """The deadline has passed."""


class _Bench:
    """One run, in parts. Each raises `_OutOfTimeError` where it waits beyond the deadline."""

    def __init__(self, report: Report, system: System, quick: bool, deadline: Deadline, step: Step) -> None:
        self._report = report
        self._system = system
        self._quick = quick
        self._deadline = deadline
        self._step = step

    def size(self, n: int) -> None:
        """Search at `n` memories, brute force beside it, and the activation of that cube."""
        self._step(f"{n:,} memories: filling", 0, 4)
        host, cube_id, incarnation = self._host(stored=True)
        seconds = self._get(host.fill.remote(n, n))
        self._report.figure(
            f"fill {n:,}", n / seconds, "memories/s", note="sessions of 20 turns, until all are found"
        )
        self._step(f"{n:,} memories: searching", 1, 4)
        note = "inside the actor, query's vectors given, k=10"
        for recipe, aim in (("plain", _SEARCH_AIMS[n]), ("fast", ""), ("default", _DEFAULT_AIMS.get(n, ""))):
            self._get(host.time_searches.remote(20, 1, recipe))  # warms caches
            taken = self._get(host.time_searches.remote(100 if self._quick else 300, 2, recipe))
            name = f"search {n:,}, {recipe}"
            self._report.figure(f"{name}, p50", 1000 * quantile(taken, 0.5), "ms", note=note, aim=aim)
            self._report.figure(f"{name}, p95", 1000 * quantile(taken, 0.95), "ms")
        self._step(f"{n:,} memories: brute force", 2, 4)
        wrong = self._get(host.verify.remote(5, 3, text=n <= 10_000))
        arms = "dense and BM25" if n <= 10_000 else "dense"
        self._report.check(f"search {n:,} equals brute force ({arms})", not wrong, "; ".join(wrong[:3]))
        if n in _ACTIVATION_AIMS:
            self._step(f"{n:,} memories: activating", 3, 4)
            self._activation(host, cube_id, incarnation, n)
        ray.kill(host)

    def _activation(self, host: Any, cube_id: str, incarnation: str, n: int) -> None:
        self._get(host.detach.remote(cube_id))
        ray.kill(host)
        taken, found = [], []
        for _ in range(3 if self._quick else 7):
            fresh, _, _ = self._host(stored=True, attach=False)
            with timed() as attached:
                self._get(fresh.attach.remote(cube_id, incarnation)).unwrap()
            with timed() as first:
                hits = self._get(
                    fresh.call.remote(_call(cube_id, "search", query="anything at all", top_k=1))
                )
            held = self._get(fresh.call.remote(_call(cube_id, "stats"))).unwrap()["memories"]
            hits.unwrap()
            taken.append(1000 * attached.seconds)
            found.append(1000 * (attached.seconds + first.seconds))
            self._get(fresh.detach.remote(cube_id))
            ray.kill(fresh)
            self._report.check(f"activation {n:,} holds every memory", held == n, f"{held:,}")
        note = "attach on a blank, started host, as the driver sees it; the median of fresh hosts"
        self._report.figure(f"activation {n:,}", median(taken), "ms", note=note, aim=_ACTIVATION_AIMS[n])
        self._report.figure(
            f"activation {n:,} to first search", median(found), "ms", note="text index and vectors built"
        )

    def machine(self) -> None:
        """What a call and a commit cost here and now without any of this project's code."""
        self._step("the machine without us", 0, 1)

        async def no_op() -> list[float]:
            return await machine.calls(lambda: self._system.directory.settings.remote(), 200)

        asyncio.run(no_op())  # warms the connection
        call, commit = median(asyncio.run(no_op())), median(machine.bare_commits(100))
        self._report.figure("no-op actor call, p50", 1000 * call, "ms", note="what an add adds to")
        self._report.figure("bare Lance commit, p50", 1000 * commit, "ms", note="one journal row")

    def adds(self) -> None:
        """Adds from 1, 8 and 64 callers, stored and not, in turns."""
        seconds = 2.0 if self._quick else 5.0
        rounds = 1 if self._quick else 3
        source = Synthetic(5)
        texts = [source.text() for _ in range(2_000)]
        for i, callers in enumerate(_CALLERS):
            loads: dict[bool, list[Load]] = {True: [], False: []}
            for _ in range(rounds):
                for stored in (True, False):
                    self._step(
                        f"adds, {callers} callers, {'stored' if stored else 'in memory'}", i, len(_CALLERS)
                    )
                    loads[stored].append(self._press_adds(callers, seconds, stored, texts))
            with_storage, without = (median(x.per_second for x in loads[stored]) for stored in (True, False))
            self._report.figure(
                f"adds, {callers} callers", with_storage, "adds/s", note="one message a call, durable"
            )
            aim = "at least 80 %" if callers == 64 else ""
            note = f"of the same actor on a journal in memory ({without:,.0f} adds/s)"
            self._report.figure(
                f"adds, {callers} callers, ratio", 100 * with_storage / without, "%", note=note, aim=aim
            )
            p50 = median(x.p(0.5) for x in loads[True])
            self._report.figure(
                f"adds, {callers} callers, p50", p50, "ms", aim="under 8 ms" if callers == 1 else ""
            )

    def _press_adds(self, callers: int, seconds: float, stored: bool, texts: list[str]) -> Load:
        host, cube_id, incarnation = self._host(stored=stored)

        async def add(n: int) -> None:
            messages = [{"role": "user", "content": texts[n % len(texts)], "speaker": "Ada"}]
            (
                await host.call.remote(_call(cube_id, "add_messages", messages=messages, op_id=new_op_id()))
            ).unwrap()

        async def run() -> Load:
            await press(add, callers=callers, seconds=0.5)
            before = (await host.call.remote(_call(cube_id, "stats"))).unwrap()["memories"]
            load = await press(add, callers=callers, seconds=seconds)
            after = (await host.call.remote(_call(cube_id, "stats"))).unwrap()["memories"]
            self._all_there(after - before, len(load.latencies), f"{callers} callers")
            if stored:
                (await host.detach.remote(cube_id)).unwrap()
                (await host.attach.remote(cube_id, incarnation)).unwrap()
                again = (await host.call.remote(_call(cube_id, "stats"))).unwrap()["memories"]
                self._all_there(again, after, f"{callers} callers, read back from storage")
            return load

        try:
            return asyncio.run(run())
        finally:
            ray.kill(host)

    def _all_there(self, held: int, acknowledged: int, what: str) -> None:
        self._report.check(
            f"adds, {what}: none lost, none twice", held == acknowledged, f"{held:,} of {acknowledged:,}"
        )

    def embedding(self) -> None:
        """The shared embedder against two bare loops over the same texts, in turns."""
        batch = self._system.settings.embed_batch
        source = Synthetic(9)
        texts = [source.text() for _ in range(batch * (4 if self._quick else 12))]
        self._step("embedding: loading the models", 0, 3)
        model, own = embedding.load_bare(), embedding.load_own()
        embedder = self._system.embedder

        async def embed(part: Any) -> Any:
            return (await embedder.encode_documents.remote(list(part), [""] * len(part))).unwrap().vectors

        self._get(embedder.info.remote()).unwrap()
        embedding.bare_loop(model, texts[:batch], batch)
        asyncio.run(embedding.shared(embed, texts[:batch], batch))
        asyncio.run(embedding.own_loop(own, texts[:batch], batch))
        bare, alone, ours, mean, least, apart = [], [], [], 1.0, 1.0, 0.0
        for i in range(1 if self._quick else 3):
            self._step("embedding: in turns", i, 3)
            if i and self._deadline.expired():
                raise _OutOfTimeError
            seconds, expected = embedding.bare_loop(model, texts, batch)
            bare.append(len(texts) / seconds)
            seconds, same = asyncio.run(embedding.own_loop(own, texts, batch))
            alone.append(len(texts) / seconds)
            seconds, vectors = asyncio.run(embedding.shared(embed, texts, batch))
            ours.append(len(texts) / seconds)
            mean, least = embedding.agreement(vectors, expected)
            apart = max(apart, float(np.abs(vectors - same).max()))
        own.close()
        note = f"{len(texts)} texts of 30 words, batches of {batch}, {embedding.CALLERS} callers"
        self._report.figure("embedding", median(ours), "texts/s", note=note)
        float32_note = f"of a bare sentence-transformers loop in float32 ({median(bare):,.0f} texts/s)"
        ratio = 100 * median(ours) / median(bare)
        self._report.figure("embedding, to float32", ratio, "%", note=float32_note, aim="at least 150 %")
        own_note = f"of the same model without sharing it ({median(alone):,.0f} texts/s)"
        ratio = 100 * median(ours) / median(alone)
        self._report.figure("embedding, to unshared", ratio, "%", note=own_note, aim="at least 90 %")
        self._report.check(
            "vectors equal the unshared model's", apart == 0, f"largest difference {apart:.1e}"
        )
        near = mean > 0.995 and least > 0.97
        self._report.check("vectors are near float32's", near, f"cosine {mean:.4f}, at least {least:.4f}")

    def _get(self, reference: Any) -> Any:
        left = self._deadline.left()
        if left <= 0:
            raise _OutOfTimeError
        try:
            return ray.get(reference, timeout=left)
        except ray.exceptions.GetTimeoutError as error:
            raise _OutOfTimeError from error

    def _host(self, *, stored: bool, attach: bool = True) -> tuple[Any, str, str]:
        """A host that is up, holding a cube of its own if `attach`."""
        name, cube_id, incarnation = f"bench-{new_op_id()}", f"bench-{new_op_id()}", new_op_id()
        settings = self._system.settings
        Registry(settings.data).create_if_absent(cube_id, incarnation=incarnation, embedder=settings.embedder)
        host = create_bench_host(name, settings, stored=stored)
        self._get(host.describe.remote())
        if attach:
            self._get(host.attach.remote(cube_id, incarnation)).unwrap()
        return host, cube_id, incarnation


def _call(cube_id: str, verb: str, **arguments: Any) -> Call:
    return Call(cube_id, verb, arguments, request_id="bench", within_s=60.0)
