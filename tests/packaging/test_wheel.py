"""The wheel, installed somewhere, used by a script in a folder that has packages named `actors` and `cluster`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys
import actors, cluster
import memos_ray
from memos_ray import MemOS

assert memos_ray.__file__.startswith(sys.argv[1]), memos_ray.__file__
with MemOS(data=sys.argv[2], address="local", namespace="test-wheel", embedder="hash") as memory:
    memory.add("The wheel turns.", user_id="w")
    print(memory.search("wheel", user_id="w")["results"][0]["memory"])
    print(len(memory.status()["hosts"]))
import actors as again, cluster.theirs
print(again.WHOSE, cluster.WHOSE, cluster.theirs.HERE)
"""


def _run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_driver_beside_packages_of_the_same_names(tmp_path: Path):
    dist, installed, project = tmp_path / "dist", tmp_path / "installed", tmp_path / "project"
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(dist), cwd=ROOT)
    (wheel,) = dist.glob("*.whl")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(installed),
        str(wheel),
    ]
    _run(*pip, cwd=tmp_path)
    shipped = {p.name for p in (installed / "cluster" / "deploy").iterdir()}
    assert shipped == {p.name for p in (ROOT / "cluster" / "deploy").iterdir()}
    for name in ("actors", "cluster"):
        (project / name).mkdir(parents=True)
        (project / name / "__init__.py").write_text(f"WHOSE = 'their {name}'\n")
    (project / "cluster" / "theirs.py").write_text("HERE = True\n")
    (project / "driver.py").write_text(SCRIPT)
    out = _run(
        sys.executable,
        "driver.py",
        str(installed),
        str(tmp_path / "data"),
        cwd=project,
        PYTHONPATH=str(installed),
    )
    lines = out.strip().splitlines()
    assert lines[0] == "The wheel turns."
    assert int(lines[1]) >= 1
    assert lines[2] == "their actors their cluster True"
