"""Quality: gate results over time, quarantined rows and decisions about them, missing bars by day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html, no_update

from feature_repo.stores.quarantine import Decision
from feature_repo.stores.tables import OFFLINE_OUTAGE
from fsclient.dashboard import formats, widgets
from fsclient.dashboard.charts.quality import broken_rules, verdicts_by_day
from fsclient.dashboard.panels import gaps, quarantine
from fsclient.dashboard.sources import Sources
from fsclient.dashboard.theme import Theme, theme
from fsclient.dashboard.widgets import Query

PATH, TITLE = "/quality", "Quality"

DAYS = 30
"""How far back the page counts gate results."""
MAX_VERDICTS = 100
"""Verdicts that the page lists, the newest first."""


def layout(sources: Sources, query: Query, colours: str) -> html.Div:
    """The page."""
    look = theme(colours)
    symbols = _symbols(sources)
    symbol = query.get("symbol") if query.get("symbol") in symbols else next(iter(symbols), None)
    timeframes = _timeframes(sources, symbol)
    timeframe = query.get("timeframe") if query.get("timeframe") in timeframes else next(iter(timeframes), None)
    years = gaps.years(sources, symbol, timeframe)
    year = query.get("year") if query.get("year") in years else (years[-1] if years else None)
    state = query.get("state", "waiting")
    shown = _content(sources, look)
    rows, options = quarantine.rows(sources, state, query.get("rule"))
    return widgets.page(
        TITLE,
        "what the gates accepted, and what they rejected",
        html.Div(shown["tiles"], id="quality-tiles", className="tiles"),
        html.Div(
            [
                widgets.card(
                    "Gate results", html.Div(shown["verdicts"], id="quality-verdicts"), note=f"last {DAYS} days"
                ),
                widgets.card("Rules broken", html.Div(shown["rules"], id="quality-rules"), note="quarantined rows"),
                html.Section(
                    [
                        html.Header(
                            [html.H2("Quarantined rows"), html.Small("a released row is stored as a revision")]
                        ),
                        widgets.filters(
                            widgets.segments("quality-state", "decision", quarantine.STATES, state),
                            widgets.choice("quality-rule", "rule", options, query.get("rule"), all_="all rules"),
                        ),
                        quarantine.actions(sources),
                        html.Div(rows, id="quality-rows"),
                    ],
                    className="card w12",
                ),
                html.Section(
                    [
                        html.Header(
                            [
                                html.H2("Missing bars by trading day"),
                                html.Small(gaps.gap_note(sources, symbol, timeframe, year), id="quality-gap-note"),
                            ]
                        ),
                        widgets.filters(
                            widgets.choice("quality-symbol", "symbol", list(symbols), symbol),
                            widgets.choice("quality-timeframe", "timeframe", list(timeframes), timeframe),
                            widgets.choice("quality-year", "year", years, year),
                        ),
                        html.Div(gaps.calendar(sources, look, symbol, timeframe, year), id="quality-calendar"),
                    ],
                    className="card w12",
                ),
                widgets.card("Latest verdicts", html.Div(shown["latest"], id="quality-latest"), width="w12"),
            ],
            className="grid",
        ),
        dcc.Store(id="quality-query"),
        dcc.Store(id="quality-asked"),
        widgets.poll("quality-poll", 15_000),
    )


def register(app: Dash, sources: Sources) -> None:
    """The page's callbacks."""

    @app.callback(
        Output("quality-tiles", "children"),
        Output("quality-verdicts", "children"),
        Output("quality-rules", "children"),
        Output("quality-latest", "children"),
        Input("quality-poll", "n_intervals"),
        State("view", "data"),
        prevent_initial_call=True,
    )
    def update(_: int, view: dict[str, str]) -> tuple[Any, ...]:
        shown = _content(sources, theme(view["theme"]))
        return shown["tiles"], shown["verdicts"], shown["rules"], shown["latest"]

    @app.callback(
        Output("quality-timeframe", "options"),
        Output("quality-timeframe", "value"),
        Input("quality-symbol", "value"),
        State("quality-timeframe", "value"),
        prevent_initial_call=True,
    )
    def offer_timeframes(symbol: str | None, selected: str | None) -> tuple[Any, Any]:
        timeframes = list(_timeframes(sources, symbol))
        return timeframes, selected if selected in timeframes else next(iter(timeframes), None)

    @app.callback(
        Output("quality-calendar", "children"),
        Output("quality-gap-note", "children"),
        Output("quality-year", "options"),
        Output("quality-year", "value"),
        Output("quality-query", "data"),
        Input("quality-symbol", "value"),
        Input("quality-timeframe", "value"),
        Input("quality-year", "value"),
        Input("quality-state", "value"),
        Input("quality-rule", "value"),
        State("view", "data"),
        prevent_initial_call=True,
    )
    def show_gaps(
        symbol: str | None,
        timeframe: str | None,
        year: str | None,
        state: str,
        rule: str | None,
        view: dict[str, str],
    ) -> tuple[Any, ...]:
        query = widgets.write_query(symbol=symbol, timeframe=timeframe, year=year, state=state, rule=rule)
        if ctx.triggered_id in ("quality-state", "quality-rule"):
            return no_update, no_update, no_update, no_update, query
        years = gaps.years(sources, symbol, timeframe)
        year = year if year in years else (years[-1] if years else None)
        calendar = gaps.calendar(sources, theme(view["theme"]), symbol, timeframe, year)
        return calendar, gaps.gap_note(sources, symbol, timeframe, year), years, year, query

    @app.callback(
        Output("quality-rows", "children"),
        Output("quality-rule", "options"),
        Output("quality-result", "children"),
        Output("quality-key", "value"),
        Input("quality-state", "value"),
        Input("quality-rule", "value"),
        Input("quality-asked", "data"),
        State("quality-key", "value"),
        prevent_initial_call=True,
    )
    def decide(state: str, rule: str | None, asked: dict[str, Any] | None, key: str | None) -> tuple[Any, ...]:
        result: Any = ""
        if ctx.triggered_id == "quality-asked" and asked:
            decision: Decision = "released" if asked["decision"] == "released" else "discarded"
            result = quarantine.decide(sources, asked["rows"], key, decision)
        rows, options = quarantine.rows(sources, state, rule)
        return rows, options, result, ""

    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("dashboard", "decide"),
        Output("quality-asked", "data"),
        Input("quality-release", "n_clicks"),
        Input("quality-discard", "n_clicks"),
        prevent_initial_call=True,
    )


