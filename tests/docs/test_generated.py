"""The tables in docs/ that are made of the catalog and the rules are up to date.

They stand between `<!-- generated: NAME -->` and `<!-- end -->`. `UPDATE_DOCS=1 pytest tests/docs/test_generated.py`
rewrites them.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from feature_repo.catalog import INDICATORS, SESSIONS, SYMBOLS, TIMEFRAMES, Indicator, symbol, timeframe
from feature_repo.kinds import KINDS
from flows.quality import bar_rules

DOCS = Path(__file__).resolve().parents[2] / "docs"

_GENERATED = re.compile(r"(<!-- generated: (?P<name>\w+) -->\n\n)(?P<text>.*?)(\n<!-- end -->)", re.DOTALL)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    cells = [list(head)]
    cells += [["---"] * len(cells[0]), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def indicators() -> str:
    """Every indicator: its fields, parameters and numbers."""

    def row(spec: Indicator) -> Iterator[str]:
        yield f"`{spec.name}`"
        yield _code(spec.outputs) if spec.outputs != (spec.name,) else "the same"
        yield f"`{spec.kind.name}`" + "".join(f", {name} {value:g}" for name, value in spec.parameters.items())
        yield str(spec.lookback)
        yield "all history" if spec.warm_up is None else str(spec.warm_up)
        low, high = (f"{bound:.4g}" if bound is not None else "" for bound in (spec.low, spec.high))
        yield f"{low} to {high}" if low and high else f"from {low}" if low else "-"

    return _table(
        ("Indicator", "Fields", "Kind and parameters", "Lookback", "Warm-up", "Bounds"), map(row, INDICATORS.values())
    )


def kinds() -> str:
    """Every kind: the bar columns it takes and its formula, which is its kernel's docstring."""
    rows = (
        (f"`{kind.name}`", _code(kind.inputs), " ".join((inspect.getdoc(kind.kernel) or "").split()).replace("``", "`"))
        for kind in KINDS.values()
    )
    return _table(("Kind", "Takes", "Formula and convention"), rows)


def symbols() -> str:
    """Every symbol, by session."""
    hours = {"fx": "Sunday 17:00 to Friday 17:00 New York", "24x7": "always"}
    rows = []
    for session in SESSIONS.values():
        names = [s.name for s in SYMBOLS.values() if s.session is session]
        open_in = hours.get(session.kind, f"as the calendar {session.calendar} says")
        if session.rest is not None:
            open_in += ", but for a rest from {} to {} each day".format(*session.rest)
        day = f"{session.day_start} {session.clock}"
        rows.append((f"`{session.name}`", open_in, day, ", ".join(names)))
    return _table(("Session", "Open", "A day starts at", "Symbols"), rows)


def timeframes() -> str:
    """Every timeframe, and where its bars are cut."""
    cut = {False: "from the UTC hour", True: "from the session's day start"}
    rows = ((f"`{tf.name}`", f"{tf.seconds:,}", cut[tf.from_day_start]) for tf in TIMEFRAMES.values())
    return _table(("Timeframe", "Seconds", "Bars are cut"), rows)


def rules() -> str:
    """The rules of EUR/USD's hourly bars."""
    match = bar_rules(symbol("EUR/USD"), timeframe("1h"))
    return _table(("Rule", "Demands"), ((f"`{rule.name}`", rule.description) for rule in match))


TABLES: Mapping[str, Callable[[], str]] = {
    make.__name__: make for make in (indicators, kinds, symbols, timeframes, rules)
}
PLACES = [
    (page, match["name"]) for page in sorted(DOCS.glob("*.md")) for match in _GENERATED.finditer(page.read_text())
]


def test_every_table_has_a_place() -> None:
    assert sorted(name for _, name in PLACES) == sorted(TABLES)


@pytest.mark.parametrize(("page", "name"), PLACES, ids=[name for _, name in PLACES])
def test_a_generated_table_is_up_to_date(page: Path, name: str) -> None:
    text = page.read_text()
    fresh = _GENERATED.sub(lambda f: f[1] + TABLES[name]() + f[4] if f["name"] == name else f[0], text)
    if os.environ.get("UPDATE_DOCS"):
        page.write_text(fresh)
        return
    assert text == fresh, f"{page.name}: run UPDATE_DOCS=1 pytest tests/docs/test_generated.py"
