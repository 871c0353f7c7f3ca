"""Where one bar's values come from: what ``fstore explain`` prints, for the point that was clicked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from dash import html

from fsclient.dashboard import formats, widgets
from fsclient.dashboard.explanation import Explanation
from fsclient.dashboard.sources import NO_LEDGER, Sources

HINT = widgets.empty("No point chosen", "Click a candle to see where its values come from.")


def explained(sources: Sources, symbol: str, timeframe: str, fields: Sequence[str], open_time: datetime) -> Any:
    """Each field's value at the bar that opened at ``open_time``."""
    explanations, why = sources.ask(
        lambda o: [o.explain(symbol, timeframe, field, open_time) for field in dict.fromkeys(fields)], []
    )
    if why:
        return _NO_LEDGER if why == NO_LEDGER else widgets.empty("This point can't be explained", why)
    bar = explanations[0]
    market = "open" if bar.expected else "closed"
    facts: dict[str, Any] = {
        "bar": f"{formats.moment(bar.open_time)} to {formats.moment(bar.event_timestamp)} UTC",
        "trading day": f"{bar.trading_day}, session {bar.session}, market {market}",
    }
    if bar.doubt:
        facts["in doubt"] = bar.doubt
    if bar.quarantined:
        facts["rejected"] = html.Div(
            [
                html.Div([widgets.tag(row.rule, "warn"), f" {row.detail}, {formats.moment(row.created)}"])
                for row in bar.quarantined
            ]
        )
    return [widgets.facts(facts), *(_value(value) for value in explanations)]


_NO_LEDGER = widgets.empty(
    "This machine has no ledger",
    "Values are explained where the pipelines run: on this page there, or with ",
    widgets.code("fstore explain SYMBOL FEATURE --timeframe … --at …"),
    ".",
)


def _value(value: Explanation) -> html.Div:
    pairs: dict[str, Any] = {"stored": [formats.value(value.stored), " ", _agreement(value)]}
    if value.kind != "ingested":
        pairs["recomputed"] = formats.value(value.recomputed)
    pairs["online"] = _online(value)
    pairs["made by"] = _made_by(value)
    if value.from_bars:
        pairs["computed from"] = _made_of(value)
    if value.kind == "indicator":
        pairs["warm-up"] = _warm_up(value)
    pairs["revisions"] = html.Div(
        [html.Div(f"{formats.moment(r.created, seconds=True)}  {formats.value(r.value)}") for r in value.revisions]
        or formats.ABSENT
    )
    if value.written_by:
        pairs["written by"] = value.written_by
    parts: list[Any] = [html.H3(value.feature), widgets.facts(pairs)]
    if value.from_shown:
        names = list(value.from_shown[0])
        rows = [
            {n: formats.moment(row[n]) if n == "open_time" else formats.value(row[n]) for n in names}
            for row in value.from_shown
        ]
        columns = {n: "open time (UTC)" if n == "open_time" else n for n in names}
        bars = widgets.table(columns, rows, numbers=names[1:], look="inner")
        parts.append(html.Details([html.Summary("the last bars it was computed from"), bars]))
    return html.Div(parts, className="explained")


def _agreement(value: Explanation) -> Any:
    if not value.revisions:
        return widgets.tag("not stored", "warn")
    if value.kind == "ingested" and not value.in_window:
        return ""  # nothing to compare it with
    return widgets.tag("all agree", "good") if value.agree else widgets.tag("differ", "bad")


def _online(value: Explanation) -> str:
    if value.online_as_of is None:
        return "nothing is online"
    as_of = f"newest close online {formats.moment(value.online_as_of)}"
    return f"{formats.value(value.online)} ({as_of})" if value.in_window else f"this bar is no longer online ({as_of})"


def _made_by(value: Explanation) -> str:
    if value.kind == "indicator":
        parameters = ", ".join(f"{name}={number:g}" for name, number in value.parameters.items()) or "no parameters"
        return f"{value.indicator} ({parameters}) of {', '.join(value.inputs)}"
    return "ingested as is" if value.kind == "ingested" else f"derived from {value.from_timeframe or 'shorter'} bars"


def _made_of(value: Explanation) -> str:
    of = "" if value.expected_bars is None else f" of {value.expected_bars:,} in open hours"
    span = f"{formats.moment(value.from_first)} to {formats.moment(value.from_last)}"
    return f"{formats.plural(value.from_bars, 'bar')}{of}, {span}"


def _warm_up(value: Explanation) -> str:
    need = "all history" if value.warm_up is None else formats.plural(value.warm_up, "bar")
    enough = value.preceding >= (value.lookback if value.warm_up is None else value.warm_up)
    return f"needs {need}, has {value.preceding:,}" + ("" if enough else ": not converged yet")
