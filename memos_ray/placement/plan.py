"""What a system of so many cubes needs, computed from the measured constants. Pure arithmetic; knows no prices but
those that it is given.

Everything is a demand on one of a few resources: memory and cores of nodes, processes and nodes of a Ray cluster, the
one core of a directory, requests to the object store. The resource that asks for the most nodes names the bottleneck;
halving each constant in turn says what it is worth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from memos_ray.errors import Invalid
from memos_ray.placement.constants import CONSTANTS, values
from memos_ray.placement.pool import SAFETY
from memos_ray.placement.shards import TABLES

_MONTH_S = 730 * 3600.0
_DIRECTORY_SHARE = (
    0.5  # of its core that a directory may be busy in the mean: beyond, those who ask wait in line
)
_PREFIXES = 256  # that cubes are spread over by the first two characters of their folders


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of a system. `active`: cubes that are active at the same time; times in seconds."""

    cubes: int = 1_000_000
    active: int = 20_000
    items: int = 1_000
    qps: float = 250.0
    adds_per_s: float = 100.0
    root: str = "s3"  # or "folder"
    cubes_per_actor: int = 100
    session_s: float = 240.0  # that a cube is in use when it is; then it stays active for…
    idle_s: float = 900.0
    tick_s: float = 1.0
    node_memory: float = 64e9
    node_cpus: float = 16.0
    memory_share: float = 0.6  # of a node's memory that hosts may take
    cpu_share: float = 0.6  # of its cores that are planned with
    node_price: float = 0.5  # an hour
    put_price: float = 0.005  # a thousand
    get_price: float = 0.0004  # a thousand
    storage_price: float = 0.023  # a GB and month

    def check(self) -> None:
        """Raises `Invalid`."""
        for name in ("cubes", "items", "cubes_per_actor"):
            if getattr(self, name) < 1:
                raise Invalid(f"{name} must be 1 at least", argument=name)
        if not 0 <= self.active <= self.cubes:
            raise Invalid(f"active lies from 0 to the {self.cubes:,} cubes there are", argument="active")
        for name in ("node_memory", "node_cpus", "idle_s", "tick_s"):
            if not getattr(self, name) > 0:
                raise Invalid(f"{name} must be above 0", argument=name)
        for name in ("memory_share", "cpu_share"):
            if not 0 < getattr(self, name) <= 1:
                raise Invalid(f"{name} lies above 0, and at most at 1", argument=name)
        for name in (
            "qps",
            "adds_per_s",
            "session_s",
            "node_price",
            "put_price",
            "get_price",
            "storage_price",
        ):
            if not getattr(self, name) >= 0:
                raise Invalid(f"{name} must not be below 0", argument=name)
        if self.root not in ("s3", "folder"):
            raise Invalid(f"root is 's3' or 'folder', not {self.root!r}", argument="root")


@dataclass(frozen=True, slots=True)
class Need:
    """One resource: how much of it, how many nodes that would take if it were alone, and what it follows from."""

    resource: str
    amount: float
    unit: str
    nodes: float
    by: tuple[str, ...]  # constants, the weightiest first


@dataclass(frozen=True, slots=True)
class Bound:
    """What one cluster (or prefix) can do: how many are needed for it."""

    what: str
    amount: float
    most: float
    unit: str
    needed: int
    source: str
    by: str = ""  # the constant that weighs most in what is asked for


@dataclass(frozen=True, slots=True)
class Saving:
    """What halving a constant would save, a month."""

    constant: str
    nodes: int
    cost: float


@dataclass(frozen=True, slots=True)
class SystemPlan:
    """The answer. Costs are a month, in the currency of the prices."""

    demand: Demand
    needs: tuple[Need, ...]
    bounds: tuple[Bound, ...]
    nodes: int
    cells: int
    hosts: int
    warm: int
    activations_per_s: float
    changes_per_tick: int
    storage_bytes: float
    files: float
    puts_per_s: float
    gets_per_s: float
    registry_bytes: float
    registry_rows_per_table: float  # in each cluster
    directory_busy: float  # of one core, all cells together
    commit_s: float
    registrations_per_s: float  # at most, one by one, all tables of a cluster's registry together
    node_cost: float
    request_cost: float
    storage_cost: float
    bottleneck: str  # the resource that asks for the most nodes
    cells_by: Bound  # the bound that asks for the most clusters
    savings: tuple[Saving, ...]  # the largest first

    @property
    def cost(self) -> float:
        """Of a month."""
        return self.node_cost + self.request_cost + self.storage_cost


def plan(demand: Demand, overrides: Mapping[str, float] | None = None) -> SystemPlan:
    """Raises `Invalid` for what cannot be asked for, and for constants that there are not."""
    demand.check()
    known = values(overrides)
    whole = _plan(demand, known)
    savings = []
    for name in CONSTANTS:
        if CONSTANTS[name].unit in ("actors", "nodes") or name.startswith("prefix") or not known[name]:
            continue
        better = {**known, name: known[name] * (2 if name in _MORE_IS_BETTER else 0.5)}
        other = _plan(demand, better)
        if other.cost < whole.cost:
            savings.append(Saving(name, whole.nodes - other.nodes, whole.cost - other.cost))
    return replace(whole, savings=tuple(sorted(savings, key=lambda s: (-s.cost, s.constant))))


_MORE_IS_BETTER = ("embed_texts_per_core_s", "returned")


