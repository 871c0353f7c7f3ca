"""Where one bar's values come from: what ``fstore explain`` tells, for the point that was clicked."""

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
    found, why = sources.ask(
        lambda o: [o.explain(symbol, timeframe, field, open_time) for field in dict.fromkeys(fields)]
    )
    if why:
        return _NO_MACHINERY if why == NO_LEDGER else widgets.empty("This point can't be explained", why)
    bar = found[0]
    market = "open" if bar.expected else "closed"
    known: dict[str, Any] = {
        "bar": f"{formats.moment(bar.open_time)} to {formats.moment(bar.event_timestamp)} UTC",
        "trading day": f"{bar.trading_day}, session {bar.session}, market {market}",
    }
    if bar.doubt:
        known["in doubt"] = bar.doubt
    if bar.quarantined:
        known["rejected"] = html.Div([
            html.Div([widgets.tag(one.rule, "warn"), f" {one.detail}, {formats.moment(one.created)}"])
            for one in bar.quarantined
        ])  # fmt: skip
    return [widgets.facts(known), *(_one_value(one) for one in found)]


_NO_MACHINERY = widgets.empty(
    "Explained where the pipelines run",
    "This machine has no ledger. There, ",
    widgets.code("fstore explain SYMBOL FEATURE --timeframe … --at …"),
    " and this page tell where a value comes from.",
)


def _one_value(one: Explanation) -> html.Div:
    pairs: dict[str, Any] = {"stored": [formats.value(one.stored), " ", _agreement(one)]}
    if one.kind != "ingested":
        pairs["recomputed"] = formats.value(one.recomputed)
    pairs["online"] = _online(one)
    pairs["made by"] = _made_by(one)
    if one.from_bars:
        pairs["made of"] = _made_of(one)
    if one.kind == "indicator":
        pairs["warm-up"] = _warm_up(one)
    pairs["revisions"] = html.Div(
        [html.Div(f"{formats.moment(r.created, seconds=True)}  {formats.value(r.value)}") for r in one.revisions]
        or formats.ABSENT
    )
    if one.written_by:
        pairs["written by"] = one.written_by
    parts: list[Any] = [html.H3(one.feature), widgets.facts(pairs)]
    if one.from_shown:
        names = list(one.from_shown[0])
        rows = [
            {n: formats.moment(row[n]) if n == "open_time" else formats.value(row[n]) for n in names}
            for row in one.from_shown
        ]
        columns = {n: "open time (UTC)" if n == "open_time" else n for n in names}
        bars = widgets.table(columns, rows, numbers=names[1:], look="inner")
        parts.append(html.Details([html.Summary("the last bars it is made of"), bars]))
    return html.Div(parts, className="explained")


def _agreement(one: Explanation) -> Any:
    if not one.revisions:
        return widgets.tag("not stored", "warn")
    if one.kind == "ingested" and not one.in_window:
        return ""  # there is nothing to compare it with
    return widgets.tag("all agree", "good") if one.agree else widgets.tag("differ", "bad")


def _online(one: Explanation) -> str:
    if one.online_as_of is None:
        return "nothing is online"
    as_of = f"newest close online {formats.moment(one.online_as_of)}"
    return f"{formats.value(one.online)} ({as_of})" if one.in_window else f"this bar is not online any more ({as_of})"


def _made_by(one: Explanation) -> str:
    if one.kind == "indicator":
        parameters = ", ".join(f"{name}={number:g}" for name, number in one.parameters.items()) or "no parameters"
        return f"{one.indicator} ({parameters}) of {', '.join(one.inputs)}"
    return "ingested as it is" if one.kind == "ingested" else f"{one.from_timeframe or 'shorter'} bars put together"


def _made_of(one: Explanation) -> str:
    of = "" if one.expected_bars is None else f" of {one.expected_bars:,} that an open market makes"
    span = f"{formats.moment(one.from_first)} to {formats.moment(one.from_last)}"
    return f"{formats.plural(one.from_bars, 'bar')}{of}, {span}"


def _warm_up(one: Explanation) -> str:
    need = "all history" if one.warm_up is None else formats.plural(one.warm_up, "bar")
    enough = one.preceding >= (one.lookback if one.warm_up is None else one.warm_up)
    return f"needs {need}, has {one.preceding:,}" + ("" if enough else ": too few, so it is not converged")
