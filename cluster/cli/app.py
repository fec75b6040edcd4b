"""Puts the groups of commands together."""

from __future__ import annotations

import typer

from cluster.cli import (
    backups,
    bench,
    cubes,
    demo,
    deploy,
    files,
    memories,
    placing,
    plan,
    simulate,
    system,
    watching,
)
from cluster.cli.session import EXIT_CODES

_EPILOG = "\n\n".join(
    ["Exit codes:", *(f"  [bold]{code:>3}[/bold]  {meaning}" for code, meaning in EXIT_CODES.items())]
)

app = typer.Typer(
    name="memos-ray",
    help="A memory operating system for LLM agents: durable, versioned, searchable memory on Ray.",
    epilog=_EPILOG,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (
    demo,
    memories,
    files,
    backups,
    cubes,
    system,
    watching,
    placing,
    plan,
    simulate,
    deploy,
    bench,
):
    group.register(app)
