"""Logs of the processes of a system: lines of text or of JSON, each with who said it and for which request.

Only processes that belong to the system call `configure`: a driver's logging is its own. What users store or ask for is
in no line: errors that may quote it are named by their type, wherever a message or a traceback would show them.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import TextIO

from pythonjsonlogger.json import JsonFormatter

from memos_ray.config import Settings
from memos_ray.errors import Corrupt, MemosError, Moved, Overloaded, Unavailable

LOGGERS = ("memos_ray", "actors", "cluster")
FIELDS = ("actor", "actor_name", "node_id", "pid", "request_id", "cube_id")
"""What every JSON line has beside `time`, `level`, `logger` and `message`; None where there is none."""

_TEXT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s [%(about)s] %(message)s"
_TIME = "%Y-%m-%dT%H:%M:%S"
_QUOTING = frozenset({"embedder", "reranker", "chat model", "extractor"})  # may repeat what they were sent
_HARMLESS = ("argument", "reason", "what", "retry_after_s", "expected_version", "version")

_request: ContextVar[str | None] = ContextVar("memos_request_id", default=None)
_cube: ContextVar[str | None] = ContextVar("memos_cube_id", default=None)


def request_id() -> str | None:
    """Of the call that is being served; None outside of one."""
    return _request.get()


@contextmanager
def serving(request: str | None, cube_id: str | None = None) -> Iterator[None]:
    """What is logged inside is about this request, and this cube."""
    at_request, at_cube = _request.set(request), _cube.set(cube_id)
    try:
        yield
    finally:
        _request.reset(at_request)
        _cube.reset(at_cube)


def configure(
    settings: Settings, *, actor: str, name: str, node_id: str, stream: TextIO | None = None
) -> None:
    """Sends what our loggers say in this process to `stream`, or to stderr, which Ray keeps in a file. Repeating it
    changes nothing."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.set_name("memos-ray")
    handler.addFilter(_Who(actor, name, node_id))
    handler.setFormatter(_Json() if settings.log_format == "json" else _Plain(_TEXT, _TIME))
    for name_of in LOGGERS:
        logger = logging.getLogger(name_of)
        for known in [h for h in logger.handlers if h.get_name() == handler.get_name()]:
            logger.removeHandler(known)
        logger.addHandler(handler)
        logger.setLevel(settings.log_level.upper())
        logger.propagate = False


def describe(error: BaseException) -> str:
    """The error in words that hold nothing of what users store: its message only if that is about machines."""
    name = type(error).__name__
    if isinstance(error, MemosError):
        quoting = isinstance(error, Unavailable) and error.fields.get("what") in _QUOTING
        if isinstance(error, (Moved, Overloaded, Unavailable, Corrupt)) and not quoting:
            return f"{name}: {error.message}"
        known = [f"{key}={error.fields[key]}" for key in _HARMLESS if error.fields.get(key) is not None]
        return f"{name} ({', '.join(known)})" if known else name
    about_machines = isinstance(error, (OSError, MemoryError)) or type(error).__module__.startswith("ray.")
    return f"{name}: {error}" if about_machines and str(error) else name


class _Who(logging.Filter):
    """Adds the fields that every line has; takes the words out of errors among the arguments."""

    def __init__(self, actor: str, name: str, node_id: str) -> None:
        super().__init__()
        self._fixed = {"actor": actor, "actor_name": name, "node_id": node_id, "pid": os.getpid()}

    def filter(self, record: logging.LogRecord) -> bool:
        for key, value in self._fixed.items():
            setattr(record, key, value)
        # A record may have been given its own: one that is about another request than the one being served.
        record.request_id = getattr(record, "request_id", None) or _request.get()
        record.cube_id = getattr(record, "cube_id", None) or _cube.get()
        if isinstance(record.args, tuple):
            record.args = tuple(describe(a) if isinstance(a, BaseException) else a for a in record.args)
        return True


ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def _traceback(info: ExcInfo) -> str:
    """Where it happened, and the error as `describe` has it."""
    error = info[1]
    if error is None:
        return ""
    return "".join(traceback.format_tb(error.__traceback__)) + describe(error)


class _Plain(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        found = record.__dict__
        who = f"{found['actor_name']} {found['node_id'][:8]} {found['pid']}"
        which = [f"{key}={found[key]}" for key in ("request_id", "cube_id") if found.get(key) is not None]
        record.about = " ".join([who, *which])
        return super().format(record)

    def formatException(self, ei: ExcInfo) -> str:
        return _traceback(ei)


class _Json(JsonFormatter):
    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__(
            ["asctime", "levelname", "name", "message", *FIELDS],
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger", "exc_info": "error"},
            json_ensure_ascii=False,
        )

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return f"{time.strftime(_TIME, time.gmtime(record.created))}.{int(record.msecs):03d}Z"

    def formatException(self, ei: ExcInfo) -> str:
        return _traceback(ei)
