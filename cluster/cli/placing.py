"""Commands on where cubes are: move, passivate, drain."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from cluster.cli.session import Agent, Cube, Session, User, command, scope
from memos_ray.errors import Invalid, Unavailable

_PANEL = "Placement"
_LOOK_EVERY_S = 0.5


def register(app: typer.Typer) -> None:
    """Adds this group's commands to the application."""
    for body in (move, passivate, drain):
        command(app, rich_help_panel=_PANEL)(body)


def move(
    session: Session,
    cube: Cube = None,
    user: User = None,
    agent: Agent = None,
    node: Annotated[
        str | None, typer.Option("--node", "-n", help="The node it should be on: its id, or how that begins.")
    ] = None,
) -> None:
    """Take an active cube to another process, while it is in use."""
    cube_id = _cube_id(cube, user, agent)
    with _running(session) as memory:
        target = None if node is None else node_named(node, memory.status(cubes=0)["nodes"])
        answer = memory.move(cube_id, node_id=target)
    if session.as_json:
        session.emit(answer)
    else:
        session.out.print(f"{cube_id} → {answer['host']}", soft_wrap=True)


def passivate(session: Session, cube: Cube = None, user: User = None, agent: Agent = None) -> None:
    """Let an active cube go: it takes no memory until it is called again."""
    cube_id = _cube_id(cube, user, agent)
    with _running(session) as memory:
        was_active = memory.passivate(cube_id)
    if session.as_json:
        session.emit({"cube_id": cube_id, "was_active": was_active})
    else:
        session.out.print(f"{cube_id} {'passivated' if was_active else 'was not active'}", soft_wrap=True)


def drain(
    session: Session,
    node: Annotated[str, typer.Argument(help="The node: its id, or how that begins.")],
    undo: Annotated[bool, typer.Option("--undo", help="Let cubes come to the node again.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return once no cube is left there.")] = False,
    timeout: Annotated[float, typer.Option(min=1.0, help="Seconds that --wait waits at most.")] = 600.0,
) -> None:
    """Take every cube off a node and put none there, before it is taken down. Calls go on meanwhile."""
    if undo and wait:
        raise Invalid("--undo and --wait contradict each other", argument="wait")
    with _running(session) as memory:
        node_id = node_named(node, memory.status(cubes=0)["nodes"])
        left = memory.drain(node_id, draining=not undo)
        deadline = time.monotonic() + timeout
        while wait and left:
            if time.monotonic() > deadline:
                raise Unavailable(f"{left} cubes are still on {node_id} after {timeout:g} s", what="drain")
            time.sleep(_LOOK_EVERY_S)
            # Asked again each time: a directory that restarted meanwhile has forgotten it.
            left = memory.drain(node_id)
    if session.as_json:
        session.emit({"node_id": node_id, "draining": not undo, "cubes": left})
    elif undo:
        session.out.print(f"{node_id[:12]} takes cubes again")
    else:
        session.out.print(f"{node_id[:12]} is draining; {left} cubes are on it")


def node_named(prefix: str, nodes: list[dict[str, Any]]) -> str:
    """The id of the one node that begins so. Raises `Invalid`."""
    ids = [str(node["node_id"]) for node in nodes]
    found = [node_id for node_id in ids if prefix and node_id.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    what = "no node" if not found else f"{len(found)} nodes"
    known = ", ".join(node_id[:12] for node_id in ids)
    raise Invalid(f"{what} with an id that begins {prefix!r}; there are {known}", argument="node")


def _cube_id(cube: str | None, user: str | None, agent: str | None) -> str:
    from memos_ray.ids import resolve_cube_id

    if cube is None and user is None and agent is None:
        raise Invalid("name the cube with --cube, --user or --agent", argument="cube")
    return resolve_cube_id(**scope(cube, user, agent))[0]


def _running(session: Session) -> Any:
    """The running system. Raises `Unavailable` if there is none: nothing is where it could be moved from."""
    from memos_ray._siblings import load
    from memos_ray.memos import make_settings

    if not load("cluster.launch").running(make_settings(None, {"data": session.data})):
        raise Unavailable("nothing is running; `memos-ray up` starts a system", what="system")
    return session.memos(hint=False)
