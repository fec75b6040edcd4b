"""Commands on single memories: add, search, get, history."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer
from rich.markup import escape
from rich.text import Text

from cluster.cli.output import (
    history_table,
    hits_table,
    memory_table,
    new_table,
    shortened,
    signals_table,
    understood,
)
from cluster.cli.session import Agent, Cube, Session, User, command, scope
from memos_ray.errors import Invalid

_PANEL = "Memories"


def register(app: typer.Typer) -> None:
    """Adds this group's commands to the application."""
    for body in (add, search, get, history):
        command(app, rich_help_panel=_PANEL)(body)


def add(
    session: Session,
    text: Annotated[str, typer.Argument(help="What to remember; `-` reads it from stdin.")],
    cube: Cube = None,
    user: User = None,
    agent: Agent = None,
    speaker: Annotated[str | None, typer.Option(help="Who said it.")] = None,
    timestamp: Annotated[
        str | None, typer.Option(help="When it was said, ISO 8601; now if not given.")
    ] = None,
    infer: Annotated[bool, typer.Option(help="Also derive memories with the configured LLM.")] = False,
    op_id: Annotated[
        str | None, typer.Option(help="Id of this operation: repeating it with the same id changes nothing.")
    ] = None,
) -> None:
    """Remember a text. It is durable when this returns."""
    if text == "-":
        text = sys.stdin.read()
    message = {"role": "user", "content": text} | ({"speaker": speaker} if speaker else {})
    with session.memos() as memory:
        answer = memory.add(
            [message], timestamp=timestamp, infer=infer, op_id=op_id, **scope(cube, user, agent)
        )
    if session.as_json:
        session.emit(answer)
        return
    for result in answer["results"]:
        line = Text.assemble((result["event"].lower(), "bold green"), " ", (result["id"], "cyan"), " ")
        session.out.print(line.append(shortened(result["memory"], 100)), soft_wrap=True)


def search(
    session: Session,
    query: Annotated[str, typer.Argument(help="What to look for, in plain words.")],
    cube: Cube = None,
    user: User = None,
    agent: Agent = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="How many to return at most.")] = 10,
    as_of: Annotated[str | None, typer.Option(help="Only what was true at this time, ISO 8601.")] = None,
    known_at: Annotated[
        str | None, typer.Option(help="Only what was recorded by this time, ISO 8601.")
    ] = None,
    budget_tokens: Annotated[
        int | None, typer.Option(min=1, help="As many as fit this many tokens, laid out as --prompt does.")
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="Count tokens with this tokenizer.json, the one in this folder, or that of a model in the hub's "
            "local cache."
        ),
    ] = None,
    prompt: Annotated[
        bool, typer.Option("--prompt", help="Print only the text that a model should see.")
    ] = False,
    recipe: Annotated[
        Literal["plain", "fast", "default", "best"], typer.Option(help="How much work goes into the search.")
    ] = "default",
    rerank: Annotated[
        bool, typer.Option("--rerank", help="Let the configured reranker put the best 50 in order.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say why each one was found, signal by signal.")
    ] = False,
) -> None:
    """Find memories by meaning, words, people and time."""
    with session.memos() as memory:
        answer = memory.search(
            query,
            top_k=top_k,
            as_of=as_of,
            known_at=known_at,
            budget_tokens=budget_tokens,
            tokenizer=tokenizer,
            render="prompt" if prompt else None,
            recipe=recipe,
            rerank=rerank,
            explain=explain,
            **scope(cube, user, agent),
        )
    if session.as_json:
        session.emit(answer)
        return
    if rerank and answer["rerank"]["error"]:
        session.note(f"not reranked: {escape(answer['rerank']['error'])}")
    if prompt and answer["prompt"]:
        session.stdout.write(answer["prompt"] + "\n")
    elif answer["results"]:
        session.out.print(hits_table(answer["results"], explain=explain))
        if explain:
            session.out.print(signals_table(answer["results"]))
            session.out.print(understood(answer["results"][0]["explanation"]["query"]))
    else:
        session.note("nothing found" if budget_tokens is None else "nothing found that fits the budget")


def get(
    session: Session,
    memory_id: Annotated[str | None, typer.Argument(help="Id of a memory.", show_default=False)] = None,
    cube: Cube = None,
    user: User = None,
    agent: Agent = None,
    everything: Annotated[bool, typer.Option("--all", help="List the memories of the cube instead.")] = False,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="With --all: how many at most.")] = 100,
    as_of: Annotated[str | None, typer.Option(help="As it was true at this time, ISO 8601.")] = None,
    known_at: Annotated[str | None, typer.Option(help="As it was recorded at this time, ISO 8601.")] = None,
) -> None:
    """Show one memory, or list them with --all."""
    if (memory_id is None) != everything:
        raise Invalid("name one memory id, or give --all", argument="memory_id")
    which = scope(cube, user, agent)
    with session.memos() as memory:
        if memory_id is not None:
            found = memory.get(memory_id, as_of=as_of, known_at=known_at, **which)
        else:
            found = memory.get_all(top_k=top_k, as_of=as_of, known_at=known_at, **which)
    if session.as_json:
        session.emit(found)
    elif memory_id is not None:
        session.out.print(memory_table(found))
    else:
        table = new_table()
        table.add_column("id", style="dim", no_wrap=True)
        table.add_column("date", style="cyan", no_wrap=True)
        table.add_column("kind", no_wrap=True)
        table.add_column("memory", ratio=1)
        for item in found["results"]:
            table.add_row(
                item["id"], str(item["valid_from"])[:10], str(item["kind"]), Text(shortened(item["memory"]))
            )
        session.out.print(table)


def history(
    session: Session,
    memory_id: Annotated[str, typer.Argument(help="Id of a memory.")],
    cube: Cube = None,
    user: User = None,
    agent: Agent = None,
) -> None:
    """Show every version of a memory, and what made it."""
    with session.memos() as memory:
        steps = memory.history(memory_id, **scope(cube, user, agent))
    if session.as_json:
        session.emit(steps)
    else:
        session.out.print(history_table(steps["results"]))
