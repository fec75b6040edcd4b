"""Placement under random events: what always holds, and that moves come to an end."""

from hypothesis import given
from hypothesis import strategies as st
from placement_checks import Always
from placement_made import GB, MB, fleet_of, host_on, report

from memos_ray.placement import pool, upkeep
from memos_ray.placement.costs import Costs, Time
from memos_ray.placement.fleet import Fleet
from memos_ray.placement.place import Full, Start, place
from memos_ray.placement.policy import Policy
from memos_ray.placement.simulation import Cluster, Plan, Simulation
from memos_ray.placement.traffic import Traffic

COSTS = Costs(
    start=Time(2.0, 4.0),
    attach=Time(0.05, 0.5),
    attach_item_s=1e-5,
    drain=Time(0.05, 0.5),
    answer=Time(0.01, 0.03),
    locate_s=0.002,
    tick_cube_s=1e-5,
    tick_host_s=1e-4,
    search_cpu_s=0.3,
    add_cpu_s=0.1,
    process_bytes=100 * MB,
    cube_bytes=1 * MB,
    item_bytes=10_000,
    returned=0.7,
)
EVENTS = st.lists(
    st.builds(
        Plan,
        at_s=st.floats(0.0, 60.0),
        kind=st.sampled_from(["add", "fail", "drain", "undrain"]),
        node_id=st.sampled_from([f"node-{i}" for i in range(4)]),
    ),
    max_size=8,
)
CALLS = st.lists(st.tuples(st.floats(0.0, 60.0), st.integers(0, 14), st.booleans()), max_size=80)


@given(
    plans=EVENTS,
    calls=CALLS,
    packed=st.sampled_from([1, 2, 5]),
    changes=st.integers(1, 4),
    idle_s=st.sampled_from([3.0, 20.0]),
    memory=st.sampled_from([400 * MB, 10 * GB]),
    items=st.sampled_from([100, 20_000]),
    seed=st.integers(0, 3),
)
def test_what_always_holds(
    plans: list[Plan],
    calls: list[tuple[float, int, bool]],
    packed: int,
    changes: int,
    idle_s: float,
    memory: float,
    items: int,
    seed: int,
):
    policy = Policy(cubes_per_actor=packed, changes=changes, idle_s=idle_s, rest_s=5.0, warm_max=3)
    cluster = Cluster(nodes=2, cpus=2, memory_bytes=memory, pulse_s=2.0)
    always = Always()
    sim = Simulation(
        cluster,
        policy,
        Traffic(cubes=15, items=items),
        COSTS,
        seed=seed,
        plans=plans,
        calls=sorted(calls),
        watch=always,
    )
    outcome = sim.run(200.0)
    assert always.seen > 200
    assert outcome.calls == len(calls)
    # Nothing is asked for any more: whoever asked has been served, or was told that there is no room.
    assert outcome.hits + outcome.waits.count + outcome.failed + outcome.still_waiting == len(calls)
    assert outcome.still_waiting == 0
    if memory == 10 * GB and not any(plan.kind in ("fail", "drain") for plan in plans):
        assert outcome.failed == 0
    assert not sim.active
    assert not sim.changes


SHARES = st.floats(0.0, 0.6)
CUBES = st.lists(
    st.tuples(SHARES, st.sampled_from([10, 1_000, 30_000]), st.integers(0, 3)), min_size=1, max_size=24
)


@given(
    cubes=CUBES,
    packed=st.sampled_from([1, 3, 8]),
    changes=st.sampled_from([1, 8]),
    nodes=st.integers(1, 3),
    cpus=st.sampled_from([1.0, 4.0]),
    drains=st.booleans(),
)
def test_moves_end_under_constant_load(
    cubes: list[tuple[float, int, int]], packed: int, changes: int, nodes: int, cpus: float, drains: bool
):
    names = [f"n{i}" for i in range(nodes)]
    fleet = fleet_of(names, cpus=cpus, memory=(40 if drains else 4) * GB)  # one node can hold all that drains
    policy = Policy(cubes_per_actor=packed, changes=changes, starts_per_cpu=10.0)
    load = {f"c{i}": cube for i, cube in enumerate(cubes)}
    for cube_id, (_, items, shard) in load.items():
        where = place(fleet, policy, cube_id, shard, 0.0)
        assert not isinstance(where, Full)
        name = host_on(fleet, f"h{cube_id}", where.node_id).name if isinstance(where, Start) else where.host
        fleet.attaching(cube_id, shard, name, 0.0, packed=packed > 1)
        fleet.attached(cube_id, 1, items, 0.0)
    fleet.nodes["n0"].draining = drains
    carried_out, now = [], 0.0
    for _ in range(150):
        now += policy.rest_s
        settle(fleet, policy, load, now)
        carried_out.append(carry_out(fleet, policy, load, now))
    assert not any(carried_out[-20:]), carried_out
    if drains and nodes > 1:
        assert not any(host.cubes for host in fleet.on("n0"))


def settle(fleet: Fleet, policy: Policy, load: dict[str, tuple[float, int, int]], now: float) -> None:
    """All hosts have said how they are for long enough; the pool is as it should be."""
    for name, host in fleet.hosts.items():
        taken = 100 * MB + sum(10_000 * cube.items for cube in host.cubes.values())
        report(fleet, name, now, bytes_=taken, **{c: load[c][0] for c in host.cubes})
    for end in pool.drop(fleet, policy, now):
        fleet.lost(end.host, now)
    for start in pool.fill(fleet, policy, now):
        host_on(fleet, f"p{now}{len(fleet.hosts)}", start.node_id)


def carry_out(fleet: Fleet, policy: Policy, load: dict[str, tuple[float, int, int]], now: float) -> int:
    """As the directory does: all targets are chosen, and places reserved, before the first cube is there."""
    chosen = []
    for move in upkeep.moves(fleet, policy, now):
        cube_id, had_own = move.cube_id, move.cube_id in fleet.own
        if move.own:
            fleet.own.add(cube_id)
        where = place(
            fleet,
            policy,
            cube_id,
            load[cube_id][2],
            now,
            avoid={fleet.cubes[cube_id].host},
            only=move.node_id,
        )
        if isinstance(where, Full):
            if not had_own:
                fleet.own.discard(cube_id)
            continue
        name = (
            host_on(fleet, f"m{now}{cube_id}", where.node_id).name if isinstance(where, Start) else where.host
        )
        fleet.reserve(name, cube_id)
        chosen.append((cube_id, name, cube_id in fleet.own))
    assert len(chosen) <= policy.changes
    for cube_id, name, own in chosen:
        fleet.gone(cube_id)
        if own:
            fleet.own.add(cube_id)
        fleet.attaching(
            cube_id,
            load[cube_id][2],
            name,
            now,
            packed=policy.cubes_per_actor > 1 and cube_id not in fleet.own,
        )
        fleet.attached(cube_id, 1, load[cube_id][1], now)
        host = fleet.hosts[name]
        assert len(host.cubes) <= policy.cubes_per_actor
    return len(chosen)
