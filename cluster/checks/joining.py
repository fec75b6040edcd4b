"""Checks of the way to the cluster: something listens there, takes the token, and has the versions of this process.

Ray's client library ends the whole process when it meets what it does not expect, so it is asked in one of its own.
"""

from __future__ import annotations

import json
import platform
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from importlib import metadata

from cluster.checks.finding import Finding

_CONNECT_S = 3.0
_PROBE_S = 20.0
_REFUSED = "InvalidAuthToken"
_MISSING = "authentication_token_loader"

# Prints what the cluster says of itself, as one line of JSON. Its arguments: the address, and whether `up` started it.
_PROBE = """
import json, sys
if sys.argv[2] == "own":
    from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
from ray._raylet import GcsClient
found = GcsClient(address=sys.argv[1]).internal_kv_get(b"CLUSTER_METADATA", b"cluster", timeout=5)
print("memos-ray-probe " + (found or b"{}").decode())
"""


def cluster(
    address: str, *, own: bool, environment: Mapping[str, str] | None = None, patience_s: float = _PROBE_S
) -> Finding:
    """Whether the Ray cluster at host:port can be joined. `own`: `memos-ray up` started it."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_CONNECT_S):
            pass
    except (OSError, ValueError) as error:
        return Finding(
            "bad",
            "cluster",
            f"nothing listens at {address} ({error})",
            "start one with `memos-ray up`, or name the one that runs with RAY_ADDRESS or MEMOS_RAY_ADDRESS",
        )
    said = _ask(address, own, environment, patience_s)
    for line in said.splitlines():
        if line.startswith("memos-ray-probe "):
            return versions(json.loads(line.split(" ", 1)[1]), address)
    token = "in ~/.ray/auth_token, RAY_AUTH_TOKEN or where RAY_AUTH_TOKEN_PATH says"
    if _REFUSED in said:
        return Finding(
            "bad",
            "cluster",
            f"the cluster at {address} refuses this user's token",
            f"put the cluster's token {token}, and RAY_AUTH_MODE=token: `ray get-auth-token` prints it where "
            "the cluster was started",
        )
    if _MISSING in said:
        return Finding(
            "bad", "cluster", "RAY_AUTH_MODE=token, but there is no token", f"put the cluster's token {token}"
        )
    last = said.strip().splitlines()[-1:] or ["no answer"]
    return Finding(
        "bad", "cluster", f"what listens at {address} is no Ray cluster, or does not answer: {last[0][:200]}",
        "see its logs/gcs_server.out; `memos-ray down` and `up` start a new one",
    )  # fmt: skip


def versions(said: Mapping[str, str], address: str) -> Finding:
    """Whether a cluster that says this of itself can be joined from here: Ray must be the same, Python to the minor."""
    ray, python = metadata.version("ray"), platform.python_version()
    theirs = said.get("ray_version", ray), said.get("python_version", python)
    text = f"{address}: Ray {theirs[0]}, Python {theirs[1]}"
    if theirs[0] != ray or theirs[1].split(".")[:2] != python.split(".")[:2]:
        return Finding(
            "bad",
            "cluster",
            f"{text}; here it is Ray {ray}, Python {python}",
            "use the same versions here and there: Ray exactly, Python to the second number",
        )
    return Finding("ok", "cluster", text)


def _ask(address: str, own: bool, environment: Mapping[str, str] | None, patience_s: float) -> str:
    """All that the probe printed; it is ended once that says enough."""
    probe = subprocess.Popen(
        [sys.executable, "-c", _PROBE, address, "own" if own else "other"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=None if environment is None else dict(environment),
    )
    timer = threading.Timer(patience_s, probe.kill)
    timer.start()
    said = ""
    try:
        assert probe.stdout is not None
        for line in probe.stdout:
            said += line
            if _REFUSED in line or _MISSING in line or line.startswith("memos-ray-probe "):
                break
    finally:
        timer.cancel()
        probe.kill()
        probe.wait()
        if probe.stdout is not None:
            probe.stdout.close()
    return said