def _content(sources: Sources, look: Theme) -> dict[str, Any]:
    since = sources.now - timedelta(days=DAYS)
    totals, why = sources.ask(lambda o: o.verdict_totals(since), ())
    latest, _ = sources.ask(lambda o: o.verdicts(since=since, limit=MAX_VERDICTS), ())
    doubts, _ = sources.ask(lambda o: o.doubts(), ())
    try:
        quarantined = sources.quarantine.counts()
        trouble = ""
    except OFFLINE_OUTAGE as error:
        quarantined, trouble = {}, f"the offline store can't be read ({type(error).__name__})"
    by_rule = Counter[str]()
    for (rule, _), number in quarantined.items():
        by_rule[rule] += number
    waiting = sum(number for (_, decision), number in quarantined.items() if decision is None)
    verdicts = sum(total.verdicts for total in totals)
    passed = sum(total.verdicts for total in totals if total.passed)
    judged, bad = sum(total.rows for total in totals), sum(total.bad_rows for total in totals)
    none = widgets.ledger_note(why)
    shown: dict[str, Any] = {
        "tiles": [
            widgets.tile(
                "Gates passed",
                f"{passed:,} / {verdicts:,}" if verdicts else formats.ABSENT,
                none or f"last {DAYS} days",
                "" if not verdicts else "good" if passed == verdicts else "warn",
            ),
            widgets.tile(
                "Rows judged",
                formats.count(judged) if verdicts else formats.ABSENT,
                none or f"{formats.count(bad)} bad",
            ),
            widgets.tile("Bad rows", formats.share(bad / judged if judged else None), none or "of the rows judged"),
            widgets.tile(
                "In quarantine",
                formats.count(by_rule.total()),
                trouble or f"{formats.count(waiting)} waiting, {formats.plural(len(by_rule), 'rule')}",
            ),
            widgets.tile(
                "In doubt",
                formats.ABSENT if why else formats.count(len(doubts)),
                none or "unproven views",
                "" if why else "bad" if doubts else "good",
            ),
        ]
    }
    if why:
        shown["verdicts"] = shown["latest"] = widgets.unanswered(why)
    elif not verdicts:
        shown["verdicts"] = shown["latest"] = widgets.empty(
            "No gate has run yet",
            "Gates run in ",
            widgets.code("fstore ingest"),
            " and ",
            widgets.code("fstore materialize"),
            ".",
        )
    else:
        shown["verdicts"] = widgets.graph("quality-verdicts-chart", verdicts_by_day(look, totals))
        now = sources.now
        in_doubt = {(doubt.symbol, doubt.timeframe) for doubt in doubts}
        rows = [
            {
                "at": widgets.when(v.at, now),
                "about": f"{v.symbol} {v.timeframe}",
                "kind": v.kind,
                "result": [
                    widgets.tag("passed", "good") if v.passed else widgets.tag("stopped", "bad"),
                    widgets.tag("in doubt", "warn") if (v.symbol, v.timeframe) in in_doubt else "",
                ],
                "rows": formats.count(v.rows),
                "bad": formats.count(v.bad_rows),
                "why": v.reason or ", ".join(f"{rule} {n:,}" for rule, n in v.by_rule.items()),
            }
            for v in latest
        ]
        columns = {"at": "when", "about": "about", "kind": "gate", "result": "result", "rows": "rows", "bad": "bad",
                   "why": "why"}  # fmt: skip
        shown["latest"] = widgets.table(columns, rows, numbers=["rows", "bad"], wrapped=["why"], height=360)
    if by_rule:
        shown["rules"] = widgets.graph("quality-rules-chart", broken_rules(look, by_rule))
    else:
        shown["rules"] = widgets.empty(
            "No rule is broken", "Rows that break a rule are kept in quarantine with it and never stored as bars."
        )
    return shown


def _symbols(sources: Sources) -> Sequence[str]:
    try:
        return sources.market.symbols()
    except OFFLINE_OUTAGE:
        return ()


def _timeframes(sources: Sources, symbol: str | None) -> Sequence[str]:
    try:
        return sources.market.timeframes(symbol) if symbol else ()
    except OFFLINE_OUTAGE:
        return ()
