"""Joins a running system, or starts one on this machine.

A system is a Ray cluster with a directory actor and an embedder actor (and a reranker actor, where one is configured)
in one namespace. It has one set of settings, those of whoever started it.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
import warnings
import weakref
from dataclasses import dataclass
from typing import Any

import ray

from actors.options import (
    DIRECTORY,
    DIRECTORY_NAME,
    EMBEDDER,
    EMBEDDER_NAME,
    HOST_PREFIX,
    RERANKER,
    RERANKER_NAME,
)
from cluster import local_head
from cluster.address import LOCAL, cluster_address
from memos_ray import __version__, _siblings
from memos_ray.config import Settings
from memos_ray.errors import Invalid, MemosError, Unavailable

_START_TIMEOUT_S = 120.0
_CONNECT_TIMEOUT_S = 5.0
_RESTARTING_S = 0.05  # between two calls to a directory that says at once that it is not there
_HEAD = "node:__internal_head__"  # a resource that Ray gives to the head alone
_OF_THE_CLIENT = ("address", "call_timeout_s", "namespace", "place_near", "tokenizer")
_SECRET = frozenset({"embedder_api_key", "reranker_api_key", "llm_api_key"})

# Ray is one per process: who uses the cluster that this process started, and where it is.
_lock = threading.RLock()
_users: weakref.WeakSet[System] = weakref.WeakSet()
_own_cluster: str | None = None


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class System:
    """Handles of a running system. `started_ray`: this process started the Ray cluster.

    That cluster ends when the last `System` of the process has been given to `release`, or is forgotten by
    then; at the latest with the process.
    """

    settings: Settings
    directory: Any
    embedder: Any
    reranker: Any  # None where none is configured
    started_ray: bool


def connect(settings: Settings) -> System:
    """Joins the system that `settings` mean, starting what is missing (`address="local"`: a Ray of this process's own).

    The system's settings are those of whoever started it; only `call_timeout_s`, `place_near` and `tokenizer` are
    each client's own.

    Raises `Unavailable` if the cluster at `settings.address` does not answer, `Invalid` if this process uses
    another cluster already, or if a system runs there with another value of a setting that is given explicitly.
    """
    with _lock:
        _ensure_ray(settings)
        try:
            running = _find(DIRECTORY_NAME, settings.namespace)
            if running is None:
                _create(settings)
                running = _find(DIRECTORY_NAME, settings.namespace)
            joined = joined_settings(settings, _settings_of(running))
            embedder = _find(EMBEDDER_NAME, settings.namespace)
            reranker = _find(RERANKER_NAME, settings.namespace) if joined.reranker else None
            system = System(joined, running, embedder, reranker, _own_cluster is not None)
        except BaseException:
            _end_unused()
            raise
        _users.add(system)
        return system


def release(system: System) -> None:
    """Ends the Ray cluster that this process started, if nobody in it uses it any more. Repeating it does nothing."""
    with _lock:
        _users.discard(system)
        _end_unused()


def joined_settings(asked: Settings, running: Settings) -> Settings:
    """The settings of a client that asks for `asked` and finds `running`.

    Raises `Invalid` for a setting of the system that `asked` gives explicitly, in code or in the environment,
    and that differs.
    """
    for name in sorted(asked.model_fields_set.difference(_OF_THE_CLIENT)):
        theirs, ours = getattr(running, name), getattr(asked, name)
        if theirs == ours:
            continue
        values = "other values" if name in _SECRET else f"{theirs!r} and {ours!r}"
        raise Invalid(
            f"a system runs in namespace {asked.namespace!r} with another {name} than the one asked for "
            f"({values}): leave {name} unset (MEMOS_RAY_{name.upper()} too) to join it, or give another namespace",
            argument=name,
        )
    own = ("call_timeout_s", "place_near", "tokenizer")
    return running.model_copy(update={name: getattr(asked, name) for name in own})


def up(settings: Settings) -> System:
    """Starts a Ray head on this machine that outlives this process (unless one runs), and the system on it.

    With an address, in `settings` or in RAY_ADDRESS, starts the system there. Raises `Invalid` for "local".
    """
    address = cluster_address(settings)
    if address == LOCAL:
        raise Invalid(
            "a Ray at 'local' ends with this process: leave the address (and RAY_ADDRESS) unset, or name a cluster",
            argument="address",
        )
    if address is None:
        prepare_environment()
        local_head.start()
    return connect(settings)


def running(settings: Settings) -> bool:
    """Whether there is a system to join. Starts nothing. Raises `Unavailable` if the cluster does not answer."""
    with _lock:
        if not ray.is_initialized() and cluster_address(settings) in (None, LOCAL):
            return False
        _ensure_ray(settings)
        return _find(DIRECTORY_NAME, settings.namespace) is not None


def this_node() -> str:
    """The Ray id of the node that this process is connected through: the one it runs on, but for Ray Client."""
    return str(ray.get_runtime_context().get_node_id())


def how_to_join() -> dict[str, str]:
    """Where the cluster that this process uses is, and what another machine runs to become a part of it."""
    _, port = _endpoint(ray.get_runtime_context().gcs_address)
    head = next(
        (n["NodeManagerAddress"] for n in ray.nodes() if n["Alive"] and _HEAD in n["Resources"]),  # type: ignore[no-untyped-call]
        ray.util.get_node_ip_address(),  # type: ignore[no-untyped-call]
    )
    return {"address": f"{head}:{port}", "join": f"ray start --address={head}:{port}"}


def join(settings: Settings) -> None:
    """Connects this process to the Ray cluster that `settings` mean, whatever runs there. Raises `Unavailable`."""
    with _lock:
        _ensure_ray(settings)


def down(settings: Settings) -> bool:
    """Drains and ends the system, then the Ray head if `up` started it. False if nothing was running."""
    global _own_cluster
    with _lock:
        address = cluster_address(settings)
        if not ray.is_initialized() and address in (None, LOCAL):
            return address is None and local_head.stop()  # there may be one that does not answer any more
        _ensure_ray(settings)
        directory = _find(DIRECTORY_NAME, settings.namespace)
        if directory is not None:
            _end_system(settings, directory)
        ray.shutdown()
        _own_cluster = None
        _users.clear()
        ended_head = address in (None, local_head.address()) and local_head.stop()
        return ended_head or directory is not None


def down_system(settings: Settings) -> bool:
    """Drains and ends the system alone; the Ray cluster stays. False if there was none."""
    with _lock:
        _ensure_ray(settings)
        directory = _find(DIRECTORY_NAME, settings.namespace)
        if directory is not None:
            _end_system(settings, directory)
        return directory is not None


def _end_system(settings: Settings, directory: Any) -> None:
    ray.kill(directory)  # first, so that nothing is attached again
    for entry in ray.util.list_named_actors(all_namespaces=True):
        if entry["namespace"] != settings.namespace or not entry["name"].startswith(HOST_PREFIX):
            continue
        host = _find(entry["name"], settings.namespace)
        if host is None:
            continue
        try:
            ray.get(host.detach_all.remote(), timeout=30.0).unwrap()
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError, MemosError) as error:
            logging.getLogger(__name__).warning("host %s did not drain: %s", entry["name"], error)
        ray.kill(host)
    for name in (EMBEDDER_NAME, RERANKER_NAME):
        model = _find(name, settings.namespace)
        if model is not None:
            ray.kill(model)


def _ensure_ray(settings: Settings) -> None:
    """Connects this process to Ray."""
    global _own_cluster
    if ray.is_initialized():
        _check_cluster(settings.address)
        return
    prepare_environment()
    _keep_deaths_quiet()
    common: dict[str, Any] = {
        "namespace": settings.namespace,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    address = cluster_address(settings) or LOCAL
    if address == LOCAL:
        ray.init(address=LOCAL, include_dashboard=False, **common)
        _own_cluster = ray.get_runtime_context().gcs_address
        return
    if (
        address == local_head.address()
    ):  # Ray takes up the token by itself only where it finds the cluster by itself
        from ray._private.authentication.authentication_token_setup import (
            maybe_enable_token_auth_if_token_available,
        )

        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    try:
        _check_listens(address)
        ray.init(address=address, **common)
    except (OSError, RuntimeError, ValueError) as error:
        raise Unavailable(
            f"no Ray cluster answers at {address!r} ({error}); `memos-ray up` starts one on this machine",
            what="ray",
        ) from error


def _check_listens(address: str) -> None:
    """Raises `OSError` if nothing does: Ray itself would go on trying for minutes, and then end the process."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()


def _check_cluster(asked: str | None) -> None:
    """Raises `Invalid` unless the cluster that this process uses already is the one asked for."""
    # The address of a Ray Client server says nothing of the cluster behind it.
    if asked is None or asked == "auto" or asked.startswith("ray://"):
        return
    here = ray.get_runtime_context().gcs_address
    if here == _own_cluster if asked == LOCAL else _endpoint(asked) == _endpoint(here):
        return
    raise Invalid(
        f"this process uses the Ray cluster at {here!r} already, not {asked!r}: leave address unset to stay with it, "
        "or call ray.shutdown() first",
        argument="address",
    )


def _endpoint(address: str) -> tuple[str, str]:
    """(IP, port); the IP by which the cluster knows this machine in place of a loopback's."""
    host, _, port = address.rpartition(":")
    try:
        ip = socket.gethostbyname(host)
    except OSError:
        return host, port
    return (str(ray.util.get_node_ip_address()) if ip.startswith("127.") else ip), port  # type: ignore[no-untyped-call]


def _end_unused() -> None:
    global _own_cluster
    if _own_cluster is None or _users:
        return
    if ray.is_initialized() and ray.get_runtime_context().gcs_address == _own_cluster:
        ray.shutdown()
    _own_cluster = None


def prepare_environment() -> None:
    """What Ray and its workers should find: nothing that reports home or waits for a network that is not there.

    Token authentication is Ray's own default for clusters that this starts, and for joining one where a token
    is; RAY_AUTH_MODE overrides it. Ray announces it with a warning on every start, which is kept quiet.
    """
    # Ray starts its processes by fork and exec: nothing of Lance runs in between.
    warnings.filterwarnings("ignore", message="lance is not fork-safe")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)


