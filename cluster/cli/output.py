"""Memories as tables for people. Takes the client's plain dicts; prints nothing by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_TEXT_LIMIT = 300


def when(value: str | datetime | None, *, minutes: bool = False) -> str:
    """ISO time -> "2024-03-04" or "2024-03-04 19:30" (UTC), "" for None."""
    if value is None:
        return ""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.strftime("%Y-%m-%d %H:%M" if minutes else "%Y-%m-%d")


def where(memory: Mapping[str, Any]) -> str:
    """Where a memory came from, in a few words: "maya-and-jon 7:11", "handbook.md › The mixer"."""
    sources: Sequence[Mapping[str, Any]] = memory.get("sources") or ()
    if not sources:
        return ""
    first = sources[0]
    if first.get("document"):
        name = " › ".join(str(first[k]) for k in ("document", "heading") if first.get(k))
    else:
        place = first.get("turn") or first.get("session")
        name = " ".join(str(x) for x in (first.get("conversation"), place) if x)
    return name + (f" (+{len(sources) - 1})" if len(sources) > 1 else "")


def speaker(memory: Mapping[str, Any]) -> str:
    """Who said it, if anyone did."""
    sources: Sequence[Mapping[str, Any]] = memory.get("sources") or ()
    return str(sources[0].get("speaker") or sources[0].get("role") or "") if sources else ""


def shortened(text: str, limit: int = _TEXT_LIMIT) -> str:
    """The text on one line, cut to `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def new_table(title: str | None = None, **options: Any) -> Table:
    """The one look of all tables."""
    return Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, **options
    )


def hits_table(
    hits: Sequence[Mapping[str, Any]],
    *,
    title: str | None = None,
    marked: Sequence[int] = (),
    ids: bool = True,
    explain: bool = False,
    times: bool = False,
) -> Table:
    """Search results, best first. `marked`: positions to tick; `times`: what dates in the text mean."""
    table = new_table(title)
    table.add_column("", justify="right", style="dim", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("date", no_wrap=True, style="cyan")
    table.add_column("who", no_wrap=True, style="magenta")
    table.add_column("memory", ratio=1)
    table.add_column("source", style="dim")
    if explain:
        table.add_column("why", style="dim")
    if ids:
        table.add_column("id", style="dim", no_wrap=True)
    for position, hit in enumerate(hits):
        tick = "[bold green]✓[/bold green] " if position in marked else ""
        row: list[str | Text] = [
            f"{tick}{position + 1}",
            f"{hit['score']:.3f}",
            when(_dated(hit)),
            Text(speaker(hit)),
            _told(hit, bold=position in marked, times=times),
            Text(where(hit)),
        ]
        if explain:
            row.append(Text(why(hit.get("explanation") or {})))
        if ids:
            row.append(Text(hit["id"]))
        table.add_row(*row)
    return table


def _dated(hit: Mapping[str, Any]) -> str | None:
    """When it was said; what was not said has a time from which on it is true."""
    sources: Sequence[Mapping[str, Any]] = hit.get("sources") or ({},)
    said_at: str | None = sources[0].get("said_at")
    return said_at or hit.get("valid_from")


def _told(hit: Mapping[str, Any], *, bold: bool, times: bool) -> Text:
    text = Text(shortened(hit["memory"]), style="bold" if bold else "")
    for mention in (hit.get("times") or ()) if times else ():
        text.append(
            f"  [{mention['text']} = {_span(mention['start'], mention['end'])}]", style="not bold cyan"
        )
    return text


def _span(start: str, end: str) -> str:
    """[start, end) as "2024-03-01", or "2024-03-01 … 2024-03-07" with both days included."""
    first = datetime.fromisoformat(start)
    last = max(first, datetime.fromisoformat(end) - timedelta(microseconds=1))
    return when(first) if first.date() == last.date() else f"{when(first)} … {when(last)}"


def why(explanation: Mapping[str, Any]) -> str:
    """An explanation in a few words: the rank in every arm that found it, and what matched."""
    arms = explanation.get("arms") or {}
    parts = [f"{name} #{arm['rank']}" for name, arm in sorted(arms.items(), key=lambda x: int(x[1]["rank"]))]
    if said := explanation.get("rerank"):
        parts.append(f"reranked #{said['before']} → #{said['rank']} ({said['score']:.2f})")
    if explanation.get("neighbour_of"):
        parts.append("neighbour")
    matched = [*(explanation.get("matched_terms") or ()), *(explanation.get("matched_entities") or ())]
    if matched:
        parts.append("“" + " ".join(matched) + "”")
    return ", ".join(parts)


def signals_table(hits: Sequence[Mapping[str, Any]], most: int = 12) -> Table:
    """What the ranker's signals said of the first five hits: value, rank and contribution, the weightiest first."""
    shown = [
        (i, hit["explanation"]["signals"]) for i, hit in enumerate(hits[:5], 1) if hit.get("explanation")
    ]
    weight: dict[str, float] = {}
    for _, signals in shown:
        for name, said in signals.items():
            weight[name] = max(weight.get(name, 0.0), abs(said["contribution"]))
    names = sorted(weight, key=lambda name: -weight[name])[:most]
    table = new_table("signals: value (rank) and what it adds to the score")
    table.add_column("signal", no_wrap=True)
    for i, _ in shown:
        table.add_column(f"hit {i}", justify="right", no_wrap=True)
    for name in names:
        cells = []
        for _, signals in shown:
            said = signals.get(name)
            value = "" if said is None else f"{said['value']:.2f} (#{said['rank']})"
            cells.append("" if said is None else f"{value} {said['contribution']:+.2f}")
        table.add_row(name, *cells)
    return table


def understood(query: Mapping[str, Any]) -> Text:
    """A line that says how the query was read."""
    parts = [f"asks {query['kind']}" + (", for a list" if query["listing"] else "")]
    parts += [
        f"{name} {', '.join(query[key])}"
        for name, key in (("words", "terms"), ("times", "times"))
        if query[key]
    ]
    parts += [f"said by {', '.join(query['speakers'])}"] if query["speakers"] else []
    parts.append(f"embedded as “{query['embedded']}”")
    return Text("; ".join(parts), style="dim")


def memory_table(memory: Mapping[str, Any]) -> Table:
    """One memory with all that is known of it, a field a line."""
    table = new_table(show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in memory.items():
        if value is None or value == [] or value == {} or value == ():
            continue
        if name == "sources":
            shown = "\n".join(", ".join(f"{k}={v}" for k, v in source.items()) for source in value)
        elif name == "links":
            shown = "\n".join(f"{link['type']} → {link['target']}" for link in value)
        elif name == "times":
            shown = "\n".join(f"“{t['text']}”: {when(t['start'])} … {when(t['end'])}" for t in value)
        elif isinstance(value, (list, tuple)):
            shown = ", ".join(str(x) for x in value)
        else:
            shown = str(value)
        table.add_row(name, Text(shown))
    return table


def history_table(steps: Sequence[Mapping[str, Any]]) -> Table:
    """The life of a memory, oldest step first."""
    table = new_table()
    for name in ("version", "operation", "recorded", "valid from", "valid to", "status"):
        table.add_column(name, no_wrap=True)
    table.add_column("text", ratio=1)
    for step in steps:
        item = step["item"]
        table.add_row(
            str(item["version"]),
            step["op"],
            when(item["recorded_at"], minutes=True),
            when(item["valid_from"]),
            when(item.get("valid_to")),
            item["status"],
            Text(shortened(item["memory"])),
        )
    return table


def progress_bar(console: Console, *, transient: bool = False) -> Progress:
    """A bar with a count and a clock. Without a terminal it prints its last state once."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, transient=transient)


def size(n_bytes: float) -> str:
    """Bytes for people: "1.5 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"
