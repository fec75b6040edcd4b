"""Documents that every Python installation carries: docstrings of the standard library, and its language reference.

One Markdown document per top-level module (a section per function, class or method) and one per topic of the
reference. The first sentence of every section is taken out, and questions are made of it.
Which text there is depends on the version of Python; the choice among it on nothing else.
"""

from __future__ import annotations

import ast
import inspect
import re
import sysconfig
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

MODULE_SECTIONS = 70  # of one top-level module at most: a few large ones would be most of the corpus
LEAD_WORDS = (4, 32)
BODY_WORDS = 14
BODY_MOST = 34  # words of a section, up to the end of a line: the whole takes minutes to embed
TOPIC_WORDS = 2_500  # of a topic at most

_LEFT_OUT = frozenset(
    (
        *("test", "tests", "idlelib", "lib2to3", "site-packages", "turtledemo", "pydoc_data"),
        *("ensurepip", "__phello__", "encodings", "this", "antigravity"),
    )
)
_SENTENCE_END = re.compile(r"[.!?](?=[\s\"')]|$)")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|etc|vs|cf|resp|approx|Inc|No|St|[A-Z]))$")
_RULE = re.compile(r"^[*=\-~^]{3,}$")


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a document. `lead` was its first sentence and is not in it; `text[start:end]` is the rest."""

    document: str
    name: str
    lead: str
    body: str
    start: int
    end: int
    test: bool  # of the half of the documents that nothing may be tuned on


@dataclass(frozen=True, slots=True)
class Document:
    """One Markdown text and its sections, in order."""

    name: str
    text: str
    sections: tuple[Section, ...]


def standard_library(only: Collection[str] = ()) -> list[Document]:
    """Every document, in the order of their names, or those that `only` names (top-level modules, topics)."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    by_module: dict[str, list[tuple[str, str, str]]] = {}
    seen: set[str] = set()
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if _LEFT_OUT & set(parts) or any(p.startswith("_") and p != "__init__" for p in parts):
            continue
        if only and parts[0] not in only:
            continue
        module = ".".join(p for p in parts if p != "__init__")
        for name, lead, body in _docstrings(path, module):
            if body not in seen:  # inherited and copied docstrings
                seen.add(body)
                by_module.setdefault(parts[0], []).append((name, lead, body))
    documents = []
    for module, found in sorted(by_module.items()):
        chosen = sorted(found, key=lambda f: zlib.crc32(f[0].encode()))[:MODULE_SECTIONS]
        documents.append(_document(module, sorted(chosen)))
    return documents + [d for d in _topics(only) if d.sections]


def _document(name: str, parts: list[tuple[str, str, str]]) -> Document:
    text, sections = f"# {name}\n", []
    test = zlib.crc32(f"split {name}".encode()) % 2 == 0
    for heading, lead, body in parts:
        text += f"\n## {heading}\n\n"
        start = len(text)
        text += body + "\n"
        sections.append(Section(name, heading, lead, body, start, start + len(body), test))
    return Document(name, text, tuple(sections))


def _docstrings(path: Path, module: str) -> Iterator[tuple[str, str, str]]:
    """(qualified name, first sentence, the rest) of what is public and documented well enough."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return
    todo: list[tuple[str, ast.AST]] = [(module, tree)]
    while todo:
        name, node = todo.pop(0)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            lead, body = _led(inspect.cleandoc(ast.get_docstring(node) or ""))
            if lead:
                yield name, lead, body
        if isinstance(node, (ast.Module, ast.ClassDef)):
            todo += [
                (f"{name}.{child.name}", child)
                for child in node.body
                if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
                and not child.name.startswith("_")
            ]


def _topics(only: Collection[str]) -> Iterator[Document]:
    """The language reference as `help()` carries it, split at its underlined headings."""
    from pydoc_data import topics

    for name, text in sorted(topics.topics.items()):
        if only and name not in only:
            continue
        parts, heading, lines = [], name, list[str]()
        words = 0
        for line, following in zip(all_lines := text.split("\n"), [*all_lines[1:], ""], strict=True):
            if _RULE.match(following) and line.strip():
                parts.append((heading, "\n".join(lines)))
                heading, lines = line.strip().replace('"', ""), []
            elif not _RULE.match(line):
                lines.append(line)
                words += len(line.split())
            if words > TOPIC_WORDS:
                break
        parts.append((heading, "\n".join(lines)))
        led = [(heading, *_led(body.strip())) for heading, body in parts]
        yield _document(f"reference {name}", [part for part in led if part[1]])


def _led(text: str) -> tuple[str, str]:
    """(first sentence on one line, the rest), or two empty strings if either is unfit for a question."""
    if not text[:1].isalpha():
        return "", ""
    end = next(
        (m.end() for m in _SENTENCE_END.finditer(text) if not _ABBREVIATION.search(text[: m.start()])), 0
    )
    paragraph = text.find("\n\n")
    if paragraph >= 0 and (not end or end > paragraph):
        end = paragraph  # a first line without a full stop
    lead, body = " ".join(text[:end].split()), _beginning(text[end:].strip())
    fits = LEAD_WORDS[0] <= len(lead.split()) <= LEAD_WORDS[1] and len(body.split()) >= BODY_WORDS
    return (lead, body) if fits and body[:1].isprintable() and ">>>" not in lead else ("", "")


def _beginning(text: str) -> str:
    """The first lines, with `BODY_MOST` words at least if there are so many."""
    words, kept = 0, list[str]()
    for line in text.split("\n"):
        if words >= BODY_MOST:
            break
        kept.append(line)
        words += len(line.split())
    return "\n".join(kept).strip()
