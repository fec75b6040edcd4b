"""`memos-ray demo`: a year of conversation, questions with evidence, and a SIGKILL in the middle.

It checks its own claims: the evidence that a question names must be among the hits shown, nothing that became
true after an `as_of` may be, and after the kill the answer must be the same. Otherwise it exits with 1.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.panel import Panel
from rich.text import Text

from cluster.cli.examples import example_path, load_example
from cluster.cli.output import hits_table, progress_bar, when
from cluster.cli.reading import read_file
from cluster.cli.session import Session, command

if TYPE_CHECKING:
    from memos_ray.sync import MemOS

TOP_K = 5
ENGLISH = ("maya_and_jon.json", "demo:maya-and-jon", 5)  # file, cube, how many of its questions to ask
CHINESE = ("lin_zh.json", "demo:lin-zh", 5)
_KINDS = {"fact": "a fact", "time": "a time", "two": "two memories together", "as_of": "a point in time"}


def register(app: typer.Typer) -> None:
    """Adds this group's commands to the application."""
    command(app, rich_help_panel="Start here")(demo)


def demo(
    session: Session,
    keep: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Keep the data in this folder (default: a temporary one)."),
    ] = None,
) -> int:
    """See it work: ingest a conversation, ask, kill the process, ask again."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="memos-ray-demo-", ignore_cleanup_errors=True) as scratch:
        root = str(keep.resolve()) if keep is not None else session.data or scratch
        session.data = root
        show = Show(session)
        show.heading(
            "1. A system on this machine",
            "a Ray cluster with a directory, one shared embedder, and cube actors",
        )
        begun = time.perf_counter()
        with session.memos(address="local", hint=False) as memory:
            show.line(f"up in {time.perf_counter() - begun:.1f} s, data in {root}")
            _tell(memory, show)
    show.ending(time.perf_counter() - started, kept=root if root != scratch else None)
    return 1 if show.missed else 0


def _tell(memory: MemOS, show: Show) -> None:
    show.heading(
        "2. A year of conversation", "every message is durable in the cube's journal when `add` returns"
    )
    _ingest(memory, show, ENGLISH)
    questions = load_example(ENGLISH[0])["questions"][: ENGLISH[2]]
    show.heading("3. Questions", "no LLM: the evidence is found by meaning, words, people and time")
    for question in questions:
        _ask(memory, show, ENGLISH[1], question)
    show.heading("4. 中文也一样", "the same in Chinese")
    _ingest(memory, show, CHINESE)
    for question in load_example(CHINESE[0])["questions"][: CHINESE[2]]:
        _ask(memory, show, CHINESE[1], question)
    show.heading("5. SIGKILL", "the process that holds the cube dies, without a chance to save anything")
    _kill(memory, show, ENGLISH[1], questions[0])


def _ingest(memory: MemOS, show: Show, example: tuple[str, str, int]) -> None:
    name, cube_id, _ = example
    requests = read_file(example_path(name))
    turns, begun = sum(r.units for r in requests), time.perf_counter()
    with progress_bar(show.session.err) as bar:
        task = bar.add_task(cube_id, total=turns)
        for request in requests:
            memory.add(**request.arguments, cube_id=cube_id, op_id=request.op_id({"cube_id": cube_id}))
            bar.advance(task, request.units)
    added = time.perf_counter() - begun
    memory.search("warm up", cube_id=cube_id, top_k=1)  # waits for the embeddings of all that was added
    whole = time.perf_counter() - begun
    stats = memory.stats(cube_id)
    show.line(
        f"{turns} turns of {len(requests)} sessions acknowledged in {added:.1f} s, "
        f"searchable after {whole:.1f} s: {stats['memories']} memories in process {stats['pid']}"
    )
    show.check(stats["memories"] >= turns, f"{cube_id} holds {stats['memories']} memories for {turns} turns")


def _ask(memory: MemOS, show: Show, cube_id: str, question: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    as_of, wanted = question.get("as_of"), list(question["evidence"])
    begun = time.perf_counter()
    hits = memory.search(question["question"], cube_id=cube_id, top_k=TOP_K, as_of=as_of)["results"]
    took_ms = (time.perf_counter() - begun) * 1000
    evidence = [i for i, hit in enumerate(hits) if turns_of(hit) & set(wanted)]
    moment = f", as of {when(as_of)}" if as_of else ""
    show.question(
        f"{question['question']}", f"{_KINDS[question['kind']]}{moment} · {took_ms:.0f} ms", hits, evidence
    )
    found = set().union(*(turns_of(hit) for hit in hits)) if hits else set()
    missing = [turn for turn in wanted if turn not in found]
    show.check(
        not missing, f"{question['question']!r}: evidence {', '.join(missing)} is not in the top {TOP_K}"
    )
    late = [hit for hit in hits if as_of and when(hit["valid_from"]) > when(as_of)]
    show.check(not late, f"{question['question']!r}: {len(late)} hits were not yet true at {as_of}")
    return list(hits)


def _kill(memory: MemOS, show: Show, cube_id: str, question: Mapping[str, Any]) -> None:
    text = question["question"]
    before = memory.search(text, cube_id=cube_id, top_k=TOP_K)["results"]
    pid = int(memory.stats(cube_id)["pid"])
    show.line(f"[bold red]kill -9 {pid}[/bold red]   and at once, the first question again:")
    os.kill(pid, signal.SIGKILL)
    begun = time.perf_counter()
    after = memory.search(text, cube_id=cube_id, top_k=TOP_K)["results"]
    took = time.perf_counter() - begun
    stats = memory.stats(cube_id)
    wanted = set(question["evidence"])
    show.question(text, f"{took:.2f} s", after, [i for i, hit in enumerate(after) if turns_of(hit) & wanted])
    same = [hit["id"] for hit in before] == [hit["id"] for hit in after]
    show.check(same, "the answer after the kill differs from the one before")
    show.check(int(stats["pid"]) != pid, f"process {pid} still holds the cube")
    answer = "The same answer" if same else "Another answer"
    show.line(
        f"{answer} from process {stats['pid']} (epoch {stats['epoch']}), "
        f"{took:.2f} s after the kill: found dead, a new owner attached, the journal folded, searched."
    )


def turns_of(hit: Mapping[str, Any]) -> set[str]:
    """The turns that a hit says it comes from."""
    return {str(source["turn"]) for source in hit.get("sources") or () if source.get("turn")}


class Show:
    """Prints the story and keeps what did not hold."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.missed: list[str] = []

    def heading(self, title: str, remark: str) -> None:
        """A chapter."""
        self.session.out.print()
        self.session.out.rule(f"[bold]{title}[/bold]", align="left")
        self.session.out.print(f"[dim]{remark}[/dim]\n")

    def line(self, text: str) -> None:
        """One remark; may hold rich markup."""
        self.session.out.print(text)

    def question(
        self, text: str, remark: str, hits: Sequence[Mapping[str, Any]], evidence: Sequence[int]
    ) -> None:
        """A question and what was found; `evidence` are the positions that hold the answer."""
        title = Text.assemble(("? ", "bold yellow"), (text, "bold"), (f"   {remark}", "dim"))
        self.session.out.print(title)
        self.session.out.print(hits_table(hits, marked=evidence, ids=False, times=True))

    def check(self, holds: bool, otherwise: str) -> None:
        """A claim; if it does not hold, the demo fails with `otherwise`."""
        if not holds:
            self.missed.append(otherwise)
            self.session.out.print(Text.assemble(("✗ ", "bold red"), otherwise))

    def ending(self, seconds: float, *, kept: str | None) -> None:
        """The verdict, and what to try next."""
        handbook = example_path("kitchen_handbook.md")
        conversation = example_path(ENGLISH[0])
        steps = [
            "memos-ray up                        [dim]# keeps a system running on this machine[/dim]",
            f"memos-ray ingest {conversation} {handbook}",
            'memos-ray search "how much dough may go into the mixer?" --explain',
            'memos-ray search "What is the name of Jon\'s bakery?" --as-of 2024-06-10',
            'memos-ray add "We moved the meeting to next Tuesday" --speaker me',
            "memos-ray down",
            "",
            "[dim]in Python:[/dim]  from memos_ray import MemOS",
            "            with MemOS() as m:",
            '                m.add("I like tea", user_id="ana"); m.search("what to drink?", user_id="ana")',
        ]
        if kept:
            steps.insert(0, f"[dim]the data is in {kept}[/dim]")
        self.session.out.print()
        self.session.out.print(
            Panel("\n".join(steps), title="What to try next", title_align="left", padding=(1, 2))
        )
        if self.missed:
            self.session.out.print(
                f"[bold red]{len(self.missed)} claim(s) did not hold[/bold red] in {seconds:.0f} s"
            )
        else:
            self.session.out.print(
                f"[bold green]All claims checked and held[/bold green] in {seconds:.0f} s."
            )
