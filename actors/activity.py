"""What the directory tells of its work: rates for `status`, and metrics."""

from __future__ import annotations

from actors import overview
from actors.fleet_keeper import FleetKeeper
from memos_ray import telemetry
from memos_ray.placement.fleet import Fleet
from memos_ray.placement.policy import Policy
from memos_ray.rates import Rates


class Activity:
    """Counts activations, passivations and moves as they happen."""

    def __init__(self) -> None:
        self.rates = Rates()

    def activation(self, source: str, attached: bool, seconds: float) -> None:
        """A cube came up, or did not; `source` as in `memos_activations`."""
        telemetry.count(telemetry.ACTIVATIONS, source=source, outcome="ok" if attached else "failed")
        if attached:
            telemetry.observe(telemetry.ACTIVATION_SECONDS, seconds, source=source)
            self.rates.add("activations")

    def passivation(self, why: str) -> None:
        """A cube was let go."""
        telemetry.count(telemetry.PASSIVATIONS, why=why)
        self.rates.add("passivations")

    def move(self, why: str, moved: bool) -> None:
        """A cube was to go elsewhere."""
        telemetry.count(telemetry.MOVES, why=why, outcome="ok" if moved else "failed")
        if moved:
            self.rates.add("moves")

    def tell(self, fleet: Fleet, policy: Policy, hosts: FleetKeeper, now: float) -> None:
        """Once a tick: the gauges, and what the hosts served."""
        overview.tell(fleet, policy, now, hosts.infos())
        self.rates.add("calls", hosts.served)
        hosts.served = 0
        self.rates.sample(now)


def source_of(fleet: Fleet, name: str, began: float) -> str:
    """Where a cube comes up that is attached to this host, asked for at `began`."""
    host = fleet.hosts[name]
    if host.cubes:
        return "packed"
    if host.ready:
        return "warm"
    return "started" if host.started_at >= began else "starting"
