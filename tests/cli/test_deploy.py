"""The deployment files: printed by a command, and valid by the schemas that the installed packages bring."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import validate_config
from ray.serve.schema import ServeDeploySchema
from typer.testing import CliRunner

from cluster.cli.app import app
from cluster.cli.deploy import KINDS
from memos_ray.config import Settings
from serve_apps.health import HealthArgs

FOLDER = Path(__file__).parents[2] / "cluster" / "deploy"
NAMES = [name for names in KINDS.values() for name in names]
PODS = ("kuberay-cluster.yaml", "kuberay-service.yaml")


def run(*args: str) -> Any:
    return CliRunner().invoke(app, ["deploy-files", *args])


def documents(name: str) -> dict[str, Any]:
    found = list(yaml.safe_load_all((FOLDER / name).read_text()))
    assert all(isinstance(d, dict) for d in found)
    return {d["kind"]: d for d in found}


def cluster_of(name: str) -> dict[str, Any]:
    found = documents(name)
    return (
        found["RayCluster"]["spec"]
        if "RayCluster" in found
        else found["RayService"]["spec"]["rayClusterConfig"]
    )


def test_the_command_knows_every_file():
    assert sorted(NAMES) == sorted(p.name for p in FOLDER.iterdir() if p.is_file())


def test_files_are_printed_written_and_not_overwritten(tmp_path: Path):
    printed = run("serve")
    assert printed.exit_code == 0
    assert (FOLDER / "serve.yaml").read_text() in printed.output
    assert "kind: RayCluster" not in printed.output
    assert run("--to", str(tmp_path / "new")).exit_code == 0
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == sorted(NAMES)
    (tmp_path / "new" / "serve.yaml").write_text("mine")
    (tmp_path / "new" / "aws.yaml").unlink()
    again = run("--to", str(tmp_path / "new"))
    assert again.exit_code == 2
    assert "serve.yaml" in again.output
    assert (tmp_path / "new" / "serve.yaml").read_text() == "mine"
    assert not (tmp_path / "new" / "aws.yaml").exists()
    assert run("nomad").exit_code == 2


@pytest.mark.parametrize("name", NAMES)
def test_what_is_a_placeholder_is_marked(name: str):
    lines = (FOLDER / name).read_text().splitlines()
    for line in lines:
        if "CHANGE-ME" in line or re.search(r"example\.(com|internal)", line):
            assert "# CHANGE:" in line, line
    assert any("# CHANGE:" in line for line in lines)


def test_the_serve_configuration_fits_its_schema_and_the_application():
    config = ServeDeploySchema(**yaml.safe_load((FOLDER / "serve.yaml").read_text()))
    (application,) = config.applications
    assert application.import_path == "serve_apps.health:build"
    Settings(**HealthArgs(**application.args).settings)


def test_the_aws_cluster_fits_rays_schema():
    config = yaml.safe_load((FOLDER / "aws.yaml").read_text())
    validate_config(config)
    assert config["head_node_type"] in config["available_node_types"]
    for node_type in config["available_node_types"].values():
        assert node_type["node_config"]["IamInstanceProfile"]
    assert config["available_node_types"]["worker"]["labels"] == {"role": "memory"}


@pytest.mark.parametrize("name", PODS)
def test_the_manifests_are_whole(name: str):
    found, spec = documents(name), cluster_of(name)
    assert {kind: d["apiVersion"] for kind, d in found.items()} == {
        ("RayCluster" if "cluster" in name else "RayService"): "ray.io/v1",
        "ServiceAccount": "v1",
        "PodDisruptionBudget": "policy/v1",
        "PodMonitor": "monitoring.coreos.com/v1",
    }
    account = found["ServiceAccount"]["metadata"]["name"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["serviceAccountName"] == account
        assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
        assert {"medium": "Memory", "sizeLimit": "2Gi"} in [v["emptyDir"] for v in pod["volumes"]]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert container["readinessProbe"]["exec"]
        assert container["livenessProbe"]["failureThreshold"] == 24
        wanted = next(e["value"] for e in container["env"] if e["name"] == "MEMOS_RAY_HOST_LABELS")
        assert yaml.safe_load(wanted) == spec["workerGroupSpecs"][0]["labels"]
    worker = spec["workerGroupSpecs"][0]["template"]
    labels = worker["metadata"]["labels"]
    budget = found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]
    assert budget.items() <= labels.items()
    assert found["PodMonitor"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert spec["gcsFaultToleranceOptions"]["redisPassword"]["valueFrom"]["secretKeyRef"]["key"] == "password"
    assert spec["authOptions"] == {"mode": "token", "secretName": "memos-ray-token"}


@pytest.mark.parametrize("name", PODS)
def test_a_pod_drains_within_its_grace_period_by_a_command_that_there_is(name: str):
    pod = cluster_of(name)["workerGroupSpecs"][0]["template"]["spec"]
    shell = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]
    program, *arguments = shell.split()
    assert program == "memos-ray"
    assert CliRunner().invoke(app, [*arguments[:1], "--help"]).exit_code == 0
    assert float(arguments[arguments.index("--wait-s") + 1]) < pod["terminationGracePeriodSeconds"]


def test_both_manifests_have_the_same_cluster():
    assert cluster_of(PODS[0]) == cluster_of(PODS[1])


def test_the_services_application_fits_its_schema():
    config = yaml.safe_load(documents("kuberay-service.yaml")["RayService"]["spec"]["serveConfigV2"])
    (application,) = ServeDeploySchema(**config).applications
    HealthArgs(**application.args)


@pytest.mark.parametrize("name", ["aws.yaml", *PODS])
def test_ray_knows_the_health_check_settings(name: str):
    from ray._raylet import Config

    names = set(re.findall(r"RAY_(health_check_\w+)", (FOLDER / name).read_text()))
    assert {"health_check_period_ms", "health_check_timeout_ms", "health_check_failure_threshold"} <= names
    for setting in names:
        assert isinstance(getattr(Config, setting)(), int)
