"""The worst schedules of `testing.schedules`, on real Lance with real processes: stopped, killed, woken."""

import os
import queue
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from memos_ray.clock import SystemClock
from memos_ray.cube.lance_store import LanceStore
from memos_ray.cube.owner import Owner
from memos_ray.errors import Unavailable
from memos_ray.storage.files import Files
from memos_ray.storage.options import storage_options

pytestmark = pytest.mark.fault
HOST = Path(__file__).with_name("fence_host.py")
PATIENCE_S = 60


class Host:
    """A `fence_host` process. `said` waits for its next line."""

    def __init__(self, path, name, point=""):
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, str(HOST), path, name, *([point] if point else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines = queue.SimpleQueue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.strip())
        self.lines.put("")

    def said(self):
        return self.lines.get(timeout=PATIENCE_S)

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def do(self, line):
        self.tell(line)
        return self.said()

    def stop(self):
        self.process.send_signal(signal.SIGSTOP)
        with open(f"/proc/{self.process.pid}/stat") as stat:
            while stat.read().rsplit(")", 1)[1].split()[0] != "T":
                stat.seek(0)

    def wake(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        self.kill()
        self.reader.join(PATIENCE_S)
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def where(request, tmp_path):
    """The log: in a folder, or on an S3 server for tests that ask for both."""
    root = request.getfixturevalue("s3_root") if getattr(request, "param", "") == "s3" else str(tmp_path)
    return f"{root}/memories.lance"


anywhere = pytest.mark.parametrize("where", ["folder", "s3"], indirect=True)


@pytest.fixture
def host(where):
    """Starts hosts of one log."""
    started = []

    def start(name, point=""):
        started.append(Host(where, name, point))
        return started[-1]

    yield start
    for process in started:
        process.end()


def live(where):
    """What the next owner finds: the ids of the rows that count."""
    store = LanceStore(where, storage_options=storage_options(where))
    store.open()
    owner = Owner(store, SystemClock(), "reader")
    return owner.activate()["memory_id"].to_pylist()


def manifests(where):
    return {file.name for file in Files(where).list("_versions") if file.name.endswith(".manifest")}


@anywhere
def test_stopped_between_look_up_and_put_and_woken_after_the_successors_clean_up(host, where):
    old = host("old", "write:put")
    assert old.said() == "owner 1 1"
    old.tell("write 2")
    assert old.said() == "at write:put"
    old.stop()
    new = host("new")
    assert new.said() == "owner 2 1"
    assert [new.do(x) for x in ("write 1", "write 3", "clean")] == ["acked 1 1", "acked 2 4", "cleaned"]
    slots = manifests(where)
    old.wake()
    old.tell("")
    refusal = old.said()
    assert refusal.startswith("moved")
    assert "in storage after this owner's" in refusal  # it landed where it expected: only the look-up tells
    assert len(manifests(where) - slots) == 1
    assert [new.do(x) for x in ("confirm", "write 1", "compact", "clean", "write 1")] == [
        "confirmed",
        "acked 5 5",
        "compacted",
        "cleaned",
        "acked 6 6",
    ]
    assert live(where) == [f"new/{i}" for i in range(1, 7)]


def test_stopped_between_look_up_and_put_while_the_slot_is_still_taken(host, where):
    old = host("old", "write:put")
    assert old.said() == "owner 1 1"
    old.tell("write 1")
    assert old.said() == "at write:put"
    new = host("new")
    assert new.said() == "owner 2 1"
    assert new.do("write 1") == "acked 1 1"
    assert old.do("").startswith("moved")
    assert new.do("write 1") == "acked 2 2"
    assert live(where) == ["new/1", "new/2"]


@anywhere
def test_stopped_between_writing_files_and_commit(host, where):
    """Its commit is rebased behind the successor's: the row is in storage, and does not count."""
    old = host("old", "write:written")
    assert old.said() == "owner 1 1"
    old.tell("write 1")
    assert old.said() == "at write:written"
    new = host("new")
    assert new.said() == "owner 2 1"
    assert new.do("write 1") == "acked 1 1"
    refusal = old.do("")
    assert "built on version 3 landed at 7" in refusal
    assert new.do("write 1").startswith("moved")  # it cannot tell whose version that was: looked up again
    assert live(where)[0] == "new/1"
    assert "old/1" not in live(where)


def test_stopped_before_open(host, where):
    first = host("first")
    assert first.said() == "owner 1 1"
    assert first.do("write 1") == "acked 1 1"
    slow = host("slow", "activate:folded")
    assert slow.said() == "at activate:folded"
    slow.stop()
    assert first.do("write 1").startswith("moved")
    new = host("new")
    epoch, start = new.said().split()[1:]
    assert epoch == "3"
    slow.wake()
    slow.tell("")
    assert slow.said().startswith("moved")
    # its late open lies behind the new owner's, which therefore is looked up again, with all it was promised
    before = live(where)
    assert before[0] == "first/1"
    assert len(before) == int(start) - 1


def test_killed_between_claim_and_open(host, where):
    first = host("first")
    assert first.said() == "owner 1 1"
    assert first.do("write 2") == "acked 1 2"
    dying = host("dying", "activate:claimed")
    assert dying.said() == "at activate:claimed"
    dying.kill()
    assert first.do("write 1").startswith("moved")
    new = host("new")
    assert new.said() == "owner 3 4"  # the refused row landed before this owner's claim: it counts
    assert new.do("write 1") == "acked 4 4"
    assert live(where) == ["first/1", "first/2", "first/3", "new/4"]


def test_of_two_live_owners_the_older_ones_reads_and_writes_stop(host, where):
    old = host("old")
    assert old.said() == "owner 1 1"
    assert [old.do("write 1") for _ in range(3)] == ["acked 1 1", "acked 2 2", "acked 3 3"]
    new = host("new")
    assert new.said() == "owner 2 4"
    assert old.do("confirm").startswith("moved")
    assert new.do("write 1") == "acked 4 4"
    assert live(where) == ["old/1", "old/2", "old/3", "new/4"]


def test_files_that_cannot_grow(host, where):
    writer = host("writer")
    assert writer.said() == "owner 1 1"
    assert writer.do("write 2") == "acked 1 2"
    assert writer.do("limit 2000") == "limited"
    assert writer.do("write 200").startswith("unavailable storage failed to append to the journal")
    assert live(where) == ["writer/1", "writer/2"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_disk(host, where, tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "none", str(tmp_path)], check=True)
    try:
        writer = host("writer")
        assert writer.said() == "owner 1 1"
        acked = 0
        while (answer := writer.do("write 100")).startswith("acked"):
            acked = int(answer.split()[2])
        assert answer.startswith("unavailable")
        assert "No space left on device" in answer
        assert acked > 0
        writer.end()
        store = LanceStore(str(tmp_path / "memories.lance"))
        store.open()
        _, table = store.read()  # everything acknowledged can be read although nothing can be written
        assert set(range(1, acked + 1)) <= set(table["seq"].to_pylist())
        with pytest.raises(Unavailable, match="No space left on device"):
            Owner(store, SystemClock(), "next").activate()
        subprocess.run(["mount", "-o", "remount,size=60m", str(tmp_path)], check=True)
        assert live(where)[:acked] == [f"writer/{i}" for i in range(1, acked + 1)]
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


@pytest.mark.parametrize("where", ["folder", pytest.param("s3", marks=pytest.mark.slow)], indirect=True)
def test_killed_at_random_moments(host, where):
    """Writers that are killed in the middle of anything: what they acknowledged is there, once, in order."""
    rng = random.Random(7)
    acked = []
    for round_ in range(6):
        writer = host(f"w{round_}")
        assert writer.said().startswith("owner")
        for _ in range(rng.randrange(3, 12)):
            writer.tell(rng.choice(["write 1", "write 3", "write 1", "compact"]))
        for _ in range(rng.randrange(1, 4)):
            answer = writer.said().split()
            if answer[0] == "acked":
                acked += [f"w{round_}/{s}" for s in range(int(answer[1]), int(answer[2]) + 1)]
        writer.kill()
        while answer := writer.said():
            if answer.startswith("acked"):
                acked += [f"w{round_}/{s}" for s in range(int(answer.split()[1]), int(answer.split()[2]) + 1)]
    found = live(where)
    assert len(set(found)) == len(found)
    assert [x for x in found if x in set(acked)] == acked
    assert len(acked) > 6
