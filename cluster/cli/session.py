"""What every command shares: its common options, how it opens the system, and how it ends.

Does not know any single command. Exit codes are part of the interface and are listed in `EXIT_CODES`.
"""

from __future__ import annotations

import inspect
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, TypeVar, get_type_hints

import typer
from rich.console import Console
from rich.markup import escape

from memos_ray.errors import (
    Conflict,
    Corrupt,
    Forbidden,
    Invalid,
    MemosError,
    NotFound,
    Retryable,
)
from memos_ray.types import to_jsonable

if TYPE_CHECKING:
    from memos_ray.sync import MemOS

EXIT_CODES: dict[int, str] = {
    0: "done",
    1: "failed, or a benchmark or demo missed a figure that it checks",
    2: "wrong usage or an invalid argument",
    3: "there is no such cube, memory or snapshot",
    4: "conflict: another version, or an op id that was used for something else",
    5: "unavailable or overloaded: the same command may succeed later",
    6: "forbidden",
    7: "storage is damaged: see `memos-ray doctor`",
    130: "interrupted",
}
_CODE_OF: tuple[tuple[type[MemosError], int], ...] = (
    (Invalid, 2),
    (NotFound, 3),
    (Conflict, 4),
    (Retryable, 5),
    (Forbidden, 6),
    (Corrupt, 7),
)

Cube = Annotated[
    str | None,
    typer.Option("--cube", "-c", help="Cube id.", envvar="MEMOS_RAY_CUBE", rich_help_panel="Which memory"),
]
User = Annotated[
    str | None,
    typer.Option("--user", "-u", help="Use the cube of this user.", rich_help_panel="Which memory"),
]
Agent = Annotated[
    str | None, typer.Option("--agent", help="Use the cube of this agent.", rich_help_panel="Which memory")
]
_Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="Root of all storage: a folder, or a URI such as s3://….",
        envvar="MEMOS_RAY_DATA",
        rich_help_panel="Common",
    ),
]
_Json = Annotated[
    bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.", rich_help_panel="Common")
]
_JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json", dir_okay=False, help="Also write the figures to this file.", rich_help_panel="Common"
    ),
]
_Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel="Common")
]

DEFAULT_CUBE = "default"
_PIPE_WIDTH = 120  # a table cut to 80 columns because nobody looks at it is of no use in a file


def exit_code(error: BaseException) -> int:
    """The exit code that stands for an error."""
    return next((code for kind, code in _CODE_OF if isinstance(error, kind)), 1)


def make_console(*, stderr: bool = False) -> Console:
    """A console that keeps tables readable when its output goes to a file."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in console._environ:
        console.width = _PIPE_WIDTH
    return console


def scope(cube: str | None, user: str | None, agent: str | None) -> dict[str, Any]:
    """`--cube/--user/--agent` -> the client's arguments; the cube named "default" if none is given."""
    if cube is None and user is None and agent is None:
        return {"cube_id": DEFAULT_CUBE}
    chosen = {"cube_id": cube, "user_id": user, "agent_id": agent}
    return {name: value for name, value in chosen.items() if value is not None}


@dataclass
class Session:
    """One run of one command."""

    data: str | None = None
    as_json: bool = False
    json_file: Path | None = None  # benchmarks print a table and write a file
    debug: bool = False
    out: Console = field(default_factory=make_console)
    err: Console = field(default_factory=lambda: make_console(stderr=True))
    stdout: TextIO = field(default_factory=lambda: sys.stdout)

    def note(self, text: str) -> None:
        """A remark for people, on stderr: stdout may be a program's input. `text` may hold rich markup."""
        self.err.print(text)

    def emit(self, value: Any) -> None:
        """`value` as JSON on stdout (datetimes as ISO 8601)."""
        self.stdout.write(json.dumps(to_jsonable(value), ensure_ascii=False, indent=2, default=str) + "\n")

    @contextmanager
    def memos(self, *, hint: bool = True, **overrides: Any) -> Iterator[MemOS]:
        """The running system, or one started for this command alone (then `hint` says how to keep one)."""
        from memos_ray import MemOS

        working = self.err.status("connecting …") if self.err.is_terminal else None
        if working is not None:
            working.start()
        try:
            memory = MemOS(data=self.data, **overrides)
        finally:
            if working is not None:
                working.stop()
        with memory:
            if hint and memory.asynchronous.connect().started_ray:
                self.note(
                    "[dim]Started a system for this command alone; `memos-ray up` keeps one running.[/dim]"
                )
            yield memory

    def run(self, body: Callable[[], int | None]) -> int:
        """Runs a command's body; an error becomes one line on stderr and an exit code.

        With `--json`, whatever others print goes to stderr.
        """
        try:
            with redirect_stdout(sys.stderr) if self.as_json else nullcontext():
                return body() or 0
        except typer.Exit as stop:
            return stop.exit_code
        except KeyboardInterrupt:
            self.err.print("interrupted")
            return 130
        except MemosError as error:
            self._report(error, f"{type(error).__name__}: {error.message}", error.fields)
            return exit_code(error)
        except Exception as error:
            self._report(error, f"unexpected {type(error).__name__}: {error}", {})
            return 1

    def _report(self, error: Exception, line: str, fields: Mapping[str, Any]) -> None:
        if self.as_json:
            self.emit({"error": {"type": type(error).__name__, "message": str(error), **fields}})
        if self.debug:
            self.err.print(escape("".join(traceback.format_exception(error))))
            if (request_id := fields.get("request_id")) is not None:
                self.err.print(f"request_id={request_id}", soft_wrap=True)
        one_line = " ".join(line.split())
        self.err.print(f"[bold red]memos-ray:[/bold red] {escape(one_line)}", soft_wrap=True)


Body = TypeVar("Body", bound=Callable[..., "int | None"])


def command(
    app: typer.Typer, name: str | None = None, *, to_file: bool = False, **options: Any
) -> Callable[[Body], Body]:
    """Registers `body(session, …)` as a command that has the common options too.

    `to_file`: for benchmarks. `--json` names a file to write beside the table, and there is no `--data`.
    """

    def register(body: Body) -> Body:
        hints = get_type_hints(body, include_extras=True)
        parameters = list(inspect.signature(body).parameters.values())[1:]
        own = [p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        keyword = inspect.Parameter.KEYWORD_ONLY
        common = (
            [] if to_file else [inspect.Parameter("common_data", keyword, default=None, annotation=_Data)]
        )
        common += [
            inspect.Parameter(
                "common_json",
                keyword,
                default=None if to_file else False,
                annotation=_JsonFile if to_file else _Json,
            ),
            inspect.Parameter("common_debug", keyword, default=False, annotation=_Debug),
        ]

        def run(**given: Any) -> None:
            wanted = given.pop("common_json")
            session = Session(
                data=given.pop("common_data", None),
                as_json=wanted is True,
                json_file=wanted if to_file else None,
                debug=given.pop("common_debug"),
            )
            raise typer.Exit(session.run(lambda: body(session, **given)))

        run.__doc__ = body.__doc__
        run.__signature__ = inspect.Signature([*own, *common])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in (*own, *common)}
        app.command(name or body.__name__, **options)(run)
        return body

    return register
