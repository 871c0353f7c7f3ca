"""Features: what exists, how it is defined, charts of it, and where a single value comes from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from dash import Dash, Input, Output, State, ctx, dcc, html, no_update

from feature_repo.catalog import INDICATOR_FIELDS, INDICATORS, PRODUCER, SYMBOLS, VIEWS
from feature_repo.moments import parse_moment, to_datetime, to_us
from feature_repo.stores.tables import OFFLINE_OUTAGE
from fsclient.dashboard import formats, widgets
from fsclient.dashboard.charts.candles import candles, height, is_over
from fsclient.dashboard.market import MAX_BARS
from fsclient.dashboard.online import OnlineValues
from fsclient.dashboard.panels import catalog, explanation
from fsclient.dashboard.sources import Sources
from fsclient.dashboard.theme import theme
from fsclient.dashboard.widgets import Query, Tone

PATH, TITLE = "/features", "Features"

BARS = {"150": "150", "300": "300", "600": "600", str(MAX_BARS): f"{MAX_BARS:,}"}
DEFAULT_FIELDS = ("sma_50", "rsi_14")


def layout(sources: Sources, query: Query, colours: str) -> html.Div:
    """The page."""
    symbols, problem = _symbols(sources)
    symbol = query.get("symbol") if query.get("symbol") in SYMBOLS else next(iter(symbols), None)
    timeframes = _timeframes(sources, symbol)
    default = "1h" if "1h" in timeframes else next(iter(timeframes), None)
    timeframe = query.get("timeframe") if query.get("timeframe") in timeframes else default
    fields = [f for f in query.get("fields", ",".join(DEFAULT_FIELDS)).split(",") if f in PRODUCER]
    bars = query.get("bars", "300")
    shown = _content(sources, symbol, timeframe, fields, bars, query.get("end"), colours)
    options = [{"value": f, "label": f if is_over(f) else f"{f} (below)"} for f in INDICATOR_FIELDS]
    return widgets.page(
        TITLE,
        f"{len(INDICATOR_FIELDS)} indicator fields of {len(INDICATORS)} indicators, {len(VIEWS)} views",
        html.Div(problem or shown["banner"], id="features-banner", className="banner", role="status"),
        widgets.filters(
            widgets.choice("features-symbol", "symbol", list(symbols) or ([symbol] if symbol else []), symbol),
            widgets.choice("features-timeframe", "timeframe", list(timeframes), timeframe),
            widgets.choice("features-fields", "indicators", options, fields, multi=True, wide=True),
            widgets.segments("features-bars", "bars", BARS, bars),
            html.Div(
                [
                    html.Label("time", className="name"),
                    html.Div(
                        [
                            html.Button("◀", id="features-earlier", title="earlier bars", n_clicks=0),
                            html.Button("▶", id="features-later", title="later bars", n_clicks=0),
                            html.Button("newest", id="features-newest", n_clicks=0),
                        ],
                        className="actions",
                        style={"margin": 0},
                    ),
                ]
            ),
        ),
        html.Div(
            [
                html.Section(
                    [
                        html.Header(
                            [
                                html.H2(shown["title"], id="features-title"),
                                html.Small(shown["note"], id="features-note"),
                            ]
                        ),
                        html.Div(_chart(shown), id="features-holder"),
                    ],
                    className="card w8 top",
                ),
                html.Div(
                    [
                        widgets.card("Online now", html.Div(shown["online"], id="features-online"), width="w12"),
                        widgets.card(
                            "Explain", html.Div(explanation.HINT, id="features-explain", className="long"), width="w12"
                        ),
                    ],
                    className="w4",
                    style={"display": "flex", "flexDirection": "column", "gap": "12px"},
                ),
                widgets.card(
                    "Lineage",
                    html.Div(catalog.lineages(fields), id="features-lineage"),
                    width="w7",
                    note="from the source to the name that a strategy reads",
                ),
                widgets.card(
                    "Registered versions", html.Div(catalog.versions(sources), id="features-versions"), width="w5"
                ),
                widgets.card(
                    "Catalog", catalog.catalog(), width="w12", note="the digest changes whenever the meaning does"
                ),
            ],
            className="grid",
        ),
        dcc.Store(id="features-query"),
        dcc.Store(id="features-end", data=query.get("end")),
        widgets.poll("features-poll", 15_000),
    )


def register(app: Dash, sources: Sources) -> None:
    """The page's callbacks."""

    @app.callback(
        Output("features-timeframe", "options"),
        Output("features-timeframe", "value"),
        Input("features-symbol", "value"),
        State("features-timeframe", "value"),
        prevent_initial_call=True,
    )
    def offer_timeframes(symbol: str | None, selected: str | None) -> tuple[Any, Any]:
        timeframes = list(_timeframes(sources, symbol))
        return timeframes, selected if selected in timeframes else next(iter(timeframes), None)

    @app.callback(
        Output("features-holder", "children"),
        Output("features-title", "children"),
        Output("features-note", "children"),
        Output("features-online", "children"),
        Output("features-banner", "children"),
        Output("features-query", "data"),
        Output("features-end", "data"),
        Output("features-lineage", "children"),
        Output("features-versions", "children"),
        Input("features-poll", "n_intervals"),
        Input("features-symbol", "value"),
        Input("features-timeframe", "value"),
        Input("features-fields", "value"),
        Input("features-bars", "value"),
        Input("features-earlier", "n_clicks"),
        Input("features-later", "n_clicks"),
        Input("features-newest", "n_clicks"),
        State("features-end", "data"),
        State("view", "data"),
        prevent_initial_call=True,
    )
    def update(
        _: int,
        symbol: str | None,
        timeframe: str | None,
        fields: list[str] | None,
        bars: str,
        _earlier: int,
        _later: int,
        _newest: int,
        end: str | None,
        view: dict[str, str],
    ) -> tuple[Any, ...]:
        if ctx.triggered_id in ("features-newest", "features-symbol", "features-timeframe"):
            end = None
        elif ctx.triggered_id in ("features-earlier", "features-later"):
            end = _moved(sources, symbol, timeframe, int(bars), end, back=ctx.triggered_id == "features-earlier")
        shown = _content(sources, symbol, timeframe, fields or [], bars, end, view["theme"])
        query = widgets.write_query(
            symbol=symbol, timeframe=timeframe, fields=",".join(fields or []), bars=bars, end=end
        )
        is_past = ctx.triggered_id == "features-poll" and end is not None  # the past does not change by itself
        holder = no_update if is_past else _chart(shown)
        return (
            holder,
            shown["title"],
            shown["note"],
            shown["online"],
            shown["banner"],
            query,
            end,
            catalog.lineages(fields or []),
            catalog.versions(sources),
        )

    @app.callback(
        Output("features-explain", "children"),
        Input("features-chart", "clickData"),
        State("features-symbol", "value"),
        State("features-timeframe", "value"),
        State("features-fields", "value"),
        prevent_initial_call=True,
    )
    def explain(click: dict[str, Any] | None, symbol: str, timeframe: str, fields: list[str] | None) -> Any:
        if not click or not click.get("points"):
            return explanation.HINT
        opens_us = click["points"][0].get("customdata")
        if isinstance(opens_us, list):
            opens_us = opens_us[0]
        if not isinstance(opens_us, int):
            return no_update
        open_time = formats.from_epoch(opens_us / 1e6)
        return explanation.explained(sources, symbol, timeframe, ["close", *(fields or [])], open_time)


