"""Checks of a system that runs: its actors, nodes, clocks, versions. Changes nothing, waits for nobody for long."""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray

from actors.observed import logs_folder
from actors.options import DIRECTORY_NAME, EMBEDDER_NAME, HOST_PREFIX, RERANKER_NAME
from cluster.checks.finding import Finding
from cluster.checks.machine import open_files
from memos_ray import __version__
from memos_ray.wire import EmbedderLoad, HostInfo, NodeInfo, SystemInfo

_ANSWER_S = 5.0
_PENDING_S = 60.0  # an actor that has waited so long to be started will wait on
_SKEW_S = 1.0
_LATELY_S = 600.0
_BUSY_CORES = 0.95
_MB = 1e6


def running_system(namespace: str) -> Iterator[Finding]:
    """All of them. This process has joined the cluster."""
    names = _named(namespace)
    if not names:
        yield Finding("ok", "system", f"none runs in namespace {namespace!r} of this cluster")
        return
    info = yield from _directory(names, namespace)
    embedder = yield from _embedder(names, namespace)
    if RERANKER_NAME in names:
        yield _pinged(RERANKER_NAME, namespace)
    infos = yield from _hosts([name for name in names if name.startswith(HOST_PREFIX)], namespace)
    yield from _pending()
    yield from dead_nodes(ray.nodes())  # type: ignore[no-untyped-call]
    if info is not None:
        yield from nodes(info.nodes)
        yield from system_versions(info)
    pids = {info.name: info.pid for info in infos}
    if info is not None:
        pids["directory"] = info.directory.pid
    if embedder is not None:
        pids["embedder"] = embedder.pid
    if (found := open_files(pids)) is not None:
        yield found


def _named(namespace: str) -> list[str]:
    entries = ray.util.list_named_actors(all_namespaces=True)
    return [entry["name"] for entry in entries if entry["namespace"] == namespace]


def _directory(names: Sequence[str], namespace: str) -> Generator[Finding, None, SystemInfo | None]:
    """Its findings; returns what it says of the system, None if it does not answer."""
    asked_at = time.time()
    info, error = _ask(DIRECTORY_NAME, namespace, "status", 0)
    if not isinstance(info, SystemInfo):
        yield _silent(
            DIRECTORY_NAME,
            DIRECTORY_NAME in names,
            error,
            "cubes that are active go on; others cannot come up",
        )
        return None
    d = info.directory
    text = f"up {d.uptime_s:.0f} s, {info.active:,} active cubes"
    restarted = d.restarts > 0 and d.uptime_s < _LATELY_S
    worth_a_look = restarted or bool(d.given_up)
    if restarted:
        text += f", restarted {d.restarts} times, the last time just now"
    if d.given_up:
        text += f"; cube processes given up: {'; '.join(d.given_up)}"
    if worth_a_look:
        yield Finding("note", "directory", text, f"its log is in {d.logs}")
    else:
        yield Finding("ok", "directory", text)
    skew = d.at - (asked_at + time.time()) / 2
    if abs(skew) > _SKEW_S + (time.time() - asked_at) / 2:
        yield _skewed("the directory's node", skew, "this machine's")
    return info


def _embedder(names: Sequence[str], namespace: str) -> Generator[Finding, None, EmbedderLoad | None]:
    load, error = _ask(EMBEDDER_NAME, namespace, "load")
    if not isinstance(load, EmbedderLoad):
        yield _silent(
            EMBEDDER_NAME, EMBEDDER_NAME in names, error, "searches find by words only, adds wait for vectors"
        )
        return None
    text = f"process {load.pid}, {load.waiting:,} texts waiting" + (
        "" if load.loaded else ", no model loaded yet"
    )
    yield Finding("ok", "embedder", text)
    return load


def _hosts(names: Sequence[str], namespace: str) -> Generator[Finding, None, list[HostInfo]]:
    """One finding for those that answer, and one for each that does not; returns what the former say."""
    refs: dict[Any, str] = {}
    for name in names:
        try:
            refs[ray.get_actor(name, namespace=namespace).pulse.remote()] = name
        except ValueError:  # it has ended since it was listed
            continue
    ready, silent = ray.wait(list(refs), num_returns=len(refs), timeout=_ANSWER_S) if refs else ([], [])
    infos: list[HostInfo] = []
    for ref in ready:
        try:
            infos.append(ray.get(ref))
        except ray.exceptions.RayError as error:
            yield _silent(refs[ref], True, _first_line(error), "its cubes come up elsewhere at the next call")
    for ref in silent:
        state = _actor_states().get(refs[ref], "")
        if state != "PENDING_CREATION":
            yield _silent(
                refs[ref], True, "no answer", "its cubes come up elsewhere once the directory gives it up"
            )
    held = sum(len(info.cubes) for info in infos)
    used = sum(info.uss_bytes for info in infos) / _MB
    yield Finding("ok", "cube processes", f"{len(infos)} answer, with {held:,} cubes and {used:,.0f} MB")
    return infos


def _ask(name: str, namespace: str, method: str, *args: Any) -> tuple[Any, str]:
    try:
        handle = ray.get_actor(name, namespace=namespace)
        return ray.get(getattr(handle, method).remote(*args), timeout=_ANSWER_S), ""
    except ValueError:
        return None, "there is none"
    except ray.exceptions.GetTimeoutError:
        return None, f"no answer in {_ANSWER_S:g} s"
    except ray.exceptions.RayError as error:
        return None, _first_line(error)


