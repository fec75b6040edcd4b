"""Finds the example files: beside the packages in a checkout, inside `memos_ray` in an installed wheel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from memos_ray._siblings import ROOT
from memos_ray.errors import NotFound

_FOLDERS = (ROOT / "examples" / "data", ROOT / "memos_ray" / "_examples")


def example_path(name: str) -> Path:
    """Path of an example file. Raises `NotFound`."""
    for folder in _FOLDERS:
        if (folder / name).is_file():
            return folder / name
    looked = " nor ".join(str(f) for f in _FOLDERS)
    raise NotFound(f"the example {name} is neither in {looked}: reinstall memos-ray", what="example", id=name)


def load_example(name: str) -> dict[str, Any]:
    """A conversation file: `sessions` with dated `turns`, and `questions` with their evidence."""
    value: dict[str, Any] = json.loads(example_path(name).read_text(encoding="utf-8"))
    return value