def _symbols(sources: Sources) -> tuple[Sequence[str], str]:
    try:
        return sources.market.symbols(), ""
    except OFFLINE_OUTAGE as error:
        return (), f"The offline store can't be read ({type(error).__name__}); see fstore status."


def _timeframes(sources: Sources, symbol: str | None) -> Sequence[str]:
    if not symbol:
        return ()
    try:
        return sources.market.timeframes(symbol)
    except OFFLINE_OUTAGE:
        return ()


def _content(
    sources: Sources,
    symbol: str | None,
    timeframe: str | None,
    fields: Sequence[str],
    bars: str,
    end: str | None,
    colours: str,
) -> dict[str, Any]:
    shown: dict[str, Any] = {"banner": "", "title": "Chart", "note": "", "figure": None, "height": 430, "online": None}
    if not symbol or not timeframe:
        shown["online"] = widgets.empty("Nothing to show", "No symbol has bars yet.")
        return shown
    fields = [field for field in fields if field in PRODUCER]
    count = int(bars) if bars in BARS else 300
    try:
        chart = sources.market.chart(symbol, timeframe, bars=count, fields=fields, end=_moment(end))
    except OFFLINE_OUTAGE as error:
        shown["banner"] = f"The offline store can't be read ({type(error).__name__}); see fstore status."
        chart = None
    if chart is not None:
        first, last = (formats.from_epoch(int(us) / 1e6) for us in chart.opens_us[[0, -1]])
        missing = chart.gaps.missing_total
        revised = int((chart.revisions > 0).sum())
        absent = [field for field, values in chart.indicators.items() if np.isnan(values).all()]
        shown |= {
            "figure": candles(theme(colours), chart),
            "height": height([field for field in fields if field not in absent]),
            "title": f"{symbol} {timeframe}",
            "note": f"{formats.moment(first)} to {formats.moment(last)} UTC, {len(chart.opens_us):,} of "
            f"{chart.stored_bars:,} bars; {formats.plural(missing, 'bar')} missing, {revised:,} revised",
        }
        if absent:
            shown["note"] += f"; not stored here: {', '.join(absent)}"
    values = sources.online.values(symbol, timeframe, ["close", *fields])
    shown["online"] = _online_now(values, symbol, sources.online.problem)
    if sources.online.problem:
        shown["banner"] = f"{sources.online.problem} Charts are read from the offline store."
    return shown


