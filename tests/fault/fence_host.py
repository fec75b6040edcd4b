"""A process that owns a log, driven by lines on its standard input. For `test_fence_processes`.

    fence_host.py PATH NAME [POINT]

activates, says "owner EPOCH NEXT_SEQ", then for each line: "write N" commits N rows and says "acked FIRST LAST",
"confirm" says "confirmed", likewise "compact" and "clean"; "limit BYTES" lets no file grow beyond that; "quit"
ends. A refusal is said as "moved REASON"; nothing follows it.
At the POINT-th named point ("put:rows" is the put of the first write, "claimed", "folded", …) it says
"at POINT" and waits for a line before it goes on, which lets the test stop or kill it exactly there.
"""

from __future__ import annotations

import resource
import signal
import sys

from memos_ray.clock import SystemClock
from memos_ray.cube.lance_store import LanceStore
from memos_ray.cube.owner import Owner
from memos_ray.cube.packing import stored_table
from memos_ray.cube.rows import JournalRow, Op
from memos_ray.errors import MemosError
from memos_ray.storage.options import storage_options


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(path: str, name: str, point: str = "") -> None:
    doing = ["activate"]

    def hook(at: str) -> None:
        if point == f"{doing[0]}:{at}":
            doing[0] = ""
            say(f"at {point}")
            sys.stdin.readline()

    store = LanceStore(path, hook=hook, storage_options=storage_options(path))
    owner = Owner(store, SystemClock(), name, hook=hook)
    try:
        store.open()
        owner.activate()
        say(f"owner {owner.epoch} {owner.next_seq}")
        for line in sys.stdin:
            verb, *rest = line.split()
            doing[0] = verb
            if verb == "quit":
                return
            say(perform(owner, name, verb, *rest))
    except MemosError as error:
        say(f"{type(error).__name__.lower()} {error.message}")


def perform(owner: Owner, name: str, verb: str, count: str = "1") -> str:
    if verb == "write":
        first = owner.next_seq
        seqs = range(first, first + int(count))
        rows = [
            JournalRow(op=Op.ADD, memory_id=f"{name}/{s}", text=name, epoch=owner.epoch, seq=s) for s in seqs
        ]
        owner.write(stored_table(rows))
        return f"acked {seqs[0]} {seqs[-1]}"
    if verb == "confirm":
        owner.confirm()
        return "confirmed"
    if verb == "compact":
        prepared = owner.prepare_rewrite()
        if prepared is not None:
            owner.rewrite(prepared)
        return "compacted"
    if verb == "limit":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(count), resource.RLIM_INFINITY))
        return "limited"
    if verb == "clean":
        owner.clean_up(0)
        return "cleaned"
    raise ValueError(verb)


if __name__ == "__main__":
    main(*sys.argv[1:])
