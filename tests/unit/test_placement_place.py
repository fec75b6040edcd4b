"""Where a cube goes."""

import pytest
from placement_made import ALONE, GB, MB, PACKED, fleet_of, hold, host_on, report

from memos_ray.placement.fleet import Fleet
from memos_ray.placement.place import Full, Start, Use, place, starts_at_once
from memos_ray.placement.policy import Policy
from memos_ray.placement.shards import SHARDS, shard_of


def test_a_cube_that_is_alone_takes_a_blank_host_and_else_one_is_started():
    fleet = fleet_of()
    host_on(fleet, "h1")
    assert place(fleet, ALONE, "c1", 0, 0.0) == Use("h1")
    hold(fleet, "h1", "c1", packed=False)
    assert place(fleet, ALONE, "c2", 0, 0.0) == Start("b")  # the node that holds less


def test_a_host_that_is_up_comes_before_one_that_is_coming_up():
    fleet = fleet_of()
    host_on(fleet, "starting", "b", ready=False)
    host_on(fleet, "up", "a")
    assert place(fleet, ALONE, "c", 0, 0.0) == Use("up")
    hold(fleet, "up", "c", packed=False)
    assert place(fleet, ALONE, "d", 0, 0.0) == Use("starting")


def test_packed_cubes_of_a_shard_are_together_and_others_join_the_calmest_host():
    fleet = fleet_of(["a"])
    host_on(fleet, "h1")
    host_on(fleet, "h2")
    hold(fleet, "h1", "c1", shard=1)
    hold(fleet, "h2", "c2", shard=2)
    report(fleet, "h1", 10.0, c1=0.1)
    assert place(fleet, PACKED, "c3", 1, 10.0) == Use("h1")  # its shard's, though it is busier
    assert place(fleet, PACKED, "c4", 3, 10.0) == Use("h2")


def test_packed_hosts_have_bounds():
    fleet = fleet_of(["a"])
    host_on(fleet, "h1")
    for i in range(4):
        hold(fleet, "h1", f"c{i}", shard=7)
    assert place(fleet, PACKED, "c9", 7, 0.0) == Start("a")  # as many as it may hold
    fleet.gone("c3")
    assert place(fleet, PACKED, "c9", 7, 0.0) == Use("h1")
    report(fleet, "h1", 10.0, c0=0.5, c1=0.35)
    assert place(fleet, PACKED, "c9", 7, 10.0) == Start("a")  # too busy


def test_a_cube_that_moves_brings_its_load():
    fleet = fleet_of(["a"])
    for name in ("h1", "h2", "h3"):
        host_on(fleet, name)
    hold(fleet, "h1", "c1", shard=1)
    hold(fleet, "h2", "c2", shard=2)
    report(fleet, "h1", 10.0, c1=0.5)
    report(fleet, "h2", 10.0, c2=0.5)
    assert place(fleet, PACKED, "c1", 1, 10.0, avoid={"h1"}) == Use("h3")  # 0.5 and 0.5 are more than 0.8


def test_many_activations_at_once_take_several_hosts():
    fleet, policy = fleet_of(["a"]), Policy(cubes_per_actor=100, attaches=2)
    host_on(fleet, "h1")
    host_on(fleet, "h2")
    hosts = []
    for i in range(4):
        where = place(fleet, policy, f"c{i}", 0, 0.0)
        assert isinstance(where, Use)
        fleet.attaching(f"c{i}", 0, where.host, 0.0, packed=True)
        hosts.append(where.host)
    assert hosts == ["h1", "h1", "h2", "h2"]
    assert isinstance(
        place(fleet, policy, "c5", 0, 0.0), Use
    )  # nothing else is up: they wait rather than start one


def test_a_cube_with_a_host_of_its_own_shares_it_with_nobody():
    fleet = fleet_of(["a"])
    host_on(fleet, "h1")
    fleet.own.add("big")
    hold(fleet, "h1", "big", packed=False)
    assert place(fleet, PACKED, "c", shard_of("big"), 0.0) == Start("a")
    hold(fleet, host_on(fleet, "h2").name, "c")
    assert place(fleet, PACKED, "other", 0, 0.0) == Use("h2")
    fleet.own.add("huge")
    assert place(fleet, PACKED, "huge", shard_of("c"), 0.0) == Start("a")


def test_a_reserved_place_is_nobody_elses():
    fleet = fleet_of(["a"])
    host_on(fleet, "h1")
    hold(fleet, "h1", "c1", packed=False)
    host_on(fleet, "h2")
    fleet.reserve("h2", "c1")
    assert place(fleet, ALONE, "c2", 0, 0.0) == Start("a")
    fleet.unreserve("h2", "c1")
    assert place(fleet, ALONE, "c2", 0, 0.0) == Use("h2")


def test_near_is_kept_while_that_node_is_not_much_more_loaded():
    fleet = fleet_of()
    host_on(fleet, "ha", "a")
    host_on(fleet, "hb", "b")
    assert place(fleet, ALONE, "c", 0, 0.0, near="b") == Use("hb")
    fleet.pulse("hb", 3 * GB, (), 1.0)  # half of what it may have
    assert place(fleet, ALONE, "c", 0, 1.0, near="b") == Use("ha")
    assert place(fleet, ALONE, "c", 0, 1.0, near="nowhere") == Use("ha")


