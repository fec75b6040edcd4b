"""What is passivated and moved in a tick."""

from placement_made import ALONE, GB, MB, PACKED, fleet_of, hold, host_on, report

from memos_ray.placement.fleet import CubeUse, Node
from memos_ray.placement.policy import Policy
from memos_ray.placement.upkeep import Move, Passivate, moves, passivations, worn_out


def test_idle_cubes_go_longest_unused_first_and_so_many_a_tick():
    fleet, policy = fleet_of(["a"]), Policy(cubes_per_actor=100, idle_s=100, changes=3)
    host_on(fleet, "h1")
    for i in range(6):
        hold(fleet, "h1", f"c{i}", now=float(10 - i))
    assert passivations(fleet, policy, 104.0) == []
    assert passivations(fleet, policy, 106.0) == [Passivate("c5", "idle"), Passivate("c4", "idle")]
    assert [p.cube_id for p in passivations(fleet, policy, 200.0)] == ["c5", "c4", "c3"]


def test_a_cube_that_is_being_changed_is_left_to_whoever_changes_it():
    fleet, policy = fleet_of(["a"]), Policy(idle_s=100)
    host_on(fleet, "h1")
    fleet.attaching("c", 0, "h1", 0.0)
    assert passivations(fleet, policy, 500.0) == []
    fleet.attached("c", 1, 10, 500.0)
    assert passivations(fleet, policy, 599.0) == []
    assert passivations(fleet, policy, 600.0) == [Passivate("c", "idle")]


def test_a_host_says_when_its_cubes_were_last_used():
    fleet, policy = fleet_of(["a"]), Policy(idle_s=100)
    host_on(fleet, "h1")
    hold(fleet, "h1", "c", now=0.0, packed=False)
    fleet.pulse("h1", 0, [CubeUse("c", "", 1, 10, 5, 0.0, 20.0)], 150.0)
    assert passivations(fleet, policy, 229.0) == []
    assert passivations(fleet, policy, 230.0) == [Passivate("c", "idle")]


def test_memory_is_relieved_by_the_cubes_longest_unused_until_there_would_be_enough():
    fleet, policy = fleet_of(["a", "b"], memory=1 * GB), Policy(changes=8)  # 600 MB, relieved to 510
    for i in range(6):
        host_on(fleet, f"h{i}", "a", bytes_=20 * MB)
        hold(fleet, f"h{i}", f"c{i}", now=float(i), packed=False)
        fleet.pulse(f"h{i}", 110 * MB, (), 10.0)
    found = passivations(fleet, policy, 10.0)
    assert found == [Passivate("c0", "memory"), Passivate("c1", "memory")]  # 660 - 2 * 90 < 510
    fleet.cubes["c0"].changing = True  # begun, and not done yet
    assert passivations(fleet, policy, 11.0) == [Passivate("c1", "memory")]


def test_memory_comes_before_idleness_and_both_share_one_bound():
    fleet, policy = fleet_of(["a"], memory=1 * GB), Policy(changes=2, idle_s=1)
    for i in range(4):
        host_on(fleet, f"h{i}", bytes_=0)
        hold(fleet, f"h{i}", f"c{i}", now=float(-i), packed=False)
        fleet.pulse(f"h{i}", 200 * MB, (), 0.0)
    assert passivations(fleet, policy, 100.0) == [Passivate("c3", "memory"), Passivate("c2", "memory")]


def test_a_draining_node_and_leaving_hosts_are_emptied_in_steps():
    fleet, policy = fleet_of(["a", "b"]), Policy(changes=2)
    for i in range(3):
        host_on(fleet, f"h{i}", "a")
        hold(fleet, f"h{i}", f"c{i}", packed=False)
    host_on(fleet, "l", "b")
    hold(fleet, "l", "lc", packed=False)
    assert moves(fleet, policy, 100.0) == []
    fleet.nodes["a"].draining = True
    assert moves(fleet, policy, 100.0) == [Move("c0", "draining"), Move("c1", "draining")]
    fleet.nodes["a"].draining = False
    fleet.hosts["l"].leaving = True
    assert moves(fleet, policy, 100.0) == [Move("lc", "draining")]


def test_draining_goes_on_when_the_nodes_are_looked_at_again():
    fleet = fleet_of(["a"])
    fleet.nodes["a"].draining = True
    assert fleet.set_nodes([Node("a", 4, GB), Node("b", 4, GB)]) == []
    assert fleet.nodes["a"].draining
    host_on(fleet, "h", "b")
    assert fleet.set_nodes([Node("a", 4, GB)]) == ["h"]


def test_large_cubes_leave_the_hosts_they_share():
    fleet = fleet_of(["a"])
    host_on(fleet, "h1")
    hold(fleet, "h1", "big", items=20_001)
    assert moves(fleet, PACKED, 0.0) == []  # it is alone there
    hold(fleet, "h1", "small", items=20_000)
    assert moves(fleet, PACKED, 0.0) == [Move("big", "large", own=True)]
    assert moves(fleet, ALONE, 0.0) == []


def test_hot_cubes_leave_after_half_a_rest():
    fleet = fleet_of(["a"])
    host_on(fleet, "h1")
    hold(fleet, "h1", "hot")
    hold(fleet, "h1", "calm")
    report(fleet, "h1", 29.0, hot=0.41, calm=0.1)
    assert moves(fleet, PACKED, 29.0) == []
    report(fleet, "h1", 30.0)
    assert moves(fleet, PACKED, 30.0) == [Move("hot", "hot", own=True)]


