"""A process that takes a log over again and again, for `test_fence_stress`.

    fence_contender.py PATH NAME SEED

Says "owner EPOCH" and "acked EPOCH FIRST LAST" as they happen, and ends when its standard input does.
"""

from __future__ import annotations

import random
import sys
import threading

from memos_ray.clock import SystemClock
from memos_ray.cube.lance_store import LanceStore
from memos_ray.cube.owner import Owner
from memos_ray.cube.packing import stored_table
from memos_ray.cube.rows import JournalRow, Op
from memos_ray.errors import Moved


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def contend(path: str, name: str, rng: random.Random, over: threading.Event) -> None:
    patience_s = 0.1
    while not over.wait(rng.random() * patience_s):
        patience_s = min(3.0, patience_s * 2)  # or three that collide once collide for ever
        store = LanceStore(path)
        store.open()
        owner = Owner(store, SystemClock(), name)
        try:
            owner.activate()
            say(f"owner {owner.epoch}")
            patience_s = 0.1
            for _ in range(rng.randrange(4, 30)):
                act(owner, name, rng)
        except Moved:
            continue


def act(owner: Owner, name: str, rng: random.Random) -> None:
    what = rng.random()
    if what < 0.80:
        first, count = owner.next_seq, rng.randrange(1, 4)
        seqs = range(first, first + count)
        rows = [
            JournalRow(op=Op.ADD, text=name, memory_id=f"{owner.epoch}/{s}", epoch=owner.epoch, seq=s)
            for s in seqs
        ]
        owner.write(stored_table(rows))
        say(f"acked {owner.epoch} {seqs[0]} {seqs[-1]}")
    elif what < 0.92:
        if owner.has_ignored:
            owner.remove_ignored()
        prepared = owner.prepare_rewrite()
        if prepared is not None:
            owner.rewrite(prepared)
    else:
        owner.clean_up(0)


if __name__ == "__main__":
    over = threading.Event()
    path, name, seed = sys.argv[1:]
    contender = threading.Thread(target=contend, args=(path, name, random.Random(int(seed)), over))
    contender.start()
    sys.stdin.read()
    over.set()
    contender.join()
