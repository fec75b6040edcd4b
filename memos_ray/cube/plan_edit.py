"""Changing single memories: update, delete, archive, restore, merge.

A write to a memory that was merged away goes to the one that stands for it. Everything is checked before the
first row is planned, and a request is planned as a whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from memos_ray.cube.filter_tree import Filter
from memos_ray.cube.filters import parse_filter
from memos_ray.cube.keys import SCOPE_FIELDS, scope_of
from memos_ray.cube.plan_add import delivered_payload, last_expiry
from memos_ray.cube.requests import (
    KEEP,
    ArchiveMemory,
    DeleteAll,
    DeleteMemories,
    MergeMemories,
    RestoreMemory,
    UpdateMemory,
)
from memos_ray.cube.rows import JournalRow, Op
from memos_ray.cube.scribe import INTO, WAS, Scribe
from memos_ray.cube.state import CubeState
from memos_ray.cube.validate import (
    Limits,
    check_entities,
    check_kind,
    check_links,
    check_metadata,
    check_span,
    check_text,
    check_time,
    check_times,
)
from memos_ray.errors import Conflict, Invalid
from memos_ray.types import Kind, Status

Changes = dict[str, Any]


def checked_changes(request: UpdateMemory, limits: Limits) -> Changes:
    """The fields that the request sets, in normal form."""
    changes: Changes = {}
    if request.text is not None:
        changes["text"] = check_text(request.text, "text", limits.max_text_bytes)
    if request.metadata is not None:
        changes["metadata"] = check_metadata(request.metadata, limits)
    if request.kind is not None:
        changes["kind"] = check_kind(request.kind)
    for name in ("valid_from", "valid_to", "expires_at"):
        value = getattr(request, name)
        if value is not KEEP:
            optional = name != "valid_from" and value is None
            changes[name] = None if optional else check_time(value, name)
    if request.entities is not None:
        changes["entities"] = check_entities(request.entities, limits)
    if request.times is not None:
        changes["times"] = check_times(request.times, limits)
    if request.links:
        changes["links"] = check_links(request.links, limits)
    if not changes:
        raise Invalid("an update must set something: text, metadata, kind, times or links", argument="text")
    return changes


def update(request: UpdateMemory, changes: Changes, scribe: Scribe) -> None:
    """A new version, or NONE if the memory is like that already."""
    current = scribe.current(request.memory_id, request.if_version)
    changes = dict(changes)
    if "metadata" in changes:
        kept = {f: current.metadata[f] for f in SCOPE_FIELDS if f in current.metadata}
        changes["metadata"] = {**kept, **changes["metadata"]}
    if "links" in changes:
        changes["links"] = tuple(dict.fromkeys((*current.links, *changes["links"])))
    new_text = "text" in changes and changes["text"] != current.text
    if new_text:
        changes.setdefault("entities", ())
        changes.setdefault("times", ())
    if "valid_from" in changes or "valid_to" in changes:
        check_span(changes.get("valid_from", current.valid_from), changes.get("valid_to", current.valid_to))
    if all(getattr(current, name) == value for name, value in changes.items()):
        scribe.unchanged(current)
        return
    payload = delivered_payload(current) if new_text else {}
    scribe.version(current, Op.UPDATE, changes, payload={**_was(current), **payload})


def check_ids(request: DeleteMemories, limits: Limits) -> None:
    """At least one id, not too many, and `if_version` only with a single one."""
    if not request.ids:
        raise Invalid("give at least one id to delete; delete_all deletes by filter", argument="ids")
    if len(request.ids) > limits.max_batch:
        raise Invalid(
            f"{len(request.ids)} ids in one call; at most {limits.max_batch} are allowed", argument="ids"
        )
    if request.if_version is not None and len(request.ids) != 1:
        raise Invalid("if_version goes with a single id", argument="if_version")


def delete(request: DeleteMemories, scribe: Scribe) -> None:
    """Deletes all of the ids, or none."""
    found = {row.memory_id: row for row in (scribe.current(i, request.if_version) for i in request.ids)}
    for row in found.values():
        scribe.hide(row, Op.DELETE, Status.DELETED)


def checked_filters(request: DeleteAll) -> Filter:
    """The parsed filters; `Invalid` if they are empty and the whole cube is not asked for."""
    if not request.filters and not request.everything:
        raise Invalid(
            "delete_all without a filter would delete the whole cube; say what to delete, or that all of it is meant",
            argument="filters",
        )
    return parse_filter(request.filters)


def delete_all(wanted: Filter, state: CubeState, scribe: Scribe, now: datetime) -> None:
    """Deletes what matches, planned changes of the group included; for a filter, those were recorded `now`."""
    touched = scribe.draft.all_touched()
    slots = wanted.slots(state, state.newest_slots())
    ids = [state.ids[m] for m in state.slot_memory.view[slots].tolist()]
    rows = [scribe.draft.newest(i) for i in ids if i not in touched]
    rows += [r for r in touched.values() if r.text and wanted.matches(replace(r, recorded_at=now).item())]
    for row in rows:
        if row is not None:
            scribe.hide(row, Op.DELETE, Status.DELETED)


def archive(request: ArchiveMemory, scribe: Scribe) -> None:
    """Puts it away; NONE if it is."""
    current = scribe.current(request.memory_id, request.if_version)
    if current.status is Status.ARCHIVED:
        scribe.unchanged(current)
    else:
        scribe.version(current, Op.ARCHIVE, {"status": Status.ARCHIVED}, payload={WAS: current.status.value})


def restore(request: RestoreMemory, scribe: Scribe) -> None:
    """Brings it back as it was; NONE if it is not in the archive."""
    current = scribe.current(request.memory_id, request.if_version)
    if current.status is not Status.ARCHIVED:
        scribe.unchanged(current)
    else:
        scribe.version(current, Op.RESTORE, {"status": Status(current.payload.get(WAS, Status.ACTIVE))})


def merge(request: MergeMemories, scribe: Scribe) -> None:
    """Merges near duplicates. `Conflict` if one moved on, or if they may not be taken for one another."""
    survivor = _exact(request.survivor, request.if_versions, scribe)
    merged = [_exact(i, request.if_versions, scribe) for i in dict.fromkeys(request.merged)]
    if not merged or survivor.memory_id in {r.memory_id for r in merged}:
        raise Invalid("merged must name at least one memory, and not the survivor", argument="merged")
    for row in merged:
        _check_mergeable(survivor, row)
    room = scribe.limits.max_names
    everyone = (survivor, *merged)
    gathered = {
        name: tuple(dict.fromkeys(x for row in everyone for x in getattr(row, name)))[:room]
        for name in ("sources", "entities", "links", "times")
    }
    own = {row.memory_id for row in everyone}
    gathered["links"] = tuple(x for x in gathered["links"] if x.target not in own)
    metadata: dict[str, Any] = {}
    for row in reversed(everyone):
        metadata.update(row.metadata)
    expires_at = last_expiry(row.expires_at for row in everyone)
    scribe.version(survivor, Op.UPDATE, {**gathered, "metadata": metadata, "expires_at": expires_at})
    for row in merged:
        scribe.hide(row, Op.MERGE, Status.MERGED, {INTO: survivor.memory_id})


def _exact(memory_id: str, if_versions: Mapping[str, int], scribe: Scribe) -> JournalRow:
    """The memory itself: one that was merged away in the meantime has moved on."""
    row = scribe.current(memory_id, if_versions.get(memory_id))
    if row.memory_id != memory_id:
        raise Conflict(
            f"memory {memory_id} was merged into {row.memory_id} in the meantime", version=row.version
        )
    return row


def _check_mergeable(a: JournalRow, b: JournalRow) -> None:
    """Messages, and memories of different kind, valid times, scope or standing, are different memories."""
    if Kind.MESSAGE in (a.kind, b.kind):
        raise Conflict("messages are never merged", version=b.version)
    if (a.valid_from, a.valid_to) != (b.valid_from, b.valid_to):
        raise Conflict(f"{a.memory_id} and {b.memory_id} have different valid times", version=b.version)
    if (a.kind, a.status, scope_of(a.metadata)) != (b.kind, b.status, scope_of(b.metadata)):
        raise Conflict(f"{a.memory_id} and {b.memory_id} differ in kind, status or scope", version=b.version)


def _was(row: JournalRow) -> dict[str, Any]:
    """An update of an archived memory keeps what it will be restored to."""
    return {WAS: row.payload[WAS]} if row.status is Status.ARCHIVED and WAS in row.payload else {}
