"""What the registry knows of a cube, as values, and what makes them valid. Knows no storage."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, get_args

from memos_ray.errors import Invalid
from memos_ray.ids import check_id

State = Literal["active", "removed"]
Role = Literal["reader", "writer", "admin"]

MAX_GRANTS = 1_000  # of one cube; a row is read and written as a whole
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Grant:
    """One principal's right to a cube that somebody else owns."""

    principal: str
    role: Role


@dataclass(frozen=True, slots=True)
class NewCube:
    """A cube to be registered. `owner` is the principal that creates it, "" for nobody."""

    cube_id: str
    incarnation: str
    embedder: str
    owner: str = ""
    grants: tuple[Grant, ...] = ()


@dataclass(frozen=True, slots=True)
class CubeRecord:
    """What the registry knows of a cube, removed or not. `revision` grows with every change."""

    cube_id: str
    incarnation: str
    embedder: str
    state: State
    created_at: datetime
    revision: int
    owner: str = ""
    grants: tuple[Grant, ...] = ()


def check_new(cube: NewCube) -> NewCube:
    """The cube, if every field of it may be stored; raises `Invalid`."""
    check_id(cube.cube_id, "cube_id")
    check_incarnation(cube.incarnation)
    check_id(cube.embedder, "embedder")
    check_owner(cube.owner)
    grants = check_grants(cube.grants)
    return cube if grants is cube.grants else replace(cube, grants=grants)


def check_incarnation(value: object) -> str:
    """A UUID as `str(uuid)` writes it; raises `Invalid`."""
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise Invalid(f"an incarnation is a UUID in lower case, not {value!r:.100}", argument="incarnation")
    return value


def check_owner(value: object) -> str:
    """A principal, or "" for nobody; raises `Invalid`."""
    return "" if value == "" else check_id(value, "owner")


def check_state(value: object) -> State:
    """ "active" or "removed"; raises `Invalid`."""
    if value == "active" or value == "removed":
        return value
    raise Invalid(f"state is one of {', '.join(get_args(State))}, not {value!r:.100}", argument="state")


def check_grants(value: object) -> tuple[Grant, ...]:
    """At most `MAX_GRANTS`, one a principal, known roles; raises `Invalid`."""
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes)):
        raise Invalid(f"grants must be a sequence of Grant, not {value!r:.100}", argument="grants")
    grants = tuple(value)
    if len(grants) > MAX_GRANTS:
        raise Invalid(f"a cube has at most {MAX_GRANTS} grants, not {len(grants)}", argument="grants")
    principals = set()
    for grant in grants:
        if not isinstance(grant, Grant):
            raise Invalid(f"grants must be a sequence of Grant, not of {grant!r:.100}", argument="grants")
        check_id(grant.principal, "grants")
        if grant.role not in get_args(Role):
            raise Invalid(
                f"a role is one of {', '.join(get_args(Role))}, not {grant.role!r:.100}", argument="grants"
            )
        principals.add(grant.principal)
    if len(principals) < len(grants):
        raise Invalid("a principal has one grant to a cube, not two", argument="grants")
    return grants