def _pinged(name: str, namespace: str) -> Finding:
    pid, error = _ask(name, namespace, "pid")
    return Finding("ok", name, f"process {pid}") if isinstance(pid, int) else _silent(name, True, error, "")


def _silent(name: str, exists: bool, error: str, means: str) -> Finding:
    if not exists:
        how = "`memos-ray up` (or any client) starts it again"
        if name != DIRECTORY_NAME:
            how = "`memos-ray down`, then `up`: what was acknowledged is in storage"
    elif name.startswith(HOST_PREFIX):
        how = "nothing: the directory ends it and starts others; `memos-ray status` shows whether it has"
    else:
        how = "Ray starts it again if it ends: `kill -9` the process if it hangs; see its log and raylet.err"
    state = _actor_states().get(name)
    text = f"does not answer: {error}" + (f" ({state.lower()})" if state and state != "ALIVE" else "")
    return Finding("bad", name, f"{text}; {means}" if means else text, how)


def _actor_states() -> dict[str, str]:
    """Of named actors, by name."""
    return {
        entry["Name"]: entry["State"] for entry in _actors() if entry["Name"] and entry["State"] != "DEAD"
    }


def _actors() -> list[dict[str, Any]]:
    from ray._private import state

    return list(state.actors().values())


def _pending() -> Iterator[Finding]:
    """Actors that wait to be started. Ray says why in the logs of the raylet."""
    now_ms = 1e3 * time.time()
    stuck = [
        entry
        for entry in _actors()
        if entry["State"] in ("PENDING_CREATION", "DEPENDENCIES_UNREADY", "RESTARTING")
        and now_ms - _asked_for_ms(entry, now_ms) > 1e3 * _PENDING_S
    ]
    if stuck:
        names = ", ".join(entry["Name"] or entry["ActorClassName"] for entry in stuck[:5])
        more = f" and {len(stuck) - 5} more" if len(stuck) > 5 else ""
        text = f"{names}{more} wait for a process since more than {_PENDING_S:g} s{raylet_says()}"
        how = "free memory or CPUs, add a node, or see raylet.err and the worker logs beside it"
        yield Finding("bad", "processes that do not start", text, how)


def _asked_for_ms(entry: dict[str, Any], now_ms: float) -> float:
    """When an actor was asked for, in Unix time. Ray does not say it of all that wait; a host's name does (UUIDv7)."""
    name = str(entry["Name"] or "")
    if name.startswith(HOST_PREFIX):
        return float(uuid.UUID(name.removeprefix(HOST_PREFIX)).int >> 80)
    return float(entry["Timestamp"]) or now_ms


def raylet_says(folder: Path | None = None) -> str:
    """The last error in raylet.err of this machine, as the end of a sentence; empty if there is none."""
    if folder is None:
        folder = Path(logs_folder())
    try:
        lines = (folder / "raylet.err").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    return f"; raylet.err ends with: {said[-1][:300]}" if said else ""


def dead_nodes(entries: Sequence[dict[str, Any]]) -> Iterator[Finding]:
    """Nodes that the cluster has lost, one line for all."""
    dead = [entry for entry in entries if not entry["Alive"]]
    if dead:
        named = ", ".join(
            f"{entry['NodeID'][:12]} ({entry.get('DeathReasonMessage') or 'no reason given'})"
            for entry in dead[:5]
        )
        more = f" and {len(dead) - 5} more" if len(dead) > 5 else ""
        text = (
            f"{len(dead)} have gone since the cluster started: {named}{more}; their cubes come up elsewhere"
        )
        yield Finding("note", "nodes", text, "start them again with `ray start --address=…` if you miss them")


def nodes(found: Sequence[NodeInfo]) -> Iterator[Finding]:
    """Those that are alive: their memory, their clocks, and what the directory thinks of them."""
    for node in found:
        name = f"node {node.node_id[:12]}"
        text = (
            f"{node.hosts} processes, {node.cubes:,} cubes, {node.used_bytes / _MB:,.0f} of "
            f"{node.limit_bytes / _MB:,.0f} MB, {node.busy:.1f} of {node.cpus:g} cores busy"
        )
        if node.used_bytes > node.limit_bytes:
            how = "cubes are passivated until it fits: add nodes, or memory, or raise `memory_share`"
            yield Finding("bad", name, f"{text}: over the limit", how)
        elif node.suspect:
            how = "nothing, if it passes: it gets no cubes for half a minute; else see the node itself"
            yield Finding("note", name, f"{text}: a process there fell silent", how)
        elif node.draining:
            how = f"`memos-ray drain {node.node_id[:12]} --undo` ends that"
            yield Finding("note", name, f"{text}: it is being drained", how)
        elif node.busy > _BUSY_CORES * node.cpus:
            yield Finding("note", name, f"{text}: its cores are busy", "add nodes")
        else:
            yield Finding("ok", name, text)
        if abs(node.clock_s) > _SKEW_S:
            yield _skewed(name, node.clock_s, "the directory's")


def _skewed(whose: str, seconds: float, against: str) -> Finding:
    side = "ahead of" if seconds > 0 else "behind"
    text = (
        f"{whose}: its clock is {abs(seconds):.1f} s {side} {against}; times of memories are off by as much"
    )
    return Finding("bad", "clocks", text, "let NTP or chrony set the clocks of all nodes")


def system_versions(info: SystemInfo) -> Iterator[Finding]:
    """This program's version and that of the actors."""
    theirs = info.directory.version
    if theirs != __version__:
        yield Finding(
            "bad",
            "versions",
            f"the system runs memos-ray {theirs}, this is {__version__}",
            "install the same version here and on every node, then `memos-ray down` and `up`",
        )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
