"""Named ways to search: how much work goes into one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from memos_ray.errors import Invalid


@dataclass(frozen=True, slots=True)
class Recipe:
    """`candidates`: so many of each arm are ranked by all signals. `late`: token vectors are used. `second`: ranks once
    more by what the first ranking found; finds more of what lies deep, not of the first 10. `weights`: which fit of the
    ranker; without, the ranks of the arms are fused."""

    name: str
    candidates: int = 60
    late: bool = True
    second: bool = False
    weights: str | None = "dialogue"


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("plain", candidates=0, late=False, weights=None),
        Recipe("fast", candidates=40, late=False),
        Recipe("default"),
        Recipe("best", candidates=200, second=True),
    )
}
DEFAULT_RECIPE = RECIPES["default"]


def recipe_named(name: str | None, *, weights: str = "dialogue") -> Recipe:
    """`None` is the default; with these weights, if it has any. Raises `Invalid` for an unknown name."""
    found = (
        RECIPES.get("default" if name is None else name) if name is None or isinstance(name, str) else None
    )
    if found is None:
        raise Invalid(f"recipe must be one of {', '.join(RECIPES)}, not {name!r}", argument="recipe")
    return found if found.weights in (None, weights) else replace(found, weights=weights)
