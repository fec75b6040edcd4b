"""The Ray head that `memos-ray up` keeps on this machine: found again by a small file, ended by its own pid.

`ray stop` would end every Ray process of this user; this ends only what `up` started.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from memos_ray.errors import Invalid, Unavailable

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 30.0
# Kept: Python warns of a dropped one whose process goes on running.
_heads: list[subprocess.Popen[bytes]] = []


def _folder() -> Path:
    """May not exist yet. Who can write there decides which cluster everybody joins, and which process `down` ends.

    Raises `Invalid` if that may be anybody but this user.
    """
    folder = Path(tempfile.gettempdir()) / f"memos_ray_{os.getuid()}"
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return folder
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise Invalid(
            f"{folder} must be a folder of yours that nobody else can write (mode 0700): remove it, or set TMPDIR "
            "to a folder of your own",
            argument="TMPDIR",
        )
    return folder


def _state_file() -> Path:
    return _folder() / "up.json"


def _state() -> dict[str, Any] | None:
    try:
        state: dict[str, Any] = json.loads(_state_file().read_text())
    except (OSError, ValueError):
        return None
    return state


def address() -> str | None:
    """host:port of the head that `up` started, if it accepts connections; else None. Raises `Invalid` as `_folder`."""
    state = _state()
    return str(state["address"]) if state is not None and _accepts(state["address"]) else None


def start() -> str:
    """Starts the head in a session of its own and returns its address. Who joins needs Ray's token, in ~/.ray.

    Raises `Unavailable` if it does not come up; then nothing of it is left running.
    """
    _folder().mkdir(mode=0o700, exist_ok=True)
    folder = _folder()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "ray-head.log"
    ray = str(Path(sys.executable).parent / "ray")
    environment = {**os.environ, "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token")}
    if environment["RAY_AUTH_MODE"] == "token":
        subprocess.run(
            [ray, "get-auth-token", "--generate"], env=environment, capture_output=True, check=True
        )
    command = [
        ray,
        "start",
        "--head",
        "--block",
        "--include-dashboard=false",
        "--disable-usage-stats",
        f"--port={port}",
    ]
    with log.open("w") as output:
        head = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    where = f"127.0.0.1:{port}"
    try:
        _wait_for(head, log)
        _state_file().write_text(json.dumps({"address": where, "pid": head.pid}))
    except BaseException:
        _end(head.pid)
        with contextlib.suppress(ProcessLookupError):  # what it started, if it died without ending that
            os.killpg(head.pid, signal.SIGKILL)
        head.wait()
        raise
    _heads.append(head)
    return where


def _wait_for(head: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    # The message comes after the head's own raylet has registered: a port alone would be too early to join.
    while "Ray runtime started" not in log.read_text():
        if head.poll() is not None or time.monotonic() > deadline:
            raise Unavailable(
                f"the Ray head did not start; {log} ends with: {log.read_text()[-800:]}", what="ray"
            )
        time.sleep(0.1)


def stop() -> bool:
    """Ends the head that `up` started and all its processes. False if there was none."""
    state = _state()
    if state is None:
        return False
    _state_file().unlink(missing_ok=True)
    if not _is_ray_head(state["pid"]):
        return False
    _end(state["pid"])
    for head in _heads:
        if head.pid == state["pid"]:
            head.wait()
    return True


def _end(pid: int) -> None:
    """SIGTERM to the head, which ends its processes; after 30 s SIGKILL to its whole session."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while _is_ray_head(pid):
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        time.sleep(0.1)


def _accepts(where: str) -> bool:
    host, _, port = where.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1.0):
            return True
    except OSError:
        return False


def _is_ray_head(pid: int) -> bool:
    """Whether `pid` is still that head (pids are reused)."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"--head" in command and b"--block" in command
