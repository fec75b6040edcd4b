"""What holds of a fleet after every event, whatever happens."""

import math

from memos_ray.placement.place import starts_at_once
from memos_ray.placement.simulation import Simulation


class Always:
    """Given to a simulation as `watch`. Remembers what nodes that drain hold: it may only become less."""

    def __init__(self) -> None:
        self.draining: dict[str, set[str]] = {}
        self.seen = 0

    def __call__(self, sim: Simulation) -> None:
        self.seen += 1
        fleet, policy = sim.fleet, sim.policy
        for host in fleet.hosts.values():
            for cube_id, cube in host.cubes.items():
                assert fleet.cubes[cube_id] is cube, "a cube is on one host"
                assert cube.host == host.name
            assert len(host.cubes) <= policy.cubes_per_actor
            assert not host.own or len(host.cubes) <= 1
            assert math.isclose(
                host.busy, sum(c.busy for c in host.cubes.values()) + sum(host.coming.values()), abs_tol=1e-6
            )
            assert host.largest >= max((c.items for c in host.cubes.values()), default=0)
            assert host.oldest <= min((c.used_at for c in host.cubes.values()), default=math.inf)
        assert len(fleet.cubes) == sum(len(host.cubes) for host in fleet.hosts.values())
        for name in fleet.shards.values():
            assert fleet.hosts[name].cubes, "the home of a shard holds something"
        assert fleet.own <= set(fleet.cubes)
        assert len(sim.changes) <= 2 * policy.changes
        for node_id in fleet.nodes:
            hosts = list(fleet.on(node_id))
            assert fleet.used_bytes(node_id) == sum(host.uss_bytes for host in hosts)
            assert sum(not host.ready for host in hosts) <= starts_at_once(fleet, policy, node_id)
        self._owners(sim)
        self._draining(sim)

    def _owners(self, sim: Simulation) -> None:
        """As it is, not as the directory believes: no cube answers in two processes."""
        answering = [
            one.cube_id for process in sim.processes.values() for one in process.active.values() if one.up
        ]
        assert len(answering) == len(set(answering))

    def _draining(self, sim: Simulation) -> None:
        now = {}
        for node in sim.fleet.nodes.values():
            if node.draining:
                hosts = list(sim.fleet.on(node.node_id))
                there = {cube_id for host in hosts for cube_id in (*host.cubes, *host.coming)}
                assert there <= self.draining.get(node.node_id, there), "nothing is placed on a draining node"
                now[node.node_id] = there
        self.draining = now
