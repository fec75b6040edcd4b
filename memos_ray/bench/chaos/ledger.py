"""The books of a chaos run: what was acknowledged when, and what follows from it for every read.

Knows nothing of the system: whoever writes and reads tells it. Times are seconds of one monotonic clock, read in the
callers' process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

STALE_S = 1.0  # the bound on how old a read may be: an owner confirms itself that often


@dataclass(slots=True)
class Written:
    """One memory, changed by one writer only."""

    memory_id: str
    acknowledged: list[tuple[int, str, float]]  # (version, text, when), oldest first
    deleting_at: float | None = None  # a delete was sent
    deleted_at: float | None = None  # and acknowledged
    doubtful: bool = False  # an update or a delete whose outcome nobody was told

    def version_by(self, at: float) -> int:
        """The version that was acknowledged last before `at`; 0 for none."""
        return max((v for v, _, when in self.acknowledged if when <= at), default=0)


@dataclass(slots=True)
class Books:
    """All cubes' memories, and what was found wrong, by kind."""

    cubes: dict[str, dict[str, Written]] = field(default_factory=dict)
    unknown_texts: dict[str, set[str]] = field(default_factory=dict)  # adds whose outcome nobody was told
    op_ids: dict[str, set[str]] = field(default_factory=dict)  # of acknowledged writes
    wrong: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    writes: int = 0
    reads: int = 0
    oldest_read_s: float = 0.0  # how long a change had been acknowledged that a read did not show yet

    def of(self, cube_id: str) -> dict[str, Written]:
        """A cube's memories by id."""
        return self.cubes.setdefault(cube_id, {})

    def added(self, cube_id: str, op_id: str, memory_id: str, text: str, at: float) -> None:
        """A new memory was acknowledged."""
        self._written(cube_id, op_id)
        if memory_id in self.of(cube_id):
            self.report("duplicates", f"{cube_id}: two adds were answered with memory {memory_id}")
            return
        self.of(cube_id)[memory_id] = Written(memory_id, [(1, text, at)])

    def updated(self, cube_id: str, op_id: str, memory_id: str, version: int, text: str, at: float) -> None:
        """A new version was acknowledged."""
        self._written(cube_id, op_id)
        written = self.of(cube_id)[memory_id]
        if version != written.acknowledged[-1][0] + 1 and not written.doubtful:
            self.report("duplicates", f"{cube_id}: {memory_id} went to version {version} at one update")
        written.acknowledged.append((version, text, at))

    def deleted(self, cube_id: str, op_id: str, memory_id: str, at: float) -> None:
        """A delete was acknowledged."""
        self._written(cube_id, op_id)
        self.of(cube_id)[memory_id].deleted_at = at

    def _written(self, cube_id: str, op_id: str) -> None:
        self.writes += 1
        self.op_ids.setdefault(cube_id, set()).add(op_id)

    def report(self, kind: str, text: str) -> None:
        """Something that must never be."""
        self.wrong[kind] += 1
        if len(self.examples) < 20:
            self.examples.append(f"{kind}: {text}")

    # -- reads ------------------------------------------------------------------------------------------------

    def seen(
        self, cube_id: str, memory_id: str, version: int | None, text: str, began: float, ended: float
    ) -> None:
        """A read that took from `began` to `ended` showed this version of a memory; None: it was not there.

        A change of unknown outcome takes nothing of what was acknowledged before it back."""
        written = self.of(cube_id).get(memory_id)
        if written is None:  # its add has not been answered yet, or never was
            return
        self.reads += 1
        told = next((t for v, t, _ in written.acknowledged if v == version), text)
        if text != told:
            self.report(
                "stale writes accepted", f"{cube_id}: {memory_id} {version} is {text!r}, not {told!r}"
            )
        if version is None:
            self._absent(cube_id, written, began, ended)
        elif written.deleted_at is not None and written.deleted_at < began:
            self._old(cube_id, written, began - written.deleted_at, "deleted memories served")
        elif version < (known := written.version_by(began)):
            first_missed = next(when for v, _, when in written.acknowledged if v > version)
            text = f"reads older than {STALE_S:g} s"
            self._old(cube_id, written, began - first_missed, text, f"version {version}, not {known}")

    def _absent(self, cube_id: str, written: Written, began: float, ended: float) -> None:
        if written.deleting_at is not None and written.deleting_at <= ended:
            return
        known_s = began - written.acknowledged[0][2]
        if known_s >= 0:
            self._old(cube_id, written, known_s, f"reads older than {STALE_S:g} s", "not there")

    def _old(self, cube_id: str, written: Written, age_s: float, kind: str, found: str = "") -> None:
        self.oldest_read_s = max(self.oldest_read_s, age_s)
        if age_s > STALE_S:
            self.report(
                kind, f"{cube_id}: {written.memory_id} {found} {age_s:.2f} s after the acknowledgement"
            )

    # -- the end ----------------------------------------------------------------------------------------------

    def audit(self, cube_id: str, found: Mapping[str, tuple[int, str]], op_ids: Counter[str]) -> None:
        """What storage holds in the end: `found` has (version, text) of every memory that is shown, `op_ids` how often
        each operation is in the journal."""
        mine = self.of(cube_id)
        for written in mine.values():
            version, text, _ = written.acknowledged[-1]
            there = found.get(written.memory_id)
            if written.deleted_at is not None:
                if there is not None:
                    self.report("resurrected deletes", f"{cube_id}: {written.memory_id} is there again")
            elif there is None:
                if written.deleting_at is None:
                    self.report("acknowledged writes lost", f"{cube_id}: {written.memory_id} is gone")
            elif written.doubtful and there[0] > version:
                continue  # what nobody was told of was done
            elif there != (version, text):
                kind = "acknowledged writes lost" if there[0] < version else "stale writes accepted"
                self.report(kind, f"{cube_id}: {written.memory_id} is {there!r}, not {(version, text)!r}")
        texts = Counter(text for _, text in found.values())
        for text, times in texts.items():
            if times > 1:
                self.report("duplicates", f"{cube_id}: {text!r} is there {times} times")
        for memory_id, (_, text) in found.items():
            if memory_id not in mine and text not in self.unknown_texts.get(cube_id, ()):
                self.report("stale writes accepted", f"{cube_id}: nobody was told of {memory_id}: {text!r}")
        for op_id in self.op_ids.get(cube_id, ()):
            if op_ids[op_id] != 1:
                kind = "duplicates" if op_ids[op_id] else "acknowledged writes lost"
                self.report(kind, f"{cube_id}: operation {op_id} is in the journal {op_ids[op_id]} times")
