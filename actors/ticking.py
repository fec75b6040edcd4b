"""What the directory does now and then: looks at nodes and hosts, fills the pool, passivates and moves cubes.

Carries out `placement.pool` and `placement.upkeep`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any

from actors.activity import Activity
from actors.fleet_keeper import FleetKeeper
from actors.whereabouts import Whereabouts
from memos_ray.config import Settings
from memos_ray.errors import MemosError
from memos_ray.placement import pool, upkeep
from memos_ray.placement.fleet import Fleet
from memos_ray.placement.policy import Policy

log = logging.getLogger(__name__)

PULSE_S = 0.5  # hosts that answer later are counted in the next tick


class Ticking:
    """`run` for as long as the directory lives."""

    def __init__(
        self,
        settings: Settings,
        fleet: Fleet,
        policy: Policy,
        hosts: FleetKeeper,
        cubes: Whereabouts,
        activity: Activity,
    ) -> None:
        self._tick_s = settings.tick_s
        self._fleet = fleet
        self._policy = policy
        self._hosts = hosts
        self._cubes = cubes
        self._activity = activity
        self._changes: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """A tick every `tick_s`, for ever."""
        while True:
            began = time.monotonic()
            try:
                await self._hosts.look_at_nodes()
                await self._hosts.pulse(min(PULSE_S, self._tick_s))
                self._tick(time.monotonic())
                self._activity.tell(self._fleet, self._policy, self._hosts, time.monotonic())
            except Exception:  # whatever it was: the next tick finds the fleet as it then is
                log.exception("a tick of the directory failed")
            await asyncio.sleep(max(0.0, began + self._tick_s - time.monotonic()))

    def fill_pool(self) -> None:
        """Starts the blank hosts that are missing. In ticks, not at each activation: what is being activated now goes
        before what may be asked for next."""
        for start in pool.fill(self._fleet, self._policy, time.monotonic()):
            self._hosts.start(start.node_id)

    def _tick(self, now: float) -> None:
        for end in pool.drop(self._fleet, self._policy, now):
            self._hosts.end(end.host)
        self.fill_pool()
        for name in upkeep.worn_out(self._fleet, self._policy):
            log.info("host %s is to end: it keeps memory of cubes that have left", name)
            self._fleet.hosts[name].leaving = True
        begun = {task.get_name() for task in self._changes}
        strays, self._hosts.strays = self._hosts.strays, {}
        for cube_id, name in strays.items():
            if cube_id not in begun:
                self._begin(cube_id, self._send_away(cube_id, name))
        begun = {task.get_name() for task in self._changes}
        for passivation in upkeep.passivations(self._fleet, self._policy, now):
            if passivation.cube_id not in begun:
                self._begin(passivation.cube_id, self._passivate(passivation))
        begun = {task.get_name() for task in self._changes}
        for move in upkeep.moves(self._fleet, self._policy, now):
            if move.cube_id not in begun:
                self._begin(move.cube_id, self._carry_out(move))

    def _begin(self, cube_id: str, change: Coroutine[Any, Any, None]) -> None:
        if len(self._changes) >= 2 * self._policy.changes:
            change.close()
            return
        task = asyncio.create_task(change, name=cube_id)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)

    async def _send_away(self, cube_id: str, name: str) -> None:
        async with self._cubes.lock(cube_id):
            await self._cubes.send_away(cube_id, name)

    async def _passivate(self, passivation: upkeep.Passivate) -> None:
        cube_id = passivation.cube_id
        async with self._cubes.lock(cube_id):
            idle = self._policy.idle_s if passivation.why == "idle" else 0.0
            if await self._cubes.let_go(cube_id, idle_for_s=idle):
                self._activity.passivation(passivation.why)
                log.info("passivated %r: %s", cube_id, passivation.why)

    async def _carry_out(self, move: upkeep.Move) -> None:
        async with self._cubes.lock(move.cube_id):
            moved = False
            try:
                moved = await self._cubes.move(move.cube_id, only=move.node_id, own=move.own)
                if moved:
                    log.info("moved %r: %s", move.cube_id, move.why)
            except MemosError as error:
                log.warning("moving %r failed: %s", move.cube_id, error)
            finally:
                self._activity.move(move.why, moved)
