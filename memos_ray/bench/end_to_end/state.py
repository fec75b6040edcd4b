"""What a run has got so far, in a file: one JSON object a line, so that nothing paid for is asked twice.

The first line holds the settings that a figure depends on, and a run with others is refused. Every later line is one
answer or one verdict. A line is handed to the kernel as soon as it is known (it survives the loss of this process) and
fsynced with a few others (the loss of power costs these). A last line without its end is cut off.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self

from pydantic import TypeAdapter

from memos_ray.bench.end_to_end.verdict import Label
from memos_ray.errors import Conflict, Corrupt, Invalid, Unavailable

_SYNC_LINES, _SYNC_S = 16, 2.0
CountedBy = Literal["server", "approximate"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a system's context made the model say. `approximate_tokens`: of the prompt as sent; `prompt_tokens` and
    `output_tokens` are the server's where it counts. Seconds: the search, and the one request that was answered."""

    system: str
    question: str
    text: str
    approximate_tokens: int
    prompt_tokens: int
    output_tokens: int
    counted_by: CountedBy
    answer_s: float
    search_s: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """One judgement of an answer, `run` from 0. `label` None: the judge gave no verdict; `said` is what it gave."""

    system: str
    question: str
    run: int
    label: Label | None
    prompt_tokens: int
    output_tokens: int
    counted_by: CountedBy
    said: str = ""


@dataclass(slots=True)
class State:
    """The answers and verdicts of one run. Without a path they are held in memory alone."""

    settings: dict[str, Any]
    path: Path | None = None
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)
    verdicts: dict[tuple[str, str, int], Verdict] = field(default_factory=dict)
    _file: BinaryIO | None = None
    _empty: bool = True  # the file; its settings are written with the first answer
    _unsynced: int = 0
    _synced_at: float = 0.0

    def __enter__(self) -> Self:
        """Opens the file, makes it if there is none, and reads what it holds.

        Raises `Conflict` if it belongs to other settings or another process writes to it, `Corrupt` if it cannot be
        read, and `Invalid` if it is another kind of file. The file is as it was then, but for a torn last line.
        """
        if self.path is None:
            return self
        try:
            self._file = self.path.open("a+b")
        except OSError as error:
            raise Invalid(f"{self.path} cannot be written: {error}", argument="state") from error
        try:
            _lock(self._file, self.path)
            self._load(self.path, self._file)
        except BaseException:
            self._file.close()
            self._file = None
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Syncs and closes the file; one that got nothing is taken away again."""
        if self._file is not None and self.path is not None:
            if self._empty:
                self.path.unlink(missing_ok=True)
            else:
                self._sync()
            self._file.close()
            self._file = None

    def record(self, found: Answer | Verdict) -> None:
        """Keeps an answer or a verdict. Raises `Unavailable` if the file cannot take it."""
        self._hold(found)
        if self._file is None:
            return
        if self._empty:
            self._write({"kind": "settings", **self.settings})
            self._empty = False
        self._write({"kind": "answer" if isinstance(found, Answer) else "verdict", **asdict(found)})
        self._unsynced += 1
        if self._unsynced >= _SYNC_LINES or time.monotonic() - self._synced_at > _SYNC_S:
            self._sync()

    def _hold(self, found: Answer | Verdict) -> None:
        if isinstance(found, Answer):
            self.answers[found.system, found.question] = found
        else:
            self.verdicts[found.system, found.question, found.run] = found

    def _write(self, value: Mapping[str, Any]) -> None:
        assert self._file is not None
        try:
            self._file.write(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
            self._file.flush()
        except OSError as error:
            raise Unavailable(f"{self.path} takes nothing more: {error}", what="state file") from error

    def _sync(self) -> None:
        assert self._file is not None
        os.fsync(self._file.fileno())
        self._unsynced, self._synced_at = 0, time.monotonic()

    def _load(self, path: Path, file: BinaryIO) -> None:
        file.seek(0)
        whole, end, torn = file.read().rpartition(b"\n")
        lines = whole.split(b"\n") if end else []
        for number, line in enumerate(lines, 1):
            value = _parsed(path, number, line)
            if number == 1:
                _check_settings(path, value, self.settings)
            else:
                self._hold(_found(path, number, value))
        if torn and not lines and not b'{"kind": "settings"'.startswith(torn[:19]):
            raise Invalid(f"{path} is no state file of this benchmark", argument="state")
        if torn:
            file.truncate(len(whole) + len(end))
        self._empty = not lines


def _lock(file: BinaryIO, path: Path) -> None:
    import fcntl

    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Conflict(f"another process is writing to {path}") from None


def _parsed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if isinstance(value, dict) and (value.get("kind") == "settings") is (number == 1):
        return value
    if number == 1:
        raise Invalid(f"{path} is no state file of this benchmark", argument="state")
    raise Corrupt(
        f"{path}, line {number} cannot be read; delete that line to ask for it again", path=str(path)
    )


def _check_settings(path: Path, held: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raises `Conflict` that names every setting that differs."""
    names = [name for name in {**wanted, **held} if name != "kind"]
    differing = [
        f"{name.replace('_', ' ')} was {held.get(name)!r} and is {wanted.get(name)!r}"
        for name in names
        if held.get(name) != wanted.get(name)
    ]
    if differing:
        raise Conflict(
            f"{path} belongs to a run with other settings: {'; '.join(differing)}. "
            "Name another file with --state, or use the settings of this one"
        )


def _found(path: Path, number: int, value: dict[str, Any]) -> Answer | Verdict:
    kinds: dict[Any, type[Answer] | type[Verdict]] = {"answer": Answer, "verdict": Verdict}
    try:
        made = kinds[value.pop("kind")]
        if not set(value) <= {f.name for f in fields(made)}:
            raise TypeError
        return TypeAdapter[Answer | Verdict](made).validate_python(value)
    except (KeyError, TypeError, ValueError):
        raise Corrupt(
            f"{path}, line {number} is neither an answer nor a verdict; delete that line to ask for it again",
            path=str(path),
        ) from None
