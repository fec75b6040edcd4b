"""What a cube can be asked to write, and what it answers. Values only: nothing here decides anything.

Every request carries an `op_id` (repeat a call with the same one and it changes nothing and is answered the
same), the `principal` who asks, and a `digest` of everything else, by which a repetition is told from another
request that came with the same `op_id`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from enum import Enum
from typing import Any, Literal

from memos_ray.errors import Invalid
from memos_ray.ids import new_op_id
from memos_ray.ingest.drafts import MemoryDraft
from memos_ray.types import Kind, Link, TimeMention


class Keep(Enum):
    """The value of a field that an update leaves alone, where None has a meaning of its own."""

    KEEP = "keep"


KEEP = Keep.KEEP
MaybeTime = datetime | None | Literal[Keep.KEEP]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What all requests share."""

    op_id: str = field(default_factory=new_op_id)
    principal: str = ""
    call_digest: str = (
        ""  # of the call it was made from, if it holds what the call did not (the time of arrival)
    )
    _digest: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def digest(self) -> str:
        """`call_digest`, else SHA-256 (hex) of the request without `op_id` and `principal`; computed once.

        Fields that hold their default are left out, so a release that adds a field keeps the digests.
        """
        if self.call_digest:
            return self.call_digest
        if not self._digest:
            self._digest.append(_sha256(self))
        return self._digest[0]


@dataclass(frozen=True, slots=True)
class AddMemories(Request):
    """Adds drafts, in order. `derived_from` of a draft means positions in `drafts`, or in `origins` if given.

    `origins` are ids of memories that are already there (an extractor's input, committed before).
    """

    drafts: Sequence[MemoryDraft]
    origins: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class UpdateMemory(Request):
    """A new version of one memory; what is None or `KEEP` stays as it is.

    `metadata` replaces the old one as a whole, except for scope ids (user_id, agent_id, run_id), which stay
    unless given. A new `text` drops `entities` and `times` of the old one unless they are given with it.
    `links` are added to those there are. With `if_version`, another current version is a `Conflict`.
    """

    memory_id: str
    text: str | None = None
    metadata: Mapping[str, Any] | None = None
    kind: Kind | None = None
    valid_from: datetime | Literal[Keep.KEEP] = KEEP
    valid_to: MaybeTime = KEEP
    expires_at: MaybeTime = KEEP
    entities: tuple[str, ...] | None = None
    times: tuple[TimeMention, ...] | None = None
    links: tuple[Link, ...] = ()
    if_version: int | None = None


@dataclass(frozen=True, slots=True)
class DeleteMemories(Request):
    """Hides these memories from everything but history, `known_at` and a snapshot restore. All or none."""

    ids: tuple[str, ...]
    if_version: int | None = None  # only with a single id


@dataclass(frozen=True, slots=True)
class DeleteAll(Request):
    """Deletes every memory that `filters` matches, archived and superseded ones too.

    Empty filters are refused unless `everything` says that the whole cube is meant.
    """

    filters: Mapping[str, Any]
    everything: bool = False


@dataclass(frozen=True, slots=True)
class ArchiveMemory(Request):
    """Puts a memory away: not found any more, not deleted."""

    memory_id: str
    if_version: int | None = None


@dataclass(frozen=True, slots=True)
class RestoreMemory(Request):
    """Brings a memory back from the archive."""

    memory_id: str
    if_version: int | None = None


@dataclass(frozen=True, slots=True)
class CreateSnapshot(Request):
    """Names the state of now."""

    name: str


@dataclass(frozen=True, slots=True)
class RestoreSnapshot(Request):
    """Brings every memory back to its state at the snapshot, by new versions: no history is lost."""

    name: str


@dataclass(frozen=True, slots=True)
class MergeMemories(Request):
    """`merged` say the same as `survivor`, which gets their sources; `if_versions` maps every id to its version.

    Refused (`Conflict`) if a version moved on, or if valid times differ.
    """

    survivor: str
    merged: tuple[str, ...]
    if_versions: Mapping[str, int] = field(default_factory=dict)


EventName = Literal["ADD", "UPDATE", "DELETE", "NONE", "MERGE", "ARCHIVE", "RESTORE", "SUPERSEDE"]


@dataclass(frozen=True, slots=True)
class WriteEvent:
    """What happened to one memory. `text` is empty when it was deleted or merged into another one.

    NONE: it was there already, and this is its id. MERGE: it was there already and got another source (or,
    from `MergeMemories`, was merged away). SUPERSEDE: a functional triple of this request closed it.
    """

    memory_id: str
    event: EventName
    version: int
    text: str


@dataclass(frozen=True, slots=True)
class WriteResult:
    """One event per draft or id, in order; then (SUPERSEDE) the memories that were changed along with them."""

    op_id: str
    events: tuple[WriteEvent, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """The memory ids of the events, in order; those of the drafts come first."""
        return tuple(e.memory_id for e in self.events)


@dataclass(frozen=True, slots=True)
class SnapshotResult:
    """A snapshot holds everything up to and including `seq`."""

    op_id: str
    name: str
    seq: int
    recorded_at: datetime


_MAX_DEPTH = 64  # twice what metadata may be nested
_UNHASHED = frozenset({"op_id", "principal", "call_digest", "_digest"})


def _canonical(value: Any, depth: int = 0) -> Any:
    """JSON-ready, dataclasses without fields that hold their default, mappings with string keys."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if depth > _MAX_DEPTH:
        raise Invalid(
            f"an argument is nested more than {_MAX_DEPTH} deep, or holds itself", argument="metadata"
        )
    if hasattr(value, "__dataclass_fields__"):
        out = {"": type(value).__name__}
        for f in fields(value):
            v = getattr(value, f.name)
            if f.name in _UNHASHED or (f.default is not MISSING and v == f.default) or v in ((), {}):
                continue
            out[f.name] = _canonical(v, depth + 1)
        return out
    if isinstance(value, Mapping):
        return {str(k): _canonical(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(v, depth + 1) for v in value]
    return value


def call_digest(verb: str, arguments: Mapping[str, Any]) -> str:
    """Digest of a call as the caller made it, for requests that also hold what the call did not."""
    return _sha256([verb, arguments])


def _sha256(value: Any) -> str:
    try:
        text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), default=repr)
    except ValueError as error:  # an integer of thousands of digits
        raise Invalid(f"an argument cannot be written as JSON: {error}", argument="metadata") from error
    return hashlib.sha256(text.encode()).hexdigest()
