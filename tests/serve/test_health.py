"""The health application through Ray Serve, over real HTTP."""

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import ray
from pydantic import ValidationError
from ray import serve

from memos_ray import MemOS
from serve_apps.health import HealthArgs, build

pytestmark = [pytest.mark.serve, pytest.mark.ray, pytest.mark.timeout(180)]

NAMESPACE = "test-health"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, MemOS, Path]]:
    """Where the application answers, a client of the same system, and its data."""
    data = tmp_path_factory.mktemp("health") / "data"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with MemOS(data=str(data), address="local", namespace=NAMESPACE, embedder="hash") as memory:
        serve.start(http_options={"host": "127.0.0.1", "port": port}, proxy_location="HeadOnly")
        args = HealthArgs(settings={"namespace": NAMESPACE, "call_timeout_s": 2.0}, fresh_s=0.0)
        serve.run(build(args), name="health", route_prefix="/")
        yield f"http://127.0.0.1:{port}", memory, data
        serve.shutdown()


def test_a_well_system_is_ready_and_counts_without_naming(served: tuple[str, MemOS, Path]):
    where, memory, _ = served
    memory.add("The heron stands still.", cube_id="user:secret")
    assert httpx.get(f"{where}/healthz").json() == {"status": "ok"}
    ready = httpx.get(f"{where}/readyz", timeout=20)
    assert ready.status_code == 200, ready.text
    assert ready.json() == {
        "ready": True,
        "checks": dict.fromkeys(("directory", "embedder", "storage"), "ok"),
    }
    status = httpx.get(f"{where}/status", timeout=20)
    assert status.status_code == 200, status.text
    counts = status.json()
    assert counts["nodes"] == 1
    assert counts["cubes_active"] == 1
    assert counts["hosts"] >= 1
    assert counts["bytes_used"] > 0
    assert "secret" not in status.text


def test_what_fails_is_named_and_the_process_stays_well(served: tuple[str, MemOS, Path]):
    where, _, data = served
    moved = data.with_name("away")
    registry = data / "registry"
    assert registry.is_dir()
    registry.rename(moved)
    registry.write_text("no folder")
    try:
        ready = httpx.get(f"{where}/readyz", timeout=20)
    finally:
        registry.unlink()
        moved.rename(registry)
    assert ready.status_code == 503
    assert ready.json()["checks"]["directory"] == "ok"
    assert "registry" in ready.json()["checks"]["storage"]
    assert httpx.get(f"{where}/healthz").status_code == 200
    assert httpx.get(f"{where}/readyz", timeout=20).status_code == 200
    ray.kill(ray.get_actor("embedder", namespace=NAMESPACE))
    ready = httpx.get(f"{where}/readyz", timeout=20)
    assert ready.status_code == 503
    assert "embedder" in ready.json()["checks"]["embedder"]
    assert ready.json()["checks"]["storage"] == "ok"


def test_arguments_are_checked():
    with pytest.raises(ValidationError, match="colour"):
        HealthArgs(colour="blue")
    with pytest.raises(ValidationError):
        HealthArgs(timeout_s=0)
