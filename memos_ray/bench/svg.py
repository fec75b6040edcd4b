"""Line charts as SVG, without a plotting library: panels in a grid, readable on light and dark pages.

Colours are Okabe and Ito's (2008), which colour-blind readers tell apart (the blue is lighter, for dark pages); markers
and dashes differ too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_COLOURS = ("#2B83C6", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A8F98")
_DASHES = ("", "6 3", "2 3", "8 3 2 3", "4 2", "1 3", "10 4")
_WIDTH, _HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 24, 34, 46
_LEGEND = 20
_STYLE = """
svg{--ink:#1f2328;--soft:#59636e;--grid:#d1d9e0;--back:#ffffff}
@media (prefers-color-scheme:dark){svg{--ink:#f0f6fc;--soft:#9198a1;--grid:#3d444d;--back:#0d1117}}
.back{fill:var(--back)}.grid{stroke:var(--grid);stroke-width:1}.axis{stroke:var(--soft);stroke-width:1}
text{fill:var(--ink);font:12px system-ui,sans-serif}.tick{fill:var(--soft);font-size:11px}
.title{font-weight:600;font-size:13px}.line{fill:none;stroke-width:2}
""".strip()


@dataclass(frozen=True, slots=True)
class Line:
    """A named series of (x, y). The same name has the same look in every panel of a chart."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes; labels name the unit. `x` is logarithmic (values above 0) unless `log_x` is False, `y` if
    `log_y`, else it is linear from 0, up to `top` if given. `markers` mark every point."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    ticks: Sequence[float]
    log_y: bool = False
    top: float | None = None
    log_x: bool = True
    markers: bool = True


def chart(title: str, panels: Sequence[Panel], *, columns: int = 2) -> str:
    """An SVG document. `title` is for readers that hear it. Raises `ValueError` if there is nothing to draw."""
    names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    if not any(line.points for panel in panels for line in panel.lines):
        raise ValueError("a chart needs points")
    width, height = columns * _WIDTH, math.ceil(len(panels) / columns) * _HEIGHT + _LEGEND
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect class="back" width="{width}" height="{height}"/>',
        *_legend(names),
    ]
    for n, panel in enumerate(panels):
        at = f"translate({n % columns * _WIDTH},{n // columns * _HEIGHT + _LEGEND})"
        parts += [f'<g transform="{at}">', *_panel(panel, names), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(names: Sequence[str]) -> list[str]:
    parts, x = [], _LEFT
    for n, name in enumerate(names):
        parts.append(f'<path class="line" {_look(n)} d="M{x},16h26"/>{_marker(n, x + 13, 16)}')
        parts.append(f'<text x="{x + 32}" y="20">{escape(name)}</text>')
        x += 46 + round(6.6 * len(name))
    return parts


def _panel(panel: Panel, names: Sequence[str]) -> list[str]:
    xs = [x for line in panel.lines for x, _ in line.points]
    ys = [y for line in panel.lines for _, y in line.points]
    across = _Scale(min(xs), max(xs), _LEFT, _WIDTH - _RIGHT, log=panel.log_x)
    floor, top = (min(ys), max(ys)) if panel.log_y else (0.0, panel.top or max(ys))
    y_ticks = _decades(floor, top) if panel.log_y else _steps(top)
    floor, top = min(floor, y_ticks[0]), max(top, y_ticks[-1])
    up = _Scale(floor, top, _HEIGHT - _BOTTOM, _TOP, log=panel.log_y)
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = [f'<text class="title" x="{_LEFT}" y="{_TOP - 12}">{escape(panel.title)}</text>']
    for y in y_ticks:
        parts.append(f'<path class="grid" d="M{_LEFT},{up(y):.1f}H{right}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 6}" y="{up(y) + 4:.1f}" text-anchor="end">{y:,.10g}</text>'
        )
    for x in panel.ticks:
        parts.append(f'<path class="axis" d="M{across(x):.1f},{bottom}v4"/>')
        parts.append(
            f'<text class="tick" x="{across(x):.1f}" y="{bottom + 17}" text-anchor="middle">{x:,.10g}</text>'
        )
    parts.append(f'<path class="axis" fill="none" d="M{_LEFT},{_TOP}V{bottom}H{right}"/>')
    middle = (_TOP + bottom) / 2
    parts.append(
        f'<text x="{(_LEFT + right) / 2}" y="{bottom + 36}" text-anchor="middle">{escape(panel.x)}</text>'
    )
    parts.append(
        f'<text transform="translate(14,{middle}) rotate(-90)" text-anchor="middle">{escape(panel.y)}</text>'
    )
    for line in panel.lines:
        n = names.index(line.name)
        places = [(across(x), up(y)) for x, y in line.points]
        path = "L".join(f"{x:.1f},{y:.1f}" for x, y in places)
        marks = "".join(_marker(n, x, y) for x, y in places) if panel.markers else ""
        parts.append(f'<path class="line" {_look(n)} d="M{path}"/>{marks}')
    return parts


def _look(n: int) -> str:
    dash = _DASHES[n % len(_DASHES)]
    return f'stroke="{_COLOURS[n % len(_COLOURS)]}"' + (f' stroke-dasharray="{dash}"' if dash else "")


def _marker(n: int, x: float, y: float) -> str:
    """Circle, square, triangle or diamond."""
    fill = f'fill="{_COLOURS[n % len(_COLOURS)]}"'
    shapes = ("M-3.5,-3.5h7v7h-7z", "M0,-4.5L4.2,3.2H-4.2z", "M0,-4.6L4.6,0L0,4.6L-4.6,0z")
    if n % 4 == 0:
        return f'<circle {fill} cx="{x:.1f}" cy="{y:.1f}" r="3.4"/>'
    return f'<path {fill} transform="translate({x:.1f},{y:.1f})" d="{shapes[n % 4 - 1]}"/>'


class _Scale:
    """A value -> its place between two pixels."""

    def __init__(self, low: float, high: float, start: float, end: float, *, log: bool) -> None:
        self._of = math.log if log else float
        self._low = self._of(low)
        self._span = (self._of(high) - self._low) or 1.0
        self._start, self._length = start, end - start

    def __call__(self, value: float) -> float:
        return self._start + (self._of(value) - self._low) / self._span * self._length


def _steps(top: float) -> list[float]:
    """0 to about `top` in four to ten round steps."""
    raw = max(top, 1e-9) / 5
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= raw * 0.999)
    return [step * n for n in range(math.ceil(top / step - 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten around `low` and `high`."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high) - 1e-9)
    return [10.0**n for n in range(first, max(last, first + 1) + 1)]
