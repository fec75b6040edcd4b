"""Three processes fight for one log, stopped and woken at random, with clean-up that keeps nothing."""

import queue
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from memos_ray.clock import SystemClock
from memos_ray.cube.lance_store import LanceStore
from memos_ray.cube.owner import Owner

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(900)]
CONTENDER = Path(__file__).with_name("fence_contender.py")
ACTIVATIONS = 200


def test_three_contenders_and_200_activations(tmp_path, record_property):
    path = str(tmp_path / "memories.lance")
    rng = random.Random(1)
    lines = queue.SimpleQueue()

    def read(process):
        for line in process.stdout:
            lines.put(line.split())

    contenders = [
        subprocess.Popen(
            [sys.executable, str(CONTENDER), path, f"host-{i}", str(i)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(3)
    ]
    readers = [threading.Thread(target=read, args=(c,)) for c in contenders]
    for reader in readers:
        reader.start()
    acked, opened, stops = [], 0, 0
    try:
        stopped = None
        turn_at = time.monotonic()
        while opened < ACTIVATIONS:
            try:
                what, *numbers = lines.get(timeout=max(0.0, turn_at - time.monotonic()))
            except queue.Empty:  # time to stop one in whatever it is doing, or to wake it
                if stopped is None:
                    stopped, stops = rng.choice(contenders), stops + 1
                    stopped.send_signal(signal.SIGSTOP)
                else:
                    stopped.send_signal(signal.SIGCONT)
                    stopped = None
                turn_at = time.monotonic() + rng.random() * 0.5
                continue
            opened += what == "owner"
            if what == "acked":
                acked.append(numbers)
            assert all(c.poll() is None for c in contenders)
    finally:
        for contender in contenders:
            contender.send_signal(signal.SIGCONT)
            contender.stdin.close()
        for contender, reader in zip(contenders, readers, strict=True):
            contender.wait(60)
            reader.join()
            contender.stdout.close()
    while not lines.empty():
        what, *numbers = lines.get()
        if what == "acked":
            acked.append(numbers)
    ids = [f"{epoch}/{s}" for epoch, first, last in acked for s in range(int(first), int(last) + 1)]
    store = LanceStore(path)
    store.open()
    owner = Owner(store, SystemClock(), "reader")
    found = owner.activate()["memory_id"].to_pylist()
    figures = {
        "activations": opened,
        "stops": stops,
        "acknowledged commits": len(acked),
        "acknowledged rows": len(ids),
        "missing": len(set(ids) - set(found)),
        "doubled": len(found) - len(set(found)),
        "rows never acknowledged": len(set(found) - set(ids)),
        "epochs": owner.epoch,
    }
    record_property("figures", str(figures))
    assert (figures["missing"], figures["doubled"]) == (0, 0), figures
    assert len(ids) == len(set(ids))
    assert len(ids) > ACTIVATIONS
    (Path(path).parent / "figures.txt").write_text(str(figures))