def test_avoid_and_only():
    fleet = fleet_of()
    host_on(fleet, "ha", "a")
    assert place(fleet, ALONE, "c", 0, 0.0, avoid={"ha"}) == Start("b")
    assert place(fleet, ALONE, "c", 0, 0.0, only="b") == Start("b")
    assert place(fleet, ALONE, "c", 0, 0.0, only="z") == Full("there is no node 'z'")


def test_labels_and_draining_nodes():
    fleet = fleet_of(["a", "b"])
    policy = Policy(labels={"kind": "memory"})
    assert "labels kind=memory" in _full(fleet, policy).why
    fleet.nodes["b"].labels = {"kind": "memory", "zone": "1"}
    assert place(fleet, policy, "c", 0, 0.0) == Start("b")
    fleet.nodes["b"].draining = True
    assert "draining" in _full(fleet, policy).why
    assert place(fleet, ALONE, "c", 0, 0.0) == Start("a")


def test_nothing_goes_to_a_host_that_is_leaving():
    fleet = fleet_of(["a"])
    host_on(fleet, "h1").leaving = True
    assert place(fleet, ALONE, "c", 0, 0.0) == Start("a")


def test_a_silent_node_is_left_alone_for_a_while_unless_all_are_silent():
    fleet = fleet_of()
    host_on(fleet, "ha", "a")
    fleet.lost("ha", 10.0, silent_s=30.0)
    host_on(fleet, "ha2", "a")
    assert place(fleet, ALONE, "c", 0, 11.0) == Start("b")
    assert place(fleet, ALONE, "c", 0, 41.0) == Use("ha2")
    fleet.nodes["b"].suspect_until = 100.0
    fleet.nodes["a"].suspect_until = 100.0
    assert place(fleet, ALONE, "c", 0, 50.0) == Use("ha2")


def test_full_nodes():
    fleet = fleet_of()
    host_on(fleet, "ha", "a", bytes_=6 * GB)
    assert place(fleet, ALONE, "c", 0, 0.0) == Start("b")  # the blank one on `a` must not fill it further
    host_on(fleet, "hb", "b", bytes_=7 * GB)
    assert "60% of its memory" in _full(fleet, ALONE).why
    assert _full(Fleet(), ALONE).why == "no node is alive"


@pytest.mark.parametrize(("cpus", "most"), [(1.0, 2), (4.0, 4)])
def test_starts_are_bounded(cpus: float, most: int):
    fleet = fleet_of(["a"], cpus=cpus)
    assert starts_at_once(fleet, ALONE, "a") == most
    for i in range(most):
        assert place(fleet, ALONE, f"c{i}", 0, 0.0) == Start("a")
        host_on(fleet, f"h{i}", ready=False)
        fleet.attaching(f"c{i}", 0, f"h{i}", 0.0)
    full = _full(fleet, ALONE)
    assert full.brief


def test_load_spreads_over_idle_nodes():
    fleet = fleet_of(["a", "b", "c"], cpus=8)
    for i in range(9):
        where = place(fleet, ALONE, f"c{i}", 0, 0.0)
        assert isinstance(where, Start)
        host_on(fleet, f"h{i}", where.node_id, bytes_=0)
        hold(fleet, f"h{i}", f"c{i}", packed=False)
    assert [sum(1 for _ in fleet.on(node)) for node in "abc"] == [3, 3, 3]


def test_shards_are_even_and_stay_as_they_are():
    counts = [0] * SHARDS
    for i in range(50 * SHARDS):
        counts[shard_of(f"user:{i}")] += 1
    assert min(counts) > 20
    assert max(counts) < 90
    # Rows lie in storage by these: never to be changed.
    assert [shard_of(c) for c in ("", "user:ana", "图书馆")] == [910, 591, 153]


def _full(fleet: Fleet, policy: Policy) -> Full:
    where = place(fleet, policy, "c", 0, 0.0)
    assert isinstance(where, Full)
    return where


def test_bytes_of_a_cube_are_its_part_of_what_the_host_took():
    fleet = fleet_of(["a"])
    host_on(fleet, "h1", bytes_=100 * MB)
    hold(fleet, "h1", "c1", items=100)
    hold(fleet, "h1", "c2", items=300)
    fleet.pulse("h1", 140 * MB, (), 1.0)
    assert fleet.bytes_of(fleet.cubes["c2"]) == 30 * MB


def test_a_node_is_suspected_if_nobody_on_it_was_heard_of_lately():
    fleet = fleet_of(["a"])
    for name in ("h1", "h2", "h3"):
        host_on(fleet, name)
    fleet.pulse("h2", 1, (), 10.0)
    fleet.lost("h1", 12.0, silent_s=30.0)
    assert fleet.nodes["a"].suspect_until < 12.0
    fleet.lost("h3", 14.0, silent_s=30.0)
    assert fleet.nodes["a"].suspect_until == 44.0