def test_crowded_hosts_give_their_busiest_cubes_away():
    fleet = fleet_of(["a"])
    host_on(fleet, "h1")
    for i in range(4):
        hold(fleet, "h1", f"c{i}")
    report(fleet, "h1", 59.0, c0=0.2, c1=0.39, c2=0.3, c3=0.2)  # 1.09: 0.29 too much
    assert moves(fleet, PACKED, 59.0) == []  # just come
    report(fleet, "h1", 60.0)
    assert moves(fleet, PACKED, 60.0) == [Move("c1", "crowded")]
    report(fleet, "h1", 61.0, c1=0.0)
    assert moves(fleet, PACKED, 61.0) == []


def test_load_is_evened_out_only_beyond_a_difference():
    fleet = fleet_of(["a", "b"], cpus=1)
    for name in ("h1", "h2", "h3"):
        host_on(fleet, name, "a", bytes_=0)
        hold(fleet, name, f"{name}'s", packed=False)
    for name, busy in (("h1", 0.06), ("h2", 0.05), ("h3", 0.08)):
        report(fleet, name, 100.0, **{f"{name}'s": busy})
    assert moves(fleet, ALONE, 100.0) == []  # 0.19
    report(fleet, "h3", 101.0, **{"h3's": 0.10})
    found = moves(fleet, ALONE, 101.0)
    assert found == [
        Move("h1's", "spread", node_id="b")
    ]  # 0.21: at most 0.105 goes, and 0.05 is left for no other
    host_on(fleet, "h4", "b", bytes_=0)
    fleet.reserve("h4", "h1's")
    assert moves(fleet, ALONE, 101.0) == []  # one is on its way there


def test_what_is_too_heavy_to_even_things_out_stays():
    fleet = fleet_of(["a", "b"], cpus=1)
    host_on(fleet, "h1", "a", bytes_=0)
    hold(fleet, "h1", "c", packed=False)
    report(fleet, "h1", 100.0, c=0.9)
    assert moves(fleet, ALONE, 100.0) == []  # `b` would be where `a` is now


def test_moves_of_all_kinds_share_one_bound():
    fleet, policy = fleet_of(["a", "b"], cpus=1), Policy(cubes_per_actor=4, changes=3)
    for host in ("h1", "h2"):
        host_on(fleet, host, "a")
        for i in range(4):
            hold(fleet, host, f"{host}{i}", items=30_000 if i == 3 else 10)
        report(fleet, host, 100.0, **{f"{host}{i}": 0.39 for i in range(3)})
    found = moves(fleet, policy, 100.0)
    assert [(m.cube_id, m.why) for m in found] == [("h13", "large"), ("h23", "large"), ("h10", "crowded")]


def test_a_process_that_was_ended_takes_what_was_known_of_its_cubes_with_it():
    fleet = fleet_of(["a"])
    host_on(fleet, "h1", bytes_=5 * MB)
    fleet.own.add("c")
    hold(fleet, "h1", "c", packed=False, shard=3)
    hold(fleet, host_on(fleet, "h2").name, "d", shard=4)
    assert fleet.lost("h1", 0.0) == ["c"]
    assert fleet.lost("h1", 0.0) == []
    assert list(fleet.cubes) == ["d"]
    assert fleet.own == set()
    assert fleet.shards == {4: "h2"}
    assert fleet.used_bytes("a") == 100 * MB
    assert fleet.gone("nobody's") is None
    assert [h.name for h in fleet.on("a")] == ["h2"]


def test_a_cube_that_came_up_anew_begins_its_counters_again():
    fleet = fleet_of(["a"])
    host_on(fleet, "h1")
    hold(fleet, "h1", "c", packed=False)
    fleet.pulse("h1", 0, [CubeUse("c", "", 1, 10, 100, 50.0, 0.0)], 100.0)
    assert fleet.cubes["c"].busy == 0.5
    fleet.pulse("h1", 0, [CubeUse("c", "", 2, 10, 1, 60.0, 0.0)], 101.0)
    assert fleet.cubes["c"].busy == 0.5  # 60 s of another life are not 10 s of this one
    fleet.pulse("h1", 0, [CubeUse("c", "", 2, 10, 1, 60.0, 0.0)], 111.0)
    assert fleet.cubes["c"].busy == 0.0
    assert fleet.hosts["h1"].busy == 0.0
    fleet.pulse("no such host", 0, (), 111.0)


def test_a_host_that_keeps_memory_of_cubes_that_left_is_let_go_where_memory_is_short():
    fleet, policy = fleet_of(["a"], memory=1 * GB), Policy(cubes_per_actor=100, changes=8)  # 600 MB
    for name in ("worn", "full"):
        host_on(fleet, name, bytes_=100 * MB)
        for i in range(4):
            hold(fleet, name, f"{name}-{i}", now=0.0)
        uses = [CubeUse(f"{name}-{i}", "", 1, 100, 1, 0.0, 5.0) for i in range(4)]
        fleet.pulse(name, 350 * MB, uses, 10.0)
    assert worn_out(fleet, policy) == []  # memory is short, and all of it is of use
    for i in range(3):
        fleet.gone(f"worn-{i}")
    fleet.pulse("worn", 330 * MB, [CubeUse("worn-3", "", 1, 100, 1, 0.0, 1.0)], 11.0)
    assert worn_out(fleet, policy) == ["worn"]
    fleet.hosts["worn"].leaving = True
    assert worn_out(fleet, policy) == []  # one at a time
    assert passivations(fleet, policy, 12.0)[0] == Passivate(
        "worn-3", "memory"
    )  # though others are idle for longer
    fleet.pulse("full", 100 * MB, (), 13.0)
    assert worn_out(fleet, Policy(cubes_per_actor=100)) == []