def _chart(shown: dict[str, Any]) -> Any:
    if shown["figure"] is None:
        return widgets.empty(
            "No bars yet",
            "Load some with ",
            widgets.code("fstore ingest FILE --symbol EUR/USD --timeframe 1h"),
            " or load the bundled ones with ",
            widgets.code("fstore demo"),
            ".",
        )
    return widgets.graph("features-chart", shown["figure"], shown["height"], config={"scrollZoom": True})


def _online_now(online: OnlineValues | None, symbol: str, problem: str) -> Any:
    """The online values with their age; ``problem`` says why the store could not be read."""
    if online is None and problem:
        return widgets.empty("Unknown", problem)
    if online is None:
        return widgets.empty(
            "Not online", "Publish it with ", widgets.code(f"fstore materialize --symbol {symbol}"), "."
        )
    age = online.age
    rows = [{"field": field, "value": formats.value(number)} for field, number in online.values.items()]
    closed = formats.moment(formats.from_epoch(age.event_us / 1e6))
    head = html.Div(
        [
            widgets.tag(age.state, _TONES[age.state]),
            f" {formats.bars(age.age_bars)} bars old, as of {closed} UTC",
        ],
        style={"marginBottom": "8px"},
    )
    return [head, widgets.table({"field": "feature", "value": "value"}, rows, numbers=["value"], height=240)]


_TONES: dict[str, Tone] = {"fresh": "good", "late": "warn", "stale": "bad"}


def _moment(text: str | None) -> datetime | None:
    try:
        return parse_moment(text).to_pydatetime() if text else None
    except ValueError:  # an address is typed by hand too
        return None


def _moved(
    sources: Sources, symbol: str | None, timeframe: str | None, bars: int, end: str | None, *, back: bool
) -> str | None:
    """The end of the chart that lies half a chart earlier or later; None for the newest bars."""
    if not symbol or not timeframe:
        return None
    opens = sources.market.opens(symbol, timeframe)
    moment = _moment(end)
    last = len(opens) - 1
    if moment is not None:
        last = int(opens.searchsorted(to_us(moment), side="right")) - 1
    last += -(bars // 2) if back else bars // 2
    if last >= len(opens) - 1:
        return None
    return to_datetime(int(opens[max(last, 1)])).isoformat()
