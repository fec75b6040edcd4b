"""What the directory knows of hosts that answer late, answer in part, or hold more than it knows of. No Ray: hosts are
objects that answer as told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors import fleet_keeper
from actors.activity import Activity
from actors.fleet_keeper import FleetKeeper
from actors.whereabouts import Whereabouts
from memos_ray.config import Settings
from memos_ray.placement.fleet import CubeUse, Fleet
from memos_ray.placement.policy import Policy
from memos_ray.wire import HostInfo, Reply


class Method:
    def __init__(self, answer: Any, called: list[tuple[Any, ...]]) -> None:
        self._answer, self.called = answer, called

    def remote(self, *args: Any) -> Any:
        self.called.append(args)

        async def answered() -> Any:
            if self._answer is HANGS:
                await asyncio.Event().wait()
            return self._answer

        return answered()


HANGS = object()


class Host:
    """`answers`: by method; what is not named answers None."""

    def __init__(self, **answers: Any) -> None:
        self._answers = answers
        self.called: dict[str, list[tuple[Any, ...]]] = {}

    def __getattr__(self, name: str) -> Method:
        return Method(self._answers.get(name), self.called.setdefault(name, []))


def use(cube_id: str, epoch: int = 1, items: int = 10) -> CubeUse:
    return CubeUse(cube_id, "i", epoch, items, calls=0, busy_s=0.0, idle_s=0.0)


def info(name: str, *cubes: CubeUse) -> HostInfo:
    return HostInfo(name, 1, "node", cubes, uss_bytes=1)


class Keeper(FleetKeeper):
    """With hosts that are there already."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **hosts: Host) -> None:
        settings = Settings(cubes_per_actor=10, host_timeout_s=0.05)
        self.policy = Policy.from_settings(settings)
        self.fleet = Fleet()
        super().__init__(settings, None, self.fleet, self.policy)
        self.killed: list[Host] = []
        monkeypatch.setattr(fleet_keeper.ray, "kill", self.killed.append)
        for name, host in hosts.items():
            self._handles[name] = host
            self.fleet.starting(name, "node", 0.0)

    def cubes(self) -> Whereabouts:
        settings = Settings(cubes_per_actor=10)
        catalogue: Any = None
        return Whereabouts(settings, self.fleet, self.policy, self, catalogue, Activity())

    async def found(self, *infos: HostInfo) -> dict[str, str]:
        for one in infos:
            for cube in one.cubes:
                await self._take_over(one, cube.cube_id, cube.epoch, cube.items)
        return {cube_id: cube.host for cube_id, cube in self.fleet.cubes.items()}


async def test_a_host_that_attaches_or_lets_go_still_answers(monkeypatch):
    keeper = Keeper(monkeypatch, busy=Host(describe=HANGS), hung=Host(ping=HANGS))
    assert await keeper.answers("busy", 1.0)
    assert not await keeper.answers("hung", 0.01)
    assert not await keeper.answers("unknown", 1.0)


async def test_of_two_hosts_with_the_same_cubes_the_one_that_lets_none_go_is_given_up_once(monkeypatch):
    keeper = Keeper(monkeypatch, new=Host(detach=Reply(True)), old=Host(detach=HANGS))
    infos = info("new", use("a", 2), use("b", 2)), info("old", use("a"), use("b"), use("c"))
    assert await keeper.found(*infos) == {"a": "new", "b": "new"}
    assert [k.called.keys() for k in keeper.killed] == [{"detach"}]


async def test_a_large_cube_that_was_alone_stays_so_and_one_among_others_does_not_close_its_host(monkeypatch):
    keeper = Keeper(monkeypatch, alone=Host(), shared=Host())
    large = keeper.policy.own_items + 1
    await keeper.found(info("alone", use("a", items=large)), info("shared", use("b"), use("c", items=large)))
    assert keeper.fleet.own == {"a"}
    assert [keeper.fleet.hosts[name].own for name in ("alone", "shared")] == [True, False]


async def test_what_a_process_takes_to_come_up_makes_nobody_patient(monkeypatch):
    keeper = Keeper(monkeypatch, host=Host(pulse=info("host")))
    clock = iter(range(0, 1_000, 3))
    monkeypatch.setattr(fleet_keeper.time, "monotonic", lambda: float(next(clock)))
    await keeper._pulse("host")
    assert (keeper._took_s, keeper.fleet.hosts["host"].ready) == (0.0, True)
    await keeper._pulse("host")
    assert keeper._took_s > 0.0


async def test_a_cube_that_a_host_holds_for_nobody_is_let_go(monkeypatch):
    host = Host(pulse=info("host", use("known"), use("stray")), detach=Reply(True))
    keeper = Keeper(monkeypatch, host=host)
    await keeper.found(info("host", use("known")))
    await keeper._pulse("host")
    assert keeper.strays == {"stray": "host"}
    for cube_id in ("stray", "known"):  # the second has come to be looked for there meanwhile
        await keeper.cubes().send_away(cube_id, "host")
    assert host.called["detach"] == [("stray",)]