def _keep_deaths_quiet() -> None:
    """Keeps Ray's paragraph on every process that dies off the script's stdout: clients find a new host by themselves.

    `log_to_driver=False` does not cover it. RAY_DEDUP_LOGS_SKIP_REGEX does, but Ray reads that when it is
    imported, which is long ago here; if the user has set it, it stays as it is.
    """
    from ray._private.ray_logging import stdout_deduplicator

    if getattr(stdout_deduplicator, "skip_re", None) is None:
        stdout_deduplicator.skip_re = re.compile("^A worker died or was killed while executing a task")


def _create(settings: Settings) -> None:
    _try_root(settings.data)
    # Only who starts a system needs them; not by `import`, for somebody else's package may have the name.
    directory_actor = _siblings.load("actors.directory").DirectoryActor
    embedder_actor = _siblings.load("actors.embedder").EmbedderActor
    embedder = (
        ray.remote(embedder_actor)
        .options(name=EMBEDDER_NAME, namespace=settings.namespace, get_if_exists=True, **EMBEDDER)
        .remote(settings)
    )
    if settings.reranker:
        reranker_actor = _siblings.load("actors.reranker").RerankerActor
        ray.remote(reranker_actor).options(
            name=RERANKER_NAME, namespace=settings.namespace, get_if_exists=True, **RERANKER
        ).remote(settings)
    ray.remote(directory_actor).options(
        name=DIRECTORY_NAME,
        namespace=settings.namespace,
        get_if_exists=True,
        scheduling_strategy=_on_the_head(),
        **DIRECTORY,
    ).remote(settings, embedder)