def _plan(d: Demand, k: Mapping[str, float]) -> SystemPlan:
    # Little's law: a cube stays active for as long as it is used, and then for `idle_s`.
    activations = d.active / (d.session_s + d.idle_s)
    warm = max(
        1,
        math.ceil(SAFETY * k["start_s"] * activations / (1 if d.cubes_per_actor == 1 else d.cubes_per_actor)),
    )
    hosts = math.ceil(d.active / d.cubes_per_actor) + warm
    memory = hosts * k["process_bytes"] + d.active * (k["cube_bytes"] + d.items * k["item_bytes"])
    cores = {
        "search_cpu_s": d.qps * k["search_cpu_s"],
        "add_cpu_s": d.adds_per_s * k["add_cpu_s"],
        "attach_cpu_s": activations * (k["attach_cpu_s"] + d.items * k["attach_item_s"]),
    }
    embed = d.adds_per_s / k["embed_texts_per_core_s"]
    per_node = d.memory_share * d.node_memory
    cpu_node = d.cpu_share * d.node_cpus
    needs = (
        Need("memory of active cubes", memory, "B", memory / per_node, _memory_by(d, k, hosts)),
        Need(
            "cores of hosts",
            sum(cores.values()),
            "cores",
            sum(cores.values()) / cpu_node,
            tuple(sorted(cores, key=lambda name: -cores[name])),
        ),
        Need("cores of embedders", embed, "cores", embed / cpu_node, ("embed_texts_per_core_s",)),
    )
    by_memory, by_cores = needs[0].nodes, needs[1].nodes + needs[2].nodes
    workers = max(1, math.ceil(max(by_memory, by_cores) - 1e-9))
    directory = {
        "locate_s": activations * k["locate_s"],
        "pulse_host_s": hosts * k["pulse_host_s"] / d.tick_s,
        "pulse_cube_s": d.active * k["pulse_cube_s"] / d.tick_s,
    }
    puts, gets = _requests(d, k, activations)
    bounds = _bounds(d, k, hosts, workers, directory, puts, gets)
    cells_by = max((b for b in bounds if b.unit != "1/s"), key=lambda b: b.needed)
    cells = cells_by.needed
    nodes = workers + (cells if workers > 1 else 0)  # a head for each cell; one machine is its own
    item_bytes = k["journal_bytes"] + k["vector_bytes"] + k["checkpoint_bytes"]
    storage = d.cubes * (d.items * item_bytes + k["registry_row_bytes"])
    prices = d.root == "s3"
    return SystemPlan(
        demand=d,
        needs=needs,
        bounds=bounds,
        nodes=nodes,
        cells=cells,
        hosts=hosts,
        warm=warm,
        activations_per_s=activations,
        changes_per_tick=max(8, math.ceil(SAFETY * activations * d.tick_s / cells)),
        storage_bytes=storage,
        files=d.cubes * k["cube_files"],
        puts_per_s=puts,
        gets_per_s=gets,
        registry_bytes=d.cubes * k["registry_row_bytes"],
        registry_rows_per_table=d.cubes / (TABLES * cells),
        directory_busy=sum(directory.values()),
        commit_s=k["append_s"] if d.root == "s3" else k["commit_s"],
        registrations_per_s=TABLES / k["registry_commit_s"],
        node_cost=nodes * d.node_price * _MONTH_S / 3600,
        request_cost=_MONTH_S * (puts * d.put_price + gets * d.get_price) / 1000 if prices else 0.0,
        storage_cost=storage / 1e9 * d.storage_price if prices else 0.0,
        bottleneck=max(needs, key=lambda need: need.nodes).resource,
        cells_by=cells_by,
        savings=(),
    )


def _memory_by(d: Demand, k: Mapping[str, float], hosts: int) -> tuple[str, ...]:
    parts = {
        "process_bytes": hosts * k["process_bytes"],
        "cube_bytes": d.active * k["cube_bytes"],
        "item_bytes": d.active * d.items * k["item_bytes"],
    }
    return tuple(sorted(parts, key=lambda name: -parts[name]))


def _requests(d: Demand, k: Mapping[str, float], activations: float) -> tuple[float, float]:
    """(writes and listings, reads) a second: stores ask the same for listings as for writes."""
    puts = d.adds_per_s * (k["puts_per_commit"] + k["lists_per_commit"])
    puts += d.qps * k["lists_per_read"] + activations * k["puts_per_activation"]
    return puts, activations * k["gets_per_activation"]


def _bounds(
    d: Demand,
    k: Mapping[str, float],
    hosts: int,
    workers: int,
    directory: Mapping[str, float],
    puts: float,
    gets: float,
) -> tuple[Bound, ...]:
    def bound(what: str, amount: float, most: float, unit: str, source: str, by: str = "") -> Bound:
        return Bound(what, amount, most, unit, max(1, math.ceil(amount / most - 1e-9)), source, by)

    actors, nodes = CONSTANTS["ray_actors"].source, CONSTANTS["ray_nodes"].source
    found = [
        bound("actors of a Ray cluster", hosts + 2, k["ray_actors"], "actors", actors),
        bound("nodes of a Ray cluster", workers + 1, k["ray_nodes"], "nodes", nodes),
        bound(
            "a directory's core",
            sum(directory.values()),
            _DIRECTORY_SHARE,
            "cores",
            "one event loop, half busy at most",
            max(directory, key=lambda name: directory[name]),
        ),
    ]
    if d.root == "s3":
        prefix = CONSTANTS["prefix_puts_per_s"].source
        found += [
            bound("writes of a prefix", puts / _PREFIXES, k["prefix_puts_per_s"], "1/s", prefix),
            bound("reads of a prefix", gets / _PREFIXES, k["prefix_gets_per_s"], "1/s", prefix),
        ]
    return tuple(found)
