"""What a system needs, from constants."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.cli.app import app
from memos_ray.errors import Invalid
from memos_ray.placement.constants import CONSTANTS, costs, read_overrides, values
from memos_ray.placement.plan import Demand, plan

SMALL = Demand(cubes=1_000, active=20, qps=1.0, adds_per_s=1.0, root="folder")


def test_memory_is_processes_and_cubes_and_items():
    k = values()
    made = plan(replace(SMALL, active=2_000, cubes=10_000, items=500))
    memory = made.needs[0]
    assert made.hosts == 20 + made.warm
    assert memory.amount == made.hosts * k["process_bytes"] + 2_000 * (
        k["cube_bytes"] + 500 * k["item_bytes"]
    )
    assert memory.nodes == memory.amount / (0.6 * 64e9)
    assert memory.by[0] == "item_bytes"


def test_alone_every_cube_has_a_process_and_that_is_the_bottleneck():
    alone = plan(replace(SMALL, active=2_000, cubes=10_000, items=500, cubes_per_actor=1))
    packed = plan(replace(SMALL, active=2_000, cubes=10_000, items=500))
    assert alone.hosts >= 2_000
    assert alone.nodes > packed.nodes
    assert alone.savings[0].constant == alone.needs[0].by[0] == "process_bytes"
    assert alone.bottleneck == "memory of active cubes"


def test_many_searches_need_cores_and_many_adds_embedders():
    searching = plan(replace(SMALL, qps=10_000.0))
    assert searching.bottleneck == "cores of hosts"
    assert searching.needs[1].by[0] == searching.savings[0].constant == "search_cpu_s"
    adding = plan(replace(SMALL, adds_per_s=10_000.0))
    assert adding.bottleneck == "cores of embedders"
    assert adding.savings[0].constant == "embed_texts_per_core_s"
    faster = plan(replace(SMALL, adds_per_s=10_000.0), {"embed_texts_per_core_s": 5_200.0})
    assert faster.bottleneck == "cores of hosts"
    assert faster.nodes < adding.nodes


def test_requests_cost_only_on_an_object_store():
    folder = plan(replace(SMALL, qps=100.0, adds_per_s=100.0))
    stored = plan(replace(SMALL, qps=100.0, adds_per_s=100.0, root="s3"))
    assert folder.request_cost == folder.storage_cost == 0
    k = values()
    puts = 100 * (k["puts_per_commit"] + k["lists_per_commit"]) + 100 * k["lists_per_read"]
    puts += folder.activations_per_s * k["puts_per_activation"]
    assert stored.puts_per_s == pytest.approx(puts)
    seconds = 730 * 3600
    expected = seconds * (puts * 0.005 + stored.gets_per_s * 0.0004) / 1000
    assert stored.request_cost == pytest.approx(expected)
    assert stored.savings[0].constant == "puts_per_commit"


def test_one_machine_has_no_head_of_its_own_and_cells_have_one_each():
    assert plan(SMALL).nodes == 1
    huge = plan(Demand(cubes=10**9, active=2 * 10**7, qps=3e5, adds_per_s=3e5))
    assert huge.cells > 1
    assert (huge.cells_by.what, huge.cells_by.by) == ("a directory's core", "pulse_host_s")
    quick = plan(huge.demand, {"locate_s": 0.0, "pulse_host_s": 0.0, "pulse_cube_s": 0.0})
    assert quick.cells_by.what == "actors of a Ray cluster"
    assert quick.cells < huge.cells
    assert huge.cells == max(b.needed for b in huge.bounds if b.unit != "1/s")
    workers = max(huge.needs[0].nodes, huge.needs[1].nodes + huge.needs[2].nodes)
    assert huge.nodes - huge.cells - 1 < workers <= huge.nodes - huge.cells


def test_more_of_anything_is_never_less():
    base = Demand(cubes=100_000, active=2_000)
    made = plan(base)
    for more in (
        {"cubes": 10**6},
        {"active": 20_000},
        {"items": 9_000},
        {"qps": 9_000.0},
        {"adds_per_s": 9_000.0},
    ):
        bigger = plan(replace(base, **more))
        assert bigger.cost > made.cost, more
        assert bigger.nodes >= made.nodes


def test_a_constant_that_is_better_saves_what_the_plan_says():
    base = Demand(cubes=10**7, active=200_000)
    made = plan(base)
    for saving in made.savings:
        better = 2.0 if saving.constant in ("embed_texts_per_core_s", "returned") else 0.5
        other = plan(base, {saving.constant: values()[saving.constant] * better})
        assert made.cost - other.cost == pytest.approx(saving.cost)
        assert made.nodes - other.nodes == saving.nodes
    assert [s.cost for s in made.savings] == sorted((s.cost for s in made.savings), reverse=True)


@pytest.mark.parametrize(
    ("wrong", "argument"),
    [
        ({"cubes": 0}, "cubes"),
        ({"active": 1_001}, "active"),
        ({"active": -1}, "active"),
        ({"items": 0}, "items"),
        ({"qps": -1.0}, "qps"),
        ({"qps": float("nan")}, "qps"),
        ({"node_memory": 0.0}, "node_memory"),
        ({"cubes_per_actor": 0}, "cubes_per_actor"),
        ({"memory_share": 1.1}, "memory_share"),
        ({"tick_s": 0.0}, "tick_s"),
        ({"root": "ftp"}, "root"),
    ],
)
def test_what_cannot_be_asked_for(wrong: dict, argument: str):
    with pytest.raises(Invalid) as refused:
        plan(replace(SMALL, **wrong))
    assert refused.value.argument == argument


def test_nothing_active_needs_one_machine():
    made = plan(Demand(cubes=10, active=0, qps=0.0, adds_per_s=0.0, root="folder"))
    assert (made.nodes, made.cells, made.activations_per_s) == (1, 1, 0.0)


@pytest.mark.parametrize("held", ['{"nonsense": 1}', '{"item_bytes": -1}', '{"start_s": 0}', "[]", "no json"])
def test_constants_that_are_none(tmp_path: Path, held: str):
    path = tmp_path / "constants.json"
    path.write_text(held)
    with pytest.raises(Invalid) as refused:
        read_overrides(path)
    assert refused.value.argument == "constants"


def test_constants_from_a_file_and_from_a_report(tmp_path: Path):
    path = tmp_path / "constants.json"
    path.write_text('{"item_bytes": 4100}')
    assert read_overrides(path) == {"item_bytes": 4100.0}
    report = {
        "machine": {"cores": 4},
        "figures": [
            {"name": "activation 1,000", "value": 50.0, "unit": "ms"},
            {"name": "activation 10,000", "value": 140.0, "unit": "ms"},
            {"name": "embedding", "value": 200.0, "unit": "texts/s"},
        ],
    }
    path.write_text(json.dumps(report))
    taken = read_overrides(path)
    assert taken == pytest.approx(
        {"attach_item_s": 1e-5, "attach_cpu_s": 0.04, "embed_texts_per_core_s": 50.0}
    )
    path.write_text('{"figures": []}')
    with pytest.raises(Invalid):
        read_overrides(path)


def test_every_constant_has_a_source_and_costs_are_made_of_them():
    assert all(c.source and c.unit for c in CONSTANTS.values())
    assert costs({"process_bytes": 1e6}).process_bytes == 1_000_000
    assert costs().attach.p99 == pytest.approx(costs().attach.median * CONSTANTS["attach_p99_ratio"].value)


def test_the_command_needs_no_options_and_speaks_json():
    run = CliRunner().invoke(app, ["plan"])
    assert run.exit_code == 0
    assert "memory of active cubes" in run.output
    assert "puts_per_commit" in run.output
    run = CliRunner().invoke(app, ["plan", "--cubes", "10000", "--embedder-turns-per-s", "900", "--json"])
    made = json.loads(run.stdout)
    assert made["demand"]["active"] == 200
    assert made["constants"]["embed_texts_per_core_s"] == 900
    assert made["cost"] > 0
    assert CliRunner().invoke(app, ["plan", "--active", "5", "--cubes", "4"]).exit_code == 2
    run = CliRunner().invoke(app, ["plan", "--show-constants"])
    assert "ray_actors" in run.output
