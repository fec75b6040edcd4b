"""Joins a running system, or starts one on this machine.

A system is a Ray cluster with a directory actor and an embedder actor in one namespace. It has one set of
settings, those of whoever started it.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from dataclasses import dataclass
from typing import Any

import ray

from actors.options import DIRECTORY, DIRECTORY_NAME, EMBEDDER, EMBEDDER_NAME, HOST_PREFIX
from cluster import local_head
from memos_ray import _siblings
from memos_ray.config import Settings
from memos_ray.errors import Invalid, Unavailable

_START_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class System:
    """Handles of a running system. `started_ray`: this process started the Ray cluster, and it ends with it."""

    settings: Settings
    directory: Any
    embedder: Any
    started_ray: bool


def connect(settings: Settings) -> System:
    """Joins the system that `settings` mean, starting what is missing (`address="local"`: a Ray of this process's own).

    Raises `Unavailable` if the cluster at `settings.address` does not answer, `Invalid` if a system runs there
    with another data root than the one that `settings` name explicitly.
    """
    started = _ensure_ray(settings)
    running = _find(DIRECTORY_NAME, settings.namespace)
    if running is None:
        _create(settings)
        running = _find(DIRECTORY_NAME, settings.namespace)
    theirs = _settings_of(running)
    if "data" in settings.model_fields_set and theirs.data != settings.data:
        raise Invalid(
            f"a system with data={theirs.data!r} runs in namespace {settings.namespace!r}, not {settings.data!r}: "
            "leave data unset to join it, or give another namespace",
            argument="data",
        )
    return System(theirs, running, _find(EMBEDDER_NAME, settings.namespace), started)


def up(settings: Settings) -> System:
    """Starts a Ray head on this machine that outlives this process (unless one runs), and the system on it."""
    if settings.address is None and local_head.address() is None:
        prepare_environment()
        local_head.start()
    return connect(settings)


def down(settings: Settings) -> bool:
    """Drains and ends the system, then the Ray head that `up` started, if it did. False if nothing was running."""
    if not ray.is_initialized() and settings.address is None and local_head.address() is None:
        return False
    _ensure_ray(settings)
    directory = _find(DIRECTORY_NAME, settings.namespace)
    if directory is not None:
        _end_system(settings, directory)
    ray.shutdown()
    return local_head.stop() or directory is not None


def _end_system(settings: Settings, directory: Any) -> None:
    ray.kill(directory)  # first, so that nothing is attached again
    for entry in ray.util.list_named_actors(all_namespaces=True):
        if entry["namespace"] != settings.namespace or not entry["name"].startswith(HOST_PREFIX):
            continue
        host = _find(entry["name"], settings.namespace)
        if host is None:
            continue
        try:
            ray.get(host.detach.remote(), timeout=30.0)
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as error:
            logging.getLogger(__name__).warning("host %s did not drain: %s", entry["name"], error)
        ray.kill(host)
    embedder = _find(EMBEDDER_NAME, settings.namespace)
    if embedder is not None:
        ray.kill(embedder)


def _ensure_ray(settings: Settings) -> bool:
    """Connects this process to Ray. True if that started a cluster that ends with this process."""
    if ray.is_initialized():
        return False
    prepare_environment()
    common: dict[str, Any] = {
        "namespace": settings.namespace,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    own_head = local_head.address()
    address = settings.address or os.environ.get("RAY_ADDRESS") or own_head or "local"
    if address == "local":
        ray.init(address="local", include_dashboard=False, **common)
        return True
    if address == own_head:  # Ray takes up the token by itself only where it finds the cluster by itself
        from ray._private.authentication.authentication_token_setup import (
            maybe_enable_token_auth_if_token_available,
        )

        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    try:
        ray.init(address=address, **common)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise Unavailable(
            f"no Ray cluster answers at {address!r} ({error}); `memos-ray up` starts one on this machine",
            what="ray",
        ) from error
    return False


def prepare_environment() -> None:
    """What Ray and its workers should find: nothing that waits for a network which may not be there.

    Token authentication is Ray's own default for clusters that this starts, and for joining one where a token
    is; RAY_AUTH_MODE overrides it. Ray announces it with a warning on every start, which is kept quiet.
    """
    # Ray starts its processes by fork and exec: nothing of Lance runs in between.
    warnings.filterwarnings("ignore", message="lance is not fork-safe")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)


def _create(settings: Settings) -> None:
    # Only who starts a system needs them; not by `import`, for somebody else's package may have the name.
    directory_actor = _siblings.load("actors.directory").DirectoryActor
    embedder_actor = _siblings.load("actors.embedder").EmbedderActor
    embedder = (
        ray.remote(embedder_actor)
        .options(name=EMBEDDER_NAME, namespace=settings.namespace, get_if_exists=True, **EMBEDDER)
        .remote(settings)
    )
    ray.remote(directory_actor).options(
        name=DIRECTORY_NAME, namespace=settings.namespace, get_if_exists=True, **DIRECTORY
    ).remote(settings, embedder)


def _find(name: str, namespace: str) -> Any:
    try:
        return ray.get_actor(name, namespace=namespace)
    except ValueError:
        return None


def _settings_of(directory: Any) -> Settings:
    """Also waits for the directory's process: a worker that cannot start shows as a time-out here."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            settings: Settings = ray.get(directory.settings.remote(), timeout=deadline - time.monotonic())
            return settings
        except ray.exceptions.ActorUnavailableError:  # restarting
            if time.monotonic() > deadline:
                raise
        except ray.exceptions.GetTimeoutError as error:
            raise Unavailable(
                f"the directory did not come up in {_START_TIMEOUT_S:g} s; Ray's raylet.err says why",
                what="directory",
            ) from error
