"""Identifiers: operation ids, memory ids derived from them, and cube ids.

A memory id is a UUID version 7 (RFC 9562) made from the operation's id and the position in it, so that a
repeated call names the same memories. Its time field is the operation's own if that is a UUID 7, else 0.
"""

from __future__ import annotations

import hashlib
import re
import uuid

import uuid_utils

from memos_ray.errors import Invalid

_MAX_ID = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def new_op_id() -> str:
    """A fresh UUID 7: unique, and ordered by time."""
    return str(uuid_utils.uuid7())


def memory_id(cube_id: str, op_id: str, position: int) -> str:
    """The id of the `position`-th memory that `op_id` adds to `cube_id`. Deterministic."""
    digest = hashlib.sha256(f"{cube_id}\0{op_id}\0{position}".encode()).digest()
    value = int.from_bytes(digest[:16], "big") & ((1 << 80) - 1)
    value |= _unix_ms(op_id) << 80
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return str(uuid.UUID(int=value))


def _unix_ms(op_id: str) -> int:
    try:
        parsed = uuid.UUID(op_id)
    except ValueError:
        return 0
    return parsed.int >> 80 if parsed.version == 7 else 0


def check_id(value: object, argument: str) -> str:
    """Accepts 1 to 200 characters without control characters or lone surrogates; raises `Invalid`."""
    if not isinstance(value, str) or not value:
        raise Invalid(f"{argument} must be a non-empty string, not {value!r}", argument=argument)
    if len(value) > _MAX_ID:
        raise Invalid(
            f"{argument} has {len(value)} characters; at most {_MAX_ID} are allowed", argument=argument
        )
    if _CONTROL.search(value):
        raise Invalid(f"{argument} holds control characters or lone surrogates: {value!r}", argument=argument)
    return value


def named_after(key: str, value: str) -> str | None:
    """The id of the cube that belongs to a user or an agent; None for `run_id`, which names no cube."""
    return None if key == "run_id" else f"{key.removesuffix('_id')}:{value}"


def resolve_cube_id(
    *,
    cube_id: str | None = None,
    user_id: str | None = None,
    agent_id: str | None = None,
    run_id: str | None = None,
) -> tuple[str, dict[str, str]]:
    """Which cube a call means, and the scope filters that the other ids become.

    An id that the cube is named after (`user_id="u"` of the cube "user:u") is none: what lies in it does not
    repeat it. `cube_id` wins; else `user:<user_id>`; else `agent:<agent_id>`. Raises `Invalid` if only `run_id`, or
    nothing, is given.
    """
    given = {"user_id": user_id, "agent_id": agent_id, "run_id": run_id}
    scope = {k: check_id(v, k) for k, v in given.items() if v is not None}
    if cube_id is not None:
        check_id(cube_id, "cube_id")
        return cube_id, {k: v for k, v in scope.items() if named_after(k, v) != cube_id}
    for key in ("user_id", "agent_id"):
        if key in scope:
            return check_id(named_after(key, scope.pop(key)), key), scope
    hint = "run_id alone does not name a cube; " if "run_id" in scope else ""
    raise Invalid(f"{hint}give cube_id, user_id or agent_id", argument="cube_id")