def _on_the_head() -> Any:
    """On the head if that can be: no other node's loss is the directory's then, and the head's is the GCS's anyway."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    head = next((n["NodeID"] for n in nodes if n["Alive"] and _HEAD in n["Resources"]), None)
    if head is None:
        return "DEFAULT"
    return ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(head, soft=True)


def _try_root(root: str) -> None:
    """Raises `Invalid` or `Unavailable`, before there is any actor, unless the data root can hold journals.

    Behind a Ray Client this process is no part of the cluster, and may reach other stores than that does.
    """
    from memos_ray.storage.probe import probe

    if ray.util.client.ray.is_connected():  # type: ignore[no-untyped-call]
        tried = ray.remote(max_retries=0, num_cpus=0)(_tried_root).remote(root)
        error = ray.get(tried, timeout=_START_TIMEOUT_S)
        if error is not None:
            raise error
        return
    probe(root)


def _tried_root(root: str) -> MemosError | None:
    """The error as a value: Ray would wrap one that is raised."""
    from memos_ray.storage.probe import probe

    try:
        probe(root)
    except MemosError as error:
        return error
    return None


def _find(name: str, namespace: str) -> Any:
    try:
        return ray.get_actor(name, namespace=namespace)
    except ValueError:
        return None


def _settings_of(directory: Any) -> Settings:
    """Also waits for the directory's process: a worker that cannot start shows as a time-out here.

    Raises `Invalid` if it is of another release than this process, `Unavailable` if it does not come up or is ended
    meanwhile."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        left_s = max(0.0, deadline - time.monotonic())
        try:
            version: str = ray.get(directory.version.remote(), timeout=left_s)
            if version != __version__:  # what they send each other may have another form
                raise Invalid(
                    f"the system that runs there is of memos-ray {version}, this process has {__version__}: use the "
                    "same release, or end that system and start it anew",
                    argument="address",
                )
            settings: Settings = ray.get(directory.settings.remote(), timeout=left_s)
            return settings
        except ray.exceptions.ActorDiedError as error:
            raise Unavailable(f"the directory was ended: {error}", what="directory") from error
        except (ray.exceptions.ActorUnavailableError, ray.exceptions.GetTimeoutError) as error:
            if time.monotonic() < deadline:  # it restarts
                time.sleep(_RESTARTING_S)
                continue
            raise Unavailable(
                f"the directory did not come up in {_START_TIMEOUT_S:g} s; Ray's raylet.err says why",
                what="directory",
            ) from error
