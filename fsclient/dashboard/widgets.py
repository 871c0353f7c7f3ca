"""The building blocks of pages: cards, tiles, tables, filters, and placeholders for what does not exist yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode

import orjson
from dash import dcc, html
from dash.development.base_component import Component

from fsclient.dashboard import formats
from fsclient.dashboard.sources import NO_LEDGER

Tone = Literal["", "good", "warn", "bad", "info"]
Query = dict[str, str]

GRAPH_CONFIG = {"displayModeBar": False, "responsive": True, "showTips": False}
POLL_MS = 5_000


def read_query(search: str | None) -> Query:
    """The filters in an address, such as ``?symbol=EUR%2FUSD``."""
    return dict(parse_qsl((search or "").lstrip("?"), keep_blank_values=True))


def write_query(**filters: object) -> str:
    """Filters as an encoded query string; those that are None are left out."""
    return urlencode({name: str(value) for name, value in filters.items() if value is not None})


def page(title: str, about: str, *children: Any) -> html.Div:
    """A page's content."""
    return html.Div([html.Div([html.H1(title), html.Span(about, className="about")], className="head"), *children])


def card(title: str, *children: Any, note: Any = "", width: str = "w6") -> html.Section:
    """A titled box; ``width`` is in twelfths of the page, ``w3`` to ``w12``."""
    head = html.Header([html.H2(title), html.Small(note)])
    return html.Section([head, *children], className=f"card {width}")


def graph(id_: str, figure: Any, height: int = 220, *, config: Mapping[str, Any] | None = None) -> dcc.Graph:
    """A chart."""
    style = {"height": f"{height}px"}
    settings: Any = {**GRAPH_CONFIG, **(config or {})}
    return dcc.Graph(id=id_, figure=figure, config=settings, style=style)


def tile(label: str, number: str, note: str = "", tone: Tone = "") -> html.Div:
    """One figure with its label."""
    return html.Div(
        [
            html.Div(label, className="label"),
            html.Div(number, className="number"),
            html.Div(note or "\u00a0", className="note"),
        ],
        className=f"tile {tone}".strip(),
    )


def tag(text: str, tone: Tone = "") -> html.Span:
    """A word on a coloured background."""
    return html.Span(text, className=f"tag {tone}".strip())


def empty(title: str, *remedy: Any) -> html.Div:
    """A placeholder for what does not exist yet, with what to do about it; ``code`` formats commands."""
    return html.Div([html.B(title), *remedy], className="empty")


def code(text: str) -> html.Code:
    """A command to type."""
    return html.Code(text)


_NO_LEDGER = empty(
    "This machine has no ledger",
    "Runs, gate results and alerts are kept where the pipelines run. Start the dashboard there with ",
    code("fstore dashboard"),
    ", or set ",
    code("FSTORE_LEDGER_URL"),
    " to the ledger's database.",
)


def unanswered(why: str) -> html.Div:
    """A placeholder where the ledger gave no answer."""
    return _NO_LEDGER if why == NO_LEDGER else empty("The ledger does not answer", why)


def ledger_note(why: str) -> str:
    """Why the ledger gave no answer, in a few words; empty when it did."""
    return "no ledger here" if why == NO_LEDGER else "the ledger does not answer" if why else ""


def table(
    columns: Mapping[str, str],
    rows: Sequence[Mapping[str, Any]],
    *,
    numbers: Sequence[str] = (),
    wrapped: Sequence[str] = (),
    height: int | None = None,
    look: str = "",
) -> html.Div:
    """A table.

    Args:
        columns: key of a row -> heading.
        numbers: columns aligned to the right.
        wrapped: columns whose text may wrap.
        height: pixels; a taller table scrolls.
        look: an additional class of the style sheet.
    """
    kinds = {**dict.fromkeys(numbers, "num"), **dict.fromkeys(wrapped, "wrap")}
    drawn = {
        "head": [[text, kinds.get(key, "")] for key, text in columns.items()],
        "rows": [[_plain(row.get(key, "")) for key in columns] for row in rows],
    }
    style = {"maxHeight": f"{height}px"} if height else {}
    data: Any = {"data-table": orjson.dumps(drawn).decode()}
    return html.Div(className=f"scroll {look}".strip(), style=style, tabIndex=0, **data)


def checkbox(value: str) -> html.Data:
    """A checkbox in a table; the browser reports which ones are ticked."""
    return html.Data(value=value, className="box")


def _plain(cell: Any) -> Any:
    """A cell as JSON: text, a list of cells, or an element with its tag, class, title, link, value and content.

    A table is a single component that the browser fills in: with one component per cell Dash takes seconds.
    """
    if isinstance(cell, list | tuple):
        return [_plain(part) for part in cell]
    if not isinstance(cell, Component):
        return "" if cell is None else str(cell)
    element = {"tag": cell._type.lower(), "content": _plain(getattr(cell, "children", None))}
    names = {"className": "class", "title": "title", "href": "href", "value": "value"}
    return element | {short: getattr(cell, name) for name, short in names.items() if hasattr(cell, name)}


def facts(pairs: Mapping[str, Any]) -> html.Dl:
    """A list of terms and descriptions."""
    parts = [part for term, text in pairs.items() for part in (html.Dt(term), html.Dd(text))]
    return html.Dl(parts, className="facts")


def filters(*children: Any) -> html.Div:
    """A row of filters."""
    return html.Div(list(children), className="filters")


def choice(
    id_: str,
    name: str,
    options: Sequence[Any],
    value: Any,
    *,
    all_: str | None = None,
    multi: bool = False,
    wide: bool = False,
) -> html.Div:
    """A drop-down list. ``all_`` labels the choice of nothing in particular, which ``value=None`` means."""
    return html.Div(
        [
            html.Label(name, className="name", htmlFor=id_),
            dcc.Dropdown(
                id=id_,
                options=list(options),
                value=value,
                placeholder=all_ or "Choose",
                clearable=all_ is not None or multi,
                multi=multi,
                searchable=len(options) > 8,
            ),
        ],
        className="wide" if wide else "",
    )


def segments(id_: str, name: str, options: Mapping[str, str], value: str) -> html.Div:
    """A few choices side by side; ``options`` maps values to texts."""
    selected = value if value in options else next(iter(options))
    return html.Div(
        [
            html.Label(name, className="name"),
            dcc.RadioItems(
                id=id_,
                options=[{"value": key, "label": text} for key, text in options.items()],
                value=selected,
                className="segments",
            ),
        ],
        className="full",
    )


def poll(id_: str, interval_ms: int = POLL_MS) -> dcc.Interval:
    """A timer that makes a page refresh."""
    return dcc.Interval(id=id_, interval=interval_ms)


def when(moment: datetime | None, now: datetime) -> html.Span:
    """How long ago, with the exact time on hover."""
    return html.Span(formats.ago(moment, now), title=formats.moment(moment, seconds=True) + " UTC" if moment else "")
