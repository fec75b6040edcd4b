"""Health of a system over HTTP, for probes and load balancers: `/healthz`, `/readyz` and `/status`.

Deployed by Ray Serve as `serve_apps.health:build`. Joins the system of the cluster it runs on, or starts it there,
so that a cluster that is brought up by its Serve configuration (KubeRay's RayService) has one. Says nothing of single
cubes: whoever can reach a port is not therefore meant to know who has memories.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from memos_ray import AsyncMemOS
from memos_ray.config import Settings
from memos_ray.errors import MemosError

_SOME_ID = (
    "health"  # looked up in the registry, whether or not there is such a cube: a lookup changes nothing
)


class HealthArgs(BaseModel):
    """What `build` takes: the `args` of the application in a Serve configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="Settings of the system, by name; others come from MEMOS_RAY_… where the replica runs.",
    )
    timeout_s: float = Field(3.0, gt=0, le=60, description="How long one check may take.")
    fresh_s: float = Field(1.0, ge=0, le=60, description="Age up to which a check's result is given again.")


class Check:
    """One question to the system, asked by one at a time: probes that come while it hangs do not pile up behind it."""

    def __init__(self, ask: Callable[[], Awaitable[Any]], *, timeout_s: float, fresh_s: float) -> None:
        self._ask = ask
        self._timeout_s = timeout_s
        self._fresh_s = fresh_s
        self._asked: asyncio.Task[Any] | None = None
        self._asked_at = float("-inf")

    async def result(self) -> Any:
        """What the system says now, or said a moment ago. Raises `TimeoutError`, and what asking raised."""
        now = time.monotonic()
        if self._asked is None or (self._asked.done() and now - self._asked_at > self._fresh_s):
            self._asked, self._asked_at = asyncio.ensure_future(self._ask()), now
        done, _ = await asyncio.wait((self._asked,), timeout=self._timeout_s)
        if not done:
            raise TimeoutError(f"no answer for {time.monotonic() - self._asked_at:.1f} s")
        return self._asked.result()

    async def reason(self) -> str | None:
        """Why it is not well; None if it is."""
        try:
            await self.result()
        except MemosError as error:
            return error.message
        except Exception as error:  # a probe says what is wrong, whatever that is
            return f"{type(error).__name__}: {error}"
        return None


app = FastAPI(title="memos_ray health", docs_url=None, redoc_url=None, openapi_url=None)


@serve.deployment(max_ongoing_requests=64)
@serve.ingress(app)
class Health:
    """Answers the probes. One replica is enough; each asks at most once every `fresh_s`."""

    def __init__(self, args: HealthArgs) -> None:
        self._memory = AsyncMemOS(Settings(**args.settings))
        how = {"timeout_s": args.timeout_s, "fresh_s": args.fresh_s}
        self._checks = {
            "directory": Check(self._directory, **how),
            "embedder": Check(self._embedder, **how),
            "storage": Check(self._storage, **how),
        }
        self._counts = Check(self._count, **how)

    @app.get("/healthz")
    async def healthz(self) -> dict[str, str]:
        """This process answers. Says nothing of the system: a restart of this process would not mend that."""
        return {"status": "ok"}

    @app.get("/readyz", response_model=None)
    async def readyz(self) -> JSONResponse:
        """200 if memories can be kept and found: directory, embedder and storage answer; else 503 and why."""
        reasons = await asyncio.gather(*(check.reason() for check in self._checks.values()))
        found = {name: reason or "ok" for name, reason in zip(self._checks, reasons, strict=True)}
        ready = not any(reasons)
        return JSONResponse({"ready": ready, "checks": found}, 200 if ready else 503)

    @app.get("/status", response_model=None)
    async def status(self) -> JSONResponse:
        """Numbers of nodes, processes and active cubes, and what they use. No ids."""
        if (reason := await self._counts.reason()) is not None:
            return JSONResponse({"error": reason}, 503)
        return JSONResponse(await self._counts.result())

    async def _system(self) -> Any:
        """The connection; joins the system, or starts it, the first time. The client waits for none in a request."""
        return await asyncio.to_thread(self._memory.connect)

    async def _directory(self) -> None:
        await (await self._system()).ask_directory("settings")

    async def _embedder(self) -> None:
        await (await self._system()).check_embedder()

    async def _storage(self) -> None:
        from memos_ray.cube.registry import (
            Registry,
        )  # Lance: 0.3 s, not for whoever only builds the application

        data = (await self._system()).settings.data
        await asyncio.to_thread(lambda: Registry(data).lookup(_SOME_ID))

    async def _count(self) -> dict[str, Any]:
        connection = await self._system()
        hosts = await connection.ask_directory("hosts")
        nodes = await connection.ask_directory("nodes")
        return {
            "nodes": len(nodes),
            "nodes_draining": sum(node.draining for node in nodes),
            "hosts": len(hosts),
            "hosts_blank": sum(not host.cubes for host in hosts),
            "cubes_active": sum(len(host.cubes) for host in hosts),
            "calls_waiting": sum(host.waiting for host in hosts),
            "bytes_used": sum(host.uss_bytes for host in hosts),
        }


def build(args: HealthArgs) -> serve.Application:
    """The application. Serve makes `HealthArgs` of the configuration's `args`, and refuses what does not fit."""
    return Health.bind(args)  # type: ignore[attr-defined, no-any-return]
