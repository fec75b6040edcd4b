"""Inside a function, our own packages are loaded through `_siblings`: a plain import could take somebody else's."""

from __future__ import annotations

import ast

import pytest

from memos_ray._siblings import PACKAGES, ROOT

FILES = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))


def late_imports(path):
    """(line, module) of imports of our packages that are executed later than the module itself."""
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            yield from ((node.lineno, n) for n in names if n.partition(".")[0] in PACKAGES)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_late_import_by_name(path):
    assert list(late_imports(path)) == []


def test_such_an_import_would_be_seen(tmp_path):
    path = tmp_path / "m.py"
    path.write_text(
        "import actors\ndef f():\n    from cluster import launch\n    import ray, actors.options\n"
    )
    assert list(late_imports(path)) == [(3, "cluster"), (4, "actors.options")]
