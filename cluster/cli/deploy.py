"""Commands for those who deploy: the deployment files, and a node that leaves in peace."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.session import Session, command
from memos_ray._siblings import load
from memos_ray.errors import Invalid, Unavailable

_PANEL = "Deployment"
_FOLDER = Path(__file__).resolve().parent.parent / "deploy"
KINDS = {
    "serve": ("serve.yaml",),
    "aws": ("aws.yaml",),
    "kuberay": ("kuberay-cluster.yaml", "kuberay-service.yaml", "Dockerfile"),
}
"""Kind -> the files that belong to it."""

_LOOK_S = 0.5


def register(app: typer.Typer) -> None:
    """Adds this group's commands to the application."""
    for body in (deploy_files, drain_here):
        command(app, body.__name__.replace("_", "-"), rich_help_panel=_PANEL)(body)


def deploy_files(
    session: Session,
    kind: Annotated[str | None, typer.Argument(help=f"{', '.join(KINDS)}; all without it.")] = None,
    to: Annotated[
        Path | None, typer.Option("--to", file_okay=False, help="Write them into this folder.")
    ] = None,
) -> None:
    """Print the deployment files, or write them; nothing that is there is overwritten."""
    if kind is not None and kind not in KINDS:
        raise Invalid(f"there is no kind {kind!r}; there are {', '.join(KINDS)}", argument="kind")
    names = [name for each in ([kind] if kind else KINDS) for name in KINDS[each]]
    if to is None:
        texts = {name: (_FOLDER / name).read_text() for name in names}
        if session.as_json:
            session.emit(texts)
        else:
            session.stdout.write("\n".join(f"# ===== {name}\n{text}" for name, text in texts.items()))
        return
    if there := [name for name in names if (to / name).exists()]:
        raise Invalid(f"{', '.join(there)} exist in {to} already: nothing was written", argument="to")
    to.mkdir(parents=True, exist_ok=True)
    for name in names:
        (to / name).write_text((_FOLDER / name).read_text())
    if session.as_json:
        session.emit({"written": [str(to / name) for name in names]})
    else:
        for name in names:
            session.out.print(str(to / name), soft_wrap=True)
        session.note("[dim]What you must look at is marked with `# CHANGE:`.[/dim]")


def drain_here(
    session: Session,
    wait_s: Annotated[
        float, typer.Option("--wait-s", min=0, help="How long to wait until it is empty.")
    ] = 60.0,
) -> None:
    """Take every cube off the node that this runs on: for a pod's preStop, or before a machine is switched off.

    Exit code 5 if cubes are left when the time is over. Nothing is lost then either: the next call of each of them
    activates it elsewhere.
    """
    from memos_ray.memos import make_settings

    settings = make_settings(None, {"data": session.data})
    if not load("cluster.launch").running(settings):
        session.note("nothing is running; there is nothing to drain")
        return
    deadline = time.monotonic() + wait_s
    with session.memos(hint=False) as memory:
        node_id = load("cluster.launch").this_node()
        memory.drain(node_id)
        while left := next((n["cubes"] for n in memory.status()["nodes"] if n["node_id"] == node_id), 0):
            if time.monotonic() > deadline:
                raise Unavailable(f"{left} cubes are still on node {node_id} after {wait_s:g} s", what="node")
            time.sleep(_LOOK_S)
    if session.as_json:
        session.emit({"node_id": node_id, "cubes": 0})
    else:
        session.out.print(f"no cubes on node {node_id}", soft_wrap=True)
