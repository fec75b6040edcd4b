"""How many blank hosts there are, and where."""

from collections import Counter

import pytest
from placement_made import GB, MB, fleet_of, hold, host_on

from memos_ray.placement.policy import Policy
from memos_ray.placement.pool import End, StartBlank, drop, fill, wanted


@pytest.mark.parametrize(
    ("taken_in_30_s", "start_s", "hosts"),
    [(0, 3.0, 1), (10, 3.0, 2), (60, 3.0, 9), (60, 1.0, 3), (1_000, 3.0, 20)],
)
def test_as_many_as_activations_take_while_one_starts(taken_in_30_s: int, start_s: float, hosts: int):
    fleet, policy = fleet_of(), Policy(warm_min=1, warm_max=20, start_s=start_s)
    fleet.attached_at.extend([100.0] * taken_in_30_s)
    assert wanted(fleet, policy, 110.0) == hosts  # 1.5 * rate * start_s, between the bounds
    assert wanted(fleet, policy, 131.0) == 1  # it was long ago


def test_only_cubes_that_took_a_blank_host_count():
    fleet = fleet_of(["a"])
    host_on(fleet, "h1")
    for i in range(50):
        hold(fleet, "h1", f"c{i}", now=100.0)
    assert len(fleet.attached_at) == 1


def test_a_large_pool_can_be_followed():
    fleet = fleet_of(["a"])
    fleet.attached_at.extend([0.0] * 5_000)
    assert wanted(fleet, Policy(warm_max=256), 1.0) == 256


def test_what_is_missing_is_spread_over_nodes_that_have_room():
    fleet = fleet_of(["a", "b", "c", "d"])
    host_on(fleet, "ha", "a", bytes_=0)
    host_on(fleet, "hc", "c", bytes_=9 * GB)
    fleet.nodes["d"].draining = True
    starts = fill(fleet, Policy(warm_min=6), 0.0)
    assert Counter(s.node_id for s in starts) == {"a": 2, "b": 3}
    assert all(isinstance(s, StartBlank) for s in starts)


def test_hosts_that_are_coming_up_count():
    fleet = fleet_of(["a"])
    host_on(fleet, "h1", ready=False)
    assert fill(fleet, Policy(warm_min=1), 0.0) == []
    assert fill(fleet_of([]), Policy(warm_min=1), 0.0) == []


def test_a_reserved_host_is_neither_counted_nor_ended():
    fleet = fleet_of(["a"])
    host_on(fleet, "h0")
    hold(fleet, "h0", "c")
    host_on(fleet, "h1")
    fleet.reserve("h1", "c")
    assert drop(fleet, Policy(warm_min=0), 0.0) == []
    assert fill(fleet, Policy(warm_min=1), 0.0) == [StartBlank("a")]


def test_a_host_that_keeps_memory_of_cubes_it_held_is_ended():
    fleet, policy = fleet_of(["a"]), Policy(warm_min=5)
    host_on(fleet, "heavy", bytes_=100 * MB)
    host_on(fleet, "light", bytes_=100 * MB)
    for name, bytes_ in (("heavy", 180 * MB), ("light", 120 * MB)):
        hold(fleet, name, f"{name}'s", packed=False)
        fleet.gone(f"{name}'s")
        for at in (1.0, 2.0):  # as often as it says so
            fleet.pulse(name, bytes_, (), at)
    assert drop(fleet, policy, 2.0) == [End("heavy")]


def test_what_a_fresh_host_takes_is_known_of_those_that_took_a_cube_at_once_too():
    fleet, policy = fleet_of(["a"]), Policy(warm_min=5)
    host_on(fleet, "first", bytes_=100 * MB)
    host_on(fleet, "quick", ready=False)
    hold(fleet, "quick", "c", packed=False)
    fleet.pulse("quick", 300 * MB, (), 1.0)
    assert fleet.bytes_of(fleet.cubes["c"]) == 200 * MB
    fleet.gone("c")
    fleet.pulse("quick", 300 * MB, (), 2.0)
    assert drop(fleet, policy, 2.0) == [End("quick")]


def test_leaving_hosts_and_those_of_draining_nodes_are_ended_once_they_are_empty():
    fleet, policy = fleet_of(["a", "b"]), Policy(warm_min=9)
    host_on(fleet, "leaving", "a").leaving = True
    host_on(fleet, "holds", "b")
    host_on(fleet, "empty", "b")
    hold(fleet, "holds", "c")
    fleet.nodes["b"].draining = True
    assert drop(fleet, policy, 0.0) == [End("leaving"), End("empty")]


def test_those_beyond_what_is_wanted_are_ended_the_heaviest_first():
    fleet = fleet_of(["a"])
    for name, megabytes in (("h1", 100), ("h2", 110), ("h3", 105)):
        host_on(fleet, name, bytes_=megabytes * MB)
    host_on(fleet, "coming", ready=False)
    assert drop(fleet, Policy(warm_min=1), 0.0) == [End("h2"), End("h3")]


def test_a_blank_host_where_memory_is_short_is_replaced_once_and_for_all():
    fleet, policy = fleet_of(["a", "b"]), Policy(warm_min=1)
    host_on(fleet, "short", "a", bytes_=100 * MB)
    host_on(fleet, "full", "a", bytes_=6 * GB)
    hold(fleet, "full", "c", packed=False)
    assert fill(fleet, policy, 0.0) == [StartBlank("b")]
    host_on(fleet, "fresh", "b", bytes_=200 * MB)
    assert drop(fleet, policy, 0.0) == [End("short")]
    fleet.lost("short", 0.0)
    assert fill(fleet, policy, 0.0) == drop(fleet, policy, 0.0) == []


def test_no_node_starts_more_at_once_than_it_should():
    fleet, policy = fleet_of(["a", "b"], cpus=2), Policy(warm_min=9)
    host_on(fleet, "h1", "b", ready=False)
    fleet.attaching("c", 0, "h1", 0.0)
    assert Counter(s.node_id for s in fill(fleet, policy, 0.0)) == {"a": 2, "b": 1}
