import subprocess
import sys
from pathlib import Path

import pytest

from memos_ray import _siblings


def test_only_our_own_packages():
    with pytest.raises(ImportError, match="not one of this distribution"):
        _siblings.load("json")


def test_ours_is_found_where_memos_ray_lies():
    assert Path(_siblings.load("actors.options").__file__).parent == _siblings.ROOT / "actors"


def test_beside_packages_of_the_same_name(tmp_path: Path):
    """In a process of its own: a script's folder holds `actors` and `cluster`; both sides get their own."""
    for name in ("actors", "cluster"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"WHOSE = 'theirs: {name}'\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        f"sys.path.append({str(_siblings.ROOT)!r})\n"
        "import actors\n"
        "from memos_ray import _siblings\n"
        "print(_siblings.shadowed_by('actors'))\n"
        "ours = _siblings.load('actors.options')\n"
        "print(ours.DIRECTORY_NAME, ours is _siblings.load('actors.options'))\n"
        "import actors as again, cluster\n"
        "print(again is actors, actors.WHOSE, cluster.WHOSE, 'actors.options' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == [
        str(tmp_path / "actors"),
        "directory True",
        "True theirs: actors theirs: cluster False",
    ]
