"""memos_ray: a memory operating system for LLM agents, spread over a Ray cluster.

The names below are the public ones. They are imported when first used (PEP 562), so that `import memos_ray`
costs next to nothing and pulls in neither ray nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memos_ray.config import Settings
    from memos_ray.cube_handle import AsyncCube
    from memos_ray.errors import (
        Conflict,
        Corrupt,
        Forbidden,
        Invalid,
        MemosError,
        Moved,
        NotFound,
        Overloaded,
        Rejected,
        Retryable,
        SchemaTooNew,
        Unavailable,
    )
    from memos_ray.memos import AsyncMemOS
    from memos_ray.sync import Cube, MemOS
    from memos_ray.types import (
        Explanation,
        HistoryEntry,
        Kind,
        Link,
        LinkType,
        MemoryItem,
        Passage,
        SearchHit,
        SearchHits,
        Source,
        Status,
        TimeMention,
    )

__version__ = "0.1.0"

_HOME = {
    "memos_ray.config": ("Settings",),
    "memos_ray.cube_handle": ("AsyncCube",),
    "memos_ray.memos": ("AsyncMemOS",),
    "memos_ray.sync": ("Cube", "MemOS"),
    "memos_ray.errors": (
        "Conflict",
        "Corrupt",
        "Forbidden",
        "Invalid",
        "MemosError",
        "Moved",
        "NotFound",
        "Overloaded",
        "Rejected",
        "Retryable",
        "SchemaTooNew",
        "Unavailable",
    ),
    "memos_ray.types": (
        "Explanation",
        "HistoryEntry",
        "Kind",
        "Link",
        "LinkType",
        "MemoryItem",
        "Passage",
        "SearchHit",
        "SearchHits",
        "Source",
        "Status",
        "TimeMention",
    ),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "AsyncCube",
    "AsyncMemOS",
    "Conflict",
    "Corrupt",
    "Cube",
    "Explanation",
    "Forbidden",
    "HistoryEntry",
    "Invalid",
    "Kind",
    "Link",
    "LinkType",
    "MemOS",
    "MemoryItem",
    "MemosError",
    "Moved",
    "NotFound",
    "Overloaded",
    "Passage",
    "Rejected",
    "Retryable",
    "SchemaTooNew",
    "SearchHit",
    "SearchHits",
    "Settings",
    "Source",
    "Status",
    "TimeMention",
    "Unavailable",
    "__version__",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'memos_ray' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
