"""Loads this distribution's other top-level packages, whatever else goes by their names.

`actors` and `cluster` are common names: a driver script may sit beside folders called so, and Python would
import those. `load` imports ours from where `memos_ray` itself lies. If somebody else's package has the
name, ours is kept out of `sys.modules` afterwards, so that their `import actors` goes on meaning theirs.

What is imported that way pickles by value (cloudpickle does so for classes that `sys.modules` does not
know), so Ray workers need not find it by name. It must therefore raise and return only what `memos_ray`
defines.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from pathlib import Path
from types import ModuleType

PACKAGES = ("actors", "serve_apps", "cluster")
ROOT = Path(__file__).resolve().parent.parent

_lock = threading.RLock()
_isolated: dict[str, ModuleType] = {}


def shadowed_by(package: str) -> str | None:
    """The path that `import package` would take instead of ours, or None if it would take ours."""
    module = sys.modules.get(package)
    if module is not None:
        where = list(getattr(module, "__path__", None) or [getattr(module, "__file__", None) or "built in"])
    else:
        try:
            spec = importlib.util.find_spec(package)
        except (ImportError, ValueError):
            return f"an unusable module named {package!r}"
        if spec is None:
            return None
        where = list(spec.submodule_search_locations or [spec.origin or "built in"])
    mine = str(ROOT / package)
    return None if mine in {str(Path(p).resolve()) for p in where} else str(where[0] if where else package)


def load(name: str) -> ModuleType:
    """Import `name` (such as "cluster.launch") from this distribution. Raises ImportError if it is not part of it."""
    top = name.partition(".")[0]
    if top not in PACKAGES:
        raise ImportError(f"{name!r} is not one of this distribution's packages: {', '.join(PACKAGES)}")
    with _lock:
        if name in _isolated:
            return _isolated[name]
        if not (ROOT / top).is_dir():
            raise ImportError(f"{top!r} is missing beside {ROOT / 'memos_ray'}: reinstall memos-ray")
        if not any(shadowed_by(p) for p in PACKAGES):
            return importlib.import_module(name)
        return _load_isolated(name)


def _load_isolated(name: str) -> ModuleType:
    theirs = _take_out()
    sys.modules.update(_isolated)
    sys.path.insert(0, str(ROOT))
    try:
        importlib.import_module(name)
    finally:
        sys.path.remove(str(ROOT))
        _isolated.update(_take_out())
        sys.modules.update(theirs)
    return _isolated[name]


def _take_out() -> dict[str, ModuleType]:
    names = [n for n in sys.modules if n.partition(".")[0] in PACKAGES]
    return {n: sys.modules.pop(n) for n in names}
