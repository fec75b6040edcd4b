"""What every actor of a system does to be observed: its logs, its metrics, and a word on every call it served."""

from __future__ import annotations

import logging
from typing import Any

import ray

from actors import metrics
from memos_ray import logs, telemetry
from memos_ray.config import Settings
from memos_ray.errors import Corrupt, MemosError, Moved, Overloaded, Rejected, Unavailable
from memos_ray.wire import Call

log = logging.getLogger(__name__)

_RETRIED = frozenset({"Moved", "Overloaded", "Unavailable"})
_LEVELS = {
    "ok": logging.DEBUG,
    "moved": logging.DEBUG,
    "unavailable": logging.WARNING,
    "corrupt": logging.ERROR,
}


def observe_process(settings: Settings, *, actor: str, name: str) -> str:
    """Begins to log and to report figures, where this is a process of the system and not a driver's. Its node's id."""
    node_id = str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""
    if ray.is_initialized() and ray._private.worker.global_worker.mode == ray.WORKER_MODE:
        logs.configure(settings, actor=actor, name=name, node_id=node_id)
        metrics.start()
    return node_id


def outcome_of(error: MemosError | None) -> str:
    """What came of a call, in a word: the tag `outcome` of `memos_calls`."""
    match error:
        case None:
            return "ok"
        case Moved():
            return "moved"
        case Overloaded():
            return "late" if error.fields.get("reason") == "late" else "overloaded"
        case Unavailable():
            return "unavailable"
        case Rejected():
            return "rejected"
        case Corrupt():
            return "corrupt"
        case _:
            return "failed"


def note_call(verb: str, call: Call, outcome: str, error: MemosError | None, seconds: float) -> None:
    """Counts a call, and logs it: what went wrong always, what went well for those who debug.

    `verb` is one that there is, or "unknown": a tag may not be whatever a caller sends.
    """
    telemetry.count(telemetry.CALLS, verb=verb, outcome=outcome)
    telemetry.observe(telemetry.CALL_SECONDS, seconds, verb=verb)
    if call.after in _RETRIED:
        telemetry.count(telemetry.RETRIES, error=call.after)
    level = _LEVELS.get(outcome, logging.INFO)
    if log.isEnabledFor(level) and outcome != "failed":  # that has its traceback in the log already
        log.log(
            level,
            "%s: %s after %.1f ms%s",
            verb,
            outcome,
            1e3 * seconds,
            "" if error is None else f" ({logs.describe(error)})",
        )


def restarts_of_this_actor() -> int:
    """How often Ray has restarted it."""
    from ray._private import state

    return int(state.actors(ray.get_runtime_context().get_actor_id()).get("NumRestarts", 0))


def logs_folder() -> str:
    """Where Ray keeps the logs of this node's processes."""
    node: Any = ray._private.worker._global_node
    return str(node.get_logs_dir_path())
