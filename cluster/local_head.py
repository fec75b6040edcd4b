"""The Ray head that `memos-ray up` keeps on this machine: found again by a small file, ended by its own pid.

`ray stop` would end every Ray process of this user; this ends only what `up` started.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from memos_ray.errors import Unavailable

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 30.0
# Kept: Python warns of a dropped one whose process goes on running.
_heads: list[subprocess.Popen[bytes]] = []


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"memos_ray_{os.getuid()}"


def _state_file() -> Path:
    return _folder() / "up.json"


def address() -> str | None:
    """host:port of the head that `up` started, if it accepts connections; else None."""
    try:
        state = json.loads(_state_file().read_text())
    except (OSError, ValueError):
        return None
    return str(state["address"]) if _accepts(state["address"]) else None


def start() -> str:
    """Starts the head in a session of its own and returns its address. Who joins needs Ray's token, in ~/.ray.

    Raises `Unavailable` if it does not come up.
    """
    folder = _folder()
    folder.mkdir(mode=0o700, exist_ok=True)
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
    deadline = time.monotonic() + _START_TIMEOUT_S
    # The message comes after the head's own raylet has registered: a port alone would be too early to join.
    while "Ray runtime started" not in log.read_text():
        if head.poll() is not None or time.monotonic() > deadline:
            raise Unavailable(
                f"the Ray head did not start; {log} ends with: {log.read_text()[-800:]}", what="ray"
            )
        time.sleep(0.1)
    _state_file().write_text(json.dumps({"address": where, "pid": head.pid}))
    _heads.append(head)
    return where


def stop() -> bool:
    """Ends the head that `up` started and all its processes. False if there was none."""
    try:
        state = json.loads(_state_file().read_text())
    except (OSError, ValueError):
        return False
    _state_file().unlink(missing_ok=True)
    if not _is_ray_head(state["pid"]):
        return False
    os.kill(state["pid"], signal.SIGTERM)
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while _is_ray_head(state["pid"]):
        if time.monotonic() > deadline:
            os.killpg(state["pid"], signal.SIGKILL)
        time.sleep(0.1)
    for head in _heads:
        if head.pid == state["pid"]:
            head.wait()
    return True


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
