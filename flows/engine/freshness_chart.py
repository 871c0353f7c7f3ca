"""A drawing of how fresh symbols are: a row a symbol, a column a timeframe, a number in each: its age in bars."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from feature_repo import catalog
from flows.runs.outcome import Outcome

_MAX_ROWS = 40
_CELL_W, _CELL_H, _NAMES_W, _TOP = 68, 22, 120, 54
_FRESH, _LATE, _STALE, _NONE = "#1a7f37", "#9a6700", "#cf222e", "#8c959f"
_LATE_BARS = 2  # from here on a view is stale


def draw(outcomes: Sequence[Outcome]) -> str:
    """An SVG of at most 40 symbols, the stalest and the stopped first."""
    cells = {(o.symbol, o.timeframe): o for o in outcomes}
    frames = [tf for tf in catalog.TIMEFRAMES if any(tf == found for _, found in cells)]
    worst = {name: max(_rank(o) for o in outcomes if o.symbol == name) for name, _ in cells}
    names = sorted(worst, key=lambda name: (-worst[name], name))
    rows = names[:_MAX_ROWS]
    width, height = _NAMES_W + _CELL_W * max(len(frames), 1) + 12, _TOP + _CELL_H * len(rows) + 26
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(8, 20, "Age online, in bars", "#1f2328", size=14),
    ]
    parts += [_text(_center(i), _TOP - 8, tf, "#57606a", anchor="middle") for i, tf in enumerate(frames)]
    for j, name in enumerate(rows):
        top = _TOP + _CELL_H * j
        parts.append(_text(8, top + 15, name, "#1f2328"))
        for i, tf in enumerate(frames):
            color, said = _cell(cells.get((name, tf)), stopped=bool((one := cells.get((name, ""))) and one.problem))
            left = _NAMES_W + _CELL_W * i
            parts.append(f'<rect x="{left}" y="{top}" width="{_CELL_W - 2}" height="{_CELL_H - 2}" fill="{color}"/>')
            parts.append(_text(_center(i), top + 15, said, "#ffffff", anchor="middle"))
    if len(names) > len(rows):
        rest = f"and {len(names) - len(rows)} fresher symbols"
        parts.append(_text(8, height - 8, rest, "#57606a"))
    return "".join([*parts, "</svg>"])


def _rank(one: Outcome) -> float:
    return float("inf") if one.problem else -1 if one.age_bars is None else one.age_bars


def _cell(one: Outcome | None, *, stopped: bool) -> tuple[str, str]:
    if stopped or (one and one.problem):
        return _STALE, "stopped"
    if one is None or one.age_bars is None:
        return _NONE, "-"
    return (_FRESH if one.age_bars == 0 else _LATE if one.age_bars < _LATE_BARS else _STALE), str(one.age_bars)


def _center(column: int) -> float:
    return _NAMES_W + _CELL_W * column + (_CELL_W - 2) / 2


def _text(x: float, y: float, text: str, color: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x}" y="{y}" fill="{color}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
