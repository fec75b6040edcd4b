"""Fleets for tests of placement, made as the directory makes them: by what it is told."""

from collections.abc import Iterable

from memos_ray.placement.fleet import CubeUse, Fleet, Host, Node
from memos_ray.placement.policy import Policy
from memos_ray.placement.shards import shard_of

GB = 10**9
MB = 10**6
PACKED = Policy(cubes_per_actor=4)
ALONE = Policy()


def fleet_of(nodes: Iterable[str] = ("a", "b"), *, cpus: float = 4.0, memory: float = 10 * GB) -> Fleet:
    fleet = Fleet()
    fleet.set_nodes(Node(name, cpus, memory) for name in nodes)
    return fleet


def host_on(fleet: Fleet, name: str, node: str = "a", *, ready: bool = True, bytes_: int = 100 * MB) -> Host:
    host = fleet.starting(name, node, 0.0)
    if ready:
        fleet.pulse(name, bytes_, (), 0.0)
    return host


def hold(
    fleet: Fleet,
    host: str,
    cube_id: str,
    now: float = 0.0,
    *,
    packed: bool = True,
    items: int = 100,
    shard: int | None = None,
) -> None:
    fleet.attaching(cube_id, shard_of(cube_id) if shard is None else shard, host, now, packed=packed)
    fleet.attached(cube_id, 1, items, now)


def report(fleet: Fleet, host: str, now: float, *, bytes_: int | None = None, **busy: float) -> None:
    """A pulse of a host whose cubes have been as busy for long, so that nothing is left to smooth. Cubes that are
    not named go on as they are; all have just been used."""
    one = fleet.hosts[host]
    for cube in one.cubes.values():
        share = busy.get(cube.cube_id, cube.busy)
        one.seen_at = now - 1000.0
        cube.busy_s = 0.0
        cube.busy = 0.0
        busy[cube.cube_id] = share
    uses = [
        CubeUse(c.cube_id, "", c.epoch, c.items, c.calls + 1, 1000.0 * busy[c.cube_id], 0.0)
        for c in one.cubes.values()
    ]
    fleet.pulse(host, one.uss_bytes if bytes_ is None else bytes_, uses, now)
