"""The simulation: the same decisions as the directory's, at small size, with what must come out."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from placement_checks import Always
from typer.testing import CliRunner

from cluster.cli.app import app
from memos_ray.errors import Invalid
from memos_ray.placement.constants import costs
from memos_ray.placement.costs import Costs, Time
from memos_ray.placement.outcome import Outcome, Waits
from memos_ray.placement.policy import Policy
from memos_ray.placement.simulation import Cluster, Plan, Simulation
from memos_ray.placement.traffic import Source, Traffic

SMALL = Traffic(cubes=200, sessions_per_s=1.0, calls=5.0, gap_s=5.0, items=500)
CLUSTER = Cluster(nodes=3, cpus=4, memory_bytes=16e9, pulse_s=2.0)
POLICY = Policy(cubes_per_actor=10, idle_s=60.0)


def run(
    seconds: float = 400.0,
    *,
    cluster: Cluster = CLUSTER,
    policy: Policy = POLICY,
    traffic: Traffic = SMALL,
    plans: tuple[Plan, ...] = (),
    given: Costs | None = None,
    seed: int = 1,
    watched: bool = True,
) -> tuple[Outcome, Simulation]:
    sim = Simulation(
        cluster,
        policy,
        traffic,
        given or costs(),
        seed=seed,
        plans=plans,
        watch=Always() if watched else None,
    )
    return sim.run(seconds), sim


def test_the_same_seed_is_the_same_run_and_another_is_not():
    one, two, other = run(100.0)[0], run(100.0)[0], run(100.0, seed=2)[0]
    assert one == two
    assert one != other


def test_a_quiet_system_is_as_it_should_be():
    outcome, sim = run()
    assert outcome.calls > 1_000
    assert outcome.hits / outcome.calls > 0.6
    assert outcome.failed == outcome.refused == outcome.lost == 0
    assert sum(outcome.passivations.values()) == outcome.passivations["idle"]
    assert outcome.activations == sum(outcome.passivations.values()) + len(sim.active)
    assert outcome.waits.p50 < 0.2
    assert not outcome.moves
    assert 0 < outcome.directory_busy < 0.1
    # Little's law: what comes up, times how long it stays, is what is active.
    stays_s = outcome.active_mean / (sum(outcome.passivations.values()) / outcome.seconds)
    assert 60 < stays_s < 250


def test_alone_each_cube_has_its_process():
    outcome, _ = run(200.0, policy=replace(POLICY, cubes_per_actor=1, warm_max=4))
    packed, _ = run(200.0)
    assert outcome.hosts_max > outcome.active_max
    assert packed.hosts_max < outcome.hosts_max / 3
    assert packed.bytes_mean < outcome.bytes_mean / 2


def test_warm_hosts_are_what_saves_callers_the_start_of_a_process():
    alone = replace(POLICY, cubes_per_actor=1, warm_min=0, warm_max=0)
    slow = replace(costs(), start=Time(5.0, 5.0))
    cold, _ = run(200.0, policy=alone, given=slow)
    warm, _ = run(200.0, policy=replace(alone, warm_min=4, warm_max=8, start_s=5.0), given=slow)
    assert cold.waits.p50 > 5.0
    assert warm.waits.p50 < 0.2
    assert warm.from_warm > 0.6 * warm.activations > cold.from_warm


def test_a_node_that_fails_costs_time_and_nothing_else():
    outcome, sim = run(plans=(Plan(200.0, "fail", "node-1"),))
    failure = outcome.failures[0]
    assert failure.cubes > 0
    assert outcome.lost == failure.cubes
    assert 0 < failure.longest_wait_s < CLUSTER.host_timeout_s + CLUSTER.tick_s + 2.0
    assert outcome.failed == 0
    assert "node-1" not in sim.fleet.nodes
    assert all(one.up for one in sim.active.values())


def test_all_nodes_but_one_fail_and_it_takes_what_it_can():
    plans = (Plan(100.0, "fail", "node-0"), Plan(101.0, "fail", "node-1"), Plan(250.0, "add", "node-3"))
    outcome, sim = run(plans=plans)
    assert outcome.failed == 0
    assert set(sim.fleet.nodes) == {"node-2", "node-3"}
    assert sim.active


def test_a_rolling_drain_empties_every_node_in_turn_and_no_call_fails():
    plans = [Plan(150.0 + 60 * i, "drain", f"node-{i}") for i in range(3)]
    plans += [Plan(205.0 + 60 * i, "undrain", f"node-{i}") for i in range(3)]
    outcome, _ = run(plans=tuple(plans))
    assert len(outcome.drains_s) == 3
    assert max(outcome.drains_s) < 55
    assert outcome.moves["draining"] > 10
    assert outcome.failed == 0
    assert outcome.move_pauses.longest < 2.0


def test_too_little_memory_is_relieved_and_callers_wait_rather_than_fail():
    outcome, _ = run(
        cluster=replace(CLUSTER, nodes=1, memory_bytes=0.8e9), traffic=replace(SMALL, items=1_000)
    )
    assert outcome.passivations["memory"] > 0
    assert outcome.bytes_max < 1.2 * 0.8e9
    assert outcome.calls == outcome.hits + outcome.waits.count + outcome.failed + outcome.still_waiting


def test_passivations_that_are_bounded_too_tightly_fall_behind():
    busy = replace(SMALL, cubes=5_000, sessions_per_s=8.0, calls=1.0, skew=0.0)
    policy = replace(POLICY, idle_s=5.0, cubes_per_actor=100)
    tight, _ = run(200.0, traffic=busy, policy=replace(policy, changes=2), watched=False)
    wide, _ = run(200.0, traffic=busy, policy=replace(policy, changes=32), watched=False)
    assert tight.active_max > 3 * wide.active_max
    assert sum(tight.passivations.values()) <= 2 * 201


def test_given_calls_are_the_calls():
    calls = [(5.0, 3, True), (5.0, 3, False), (9.0, 3, True), (9.5, 4, False)]
    sim = Simulation(CLUSTER, POLICY, SMALL, costs(), calls=calls, sizes=7)
    outcome = sim.run(20.0)
    assert (outcome.calls, outcome.hits, outcome.activations) == (4, 1, 2)
    assert sim.active["user:3"].items == 9
    assert sim.active["user:4"].items == 7


def test_traffic_has_the_means_it_is_asked_for():
    traffic = Traffic(cubes=1_000, sessions_per_s=4.0, calls=3.0, gap_s=7.0, add_share=0.25, skew=0.8)
    source = Source(traffic, 5)
    drawn = [source.session() for _ in range(20_000)]
    assert sum(d[0] for d in drawn) / 20_000 == pytest.approx(0.25, rel=0.05)
    assert sum(d[2] for d in drawn) / 20_000 == pytest.approx(3.0, rel=0.05)
    assert sum(source.gap() for _ in range(20_000)) / 20_000 == pytest.approx(7.0, rel=0.05)
    assert sum(source.adds() for _ in range(20_000)) / 20_000 == pytest.approx(0.25, abs=0.02)
    first, tenth = (sum(d[1] == user for d in drawn) for user in (0, 9))
    assert first / tenth == pytest.approx(10**0.8, rel=0.3)
    assert max(d[1] for d in drawn) < 1_000
    assert sorted(source.sizes)[500] == pytest.approx(1_000, rel=0.15)


@pytest.mark.parametrize(
    "wrong",
    [{"cubes": 0}, {"sessions_per_s": 0}, {"calls": 0.5}, {"add_share": 2}, {"gap_s": -1}, {"skew": -1}],
)
def test_traffic_that_there_is_not(wrong: dict):
    with pytest.raises(Invalid):
        Source(replace(SMALL, **wrong), 0)


def test_waits():
    assert Waits.of([]) == Waits(0, 0.0, 0.0, 0.0)
    assert Waits.of([float(i) for i in range(1, 101)]) == Waits(100, 50.0, 99.0, 100.0)


def test_the_command(tmp_path: Path):
    small = ["--cubes", "300", "--sessions-per-s", "1", "--hours", "0.05", "--nodes", "2", "--items", "100"]
    picture = tmp_path / "run.svg"
    events = ["--fail-at-s", "60", "--add-at-s", "90", "--drain-at-s", "100", "--drain-each-s", "30"]
    run = CliRunner().invoke(app, ["simulate", *small, *events, "--svg", str(picture)])
    assert run.exit_code == 0, run.output
    assert "node failure 1" in run.output
    assert picture.read_text().startswith("<svg")
    run = CliRunner().invoke(app, ["simulate", *small, "--json"])
    made = json.loads(run.stdout)
    assert made["calls"] == made["hits"] + made["waits"]["count"] + made["still_waiting"]
    assert CliRunner().invoke(app, ["simulate", "--sessions-per-s", "0"]).exit_code == 2
