"""Lines of the system's processes: their fields, and what is never in them."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from memos_ray import logs
from memos_ray.config import Settings
from memos_ray.errors import Conflict, Corrupt, Invalid, MemosError, Overloaded, Unavailable

SECRET = "the heron nests at noon"


@pytest.fixture
def stderr() -> Iterator[io.StringIO]:
    """What the process would write there; the loggers are as they were afterwards."""
    written = io.StringIO()
    loggers = [logging.getLogger(name) for name in logs.LOGGERS]
    before = [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    yield written
    for logger, (level, propagate, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.propagate, logger.handlers = propagate, handlers


def configure(stream: io.StringIO, log_format: str = "json", log_level: str = "info") -> None:
    settings = Settings(log_format=log_format, log_level=log_level)
    logs.configure(settings, actor="host", name="host:1", node_id="abcdef0123456789", stream=stream)


def lines(stderr: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stderr.getvalue().splitlines()]


def test_a_json_line_has_all_fields(stderr):
    configure(stderr)
    with logs.serving("r-1", "user:ada"):
        logging.getLogger("actors.mem_cube").info("%s: %s", "search", "ok", extra={"rows": 3})
    (line,) = lines(stderr)
    moment = datetime.fromisoformat(line.pop("time"))
    assert moment.tzinfo is not None
    assert abs((datetime.now(UTC) - moment).total_seconds()) < 60
    assert line.pop("pid") > 0
    assert line == {
        "level": "INFO",
        "logger": "actors.mem_cube",
        "message": "search: ok",
        "actor": "host",
        "actor_name": "host:1",
        "node_id": "abcdef0123456789",
        "request_id": "r-1",
        "cube_id": "user:ada",
        "rows": 3,
    }


def test_a_text_line_names_who_and_which_request(stderr):
    configure(stderr, "text")
    with logs.serving("r-2", "c"):
        logging.getLogger("memos_ray.cube").warning("slow")
    logging.getLogger("memos_ray.cube").warning("nobody asked")
    first, second = stderr.getvalue().splitlines()
    assert "Z WARNING memos_ray.cube [host:1 abcdef01 " in first
    assert first.endswith("request_id=r-2 cube_id=c] slow")
    assert second.endswith("] nobody asked")
    assert "request_id" not in second


def test_levels_and_repeated_configuration(stderr):
    configure(stderr, log_level="warning")
    configure(stderr, log_level="warning")
    logging.getLogger("cluster.x").info("not said")
    logging.getLogger("cluster.x").warning("said once")
    assert [line["message"] for line in lines(stderr)] == ["said once"]


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_errors_that_quote_users_are_named_by_type(stderr, log_format):
    configure(stderr, log_format)
    log = logging.getLogger("actors.x")
    quoting = [
        Invalid(f"bad query {SECRET!r}", argument="query"),
        Unavailable(f"the embedder failed: {SECRET}", what="embedder"),
        MemosError(f"failed unexpectedly: {SECRET}"),
        ValueError(SECRET),
    ]
    for error in quoting:
        log.warning("it failed: %s", error)
        try:
            raise error
        except Exception:
            log.exception("it failed")
    said = stderr.getvalue()
    assert SECRET not in said
    assert "Invalid (argument=query)" in said
    assert "ValueError" in said
    assert "test_logs.py" in said  # where it happened is there


def test_errors_about_machines_say_what_happened():
    assert logs.describe(OSError(28, "No space left on device")).endswith("No space left on device")
    assert logs.describe(Corrupt("version 3 of x cannot be read", path="x")).endswith("cannot be read")
    assert logs.describe(Overloaded("7 calls wait", retry_after_s=0.1)) == "Overloaded: 7 calls wait"
    assert logs.describe(Conflict(SECRET, expected_version=1, version=2)) == (
        "Conflict (expected_version=1, version=2)"
    )


async def test_calls_that_run_at_once_keep_their_requests_apart():
    seen = {}

    async def serve(request: str) -> None:
        with logs.serving(request):
            await asyncio.sleep(0)
            seen[request] = logs.request_id()

    await asyncio.gather(serve("a"), serve("b"))
    assert seen == {"a": "a", "b": "b"}
    assert logs.request_id() is None
