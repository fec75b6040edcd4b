"""Templates: `[a|b]` is a choice, `{slot}` is filled in. Knows no subject."""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")


@cache
def read(name: str) -> dict[str, Any]:
    """A word list of this package, `name` without its ending."""
    return tomllib.loads(resources.files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))


def expand(rng: random.Random, template: str, slots: Mapping[str, str]) -> str:
    """One sentence of the template. Fillings may be templates too; an unknown slot is a `KeyError`."""
    text = template
    while True:
        chosen = _CHOICE.sub(lambda m: rng.choice(m.group(1).split("|")), text)
        filled = _SLOT.sub(lambda m: slots[m.group(1)], chosen)
        if filled == text:
            return text
        text = filled


def one(rng: random.Random, templates: Sequence[str], slots: Mapping[str, str]) -> str:
    """A sentence of one of the templates."""
    return expand(rng, rng.choice(templates), slots)


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    text = text.strip()
    text = text[:1].upper() + text[1:]
    return text if text[-1:] in '.!?…"' else text + "."
