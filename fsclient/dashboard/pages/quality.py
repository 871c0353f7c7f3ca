"""What the gates found: results over time, quarantined rows and what becomes of them, gaps by day."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html, no_update

from fsclient.dashboard import figures, formats, widgets
from fsclient.dashboard.market import OUTAGE
from fsclient.dashboard.operations import Decision, OperationsError, QuarantinedRow
from fsclient.dashboard.sources import Sources
from fsclient.dashboard.theme import Theme, theme
from fsclient.dashboard.widgets import Query, Tone

PATH, TITLE = "/quality", "Quality"

ROWS_SHOWN = 50
DAYS = 30
STATES = {"waiting": "waiting", "released": "released", "discarded": "discarded", "all": "all"}
_TONES: dict[str, Tone] = {"released": "info", "discarded": ""}


def layout(sources: Sources, query: Query, colours: str) -> html.Div:
    """The page."""
    look = theme(colours)
    held = _symbols(sources)
    name = query.get("symbol") if query.get("symbol") in held else (held[0] if held else None)
    frames = _timeframes(sources, name)
    tf = query.get("timeframe") if query.get("timeframe") in frames else next(iter(frames), None)
    years = _years(sources, name, tf)
    year = query.get("year") if query.get("year") in years else (years[-1] if years else None)
    state = query.get("state", "waiting")
    shown = _content(sources, look)
    rows, options = _rows(sources, state, query.get("rule"))
    return widgets.page(
        TITLE,
        "what the gates let through, and what they kept back",
        html.Div(shown["tiles"], id="quality-tiles", className="tiles"),
        html.Div(
            [
                widgets.card("Gate results", html.Div(shown["verdicts"], id="quality-verdicts"),
                             note=f"last {DAYS} days"),
                widgets.card("Rules broken", html.Div(shown["rules"], id="quality-rules"), note="quarantined rows"),
                html.Section(
                    [
                        html.Header([html.H2("Quarantined rows"), html.Small("released: stored as a revision")]),
                        widgets.filters(
                            widgets.segments("quality-state", "decision", STATES, state),
                            widgets.choice("quality-rule", "rule", options, query.get("rule"), all_="all rules"),
                        ),
                        _actions(sources),
                        html.Div(rows, id="quality-rows"),
                    ],
                    className="card w12",
                ),
                html.Section(
                    [
                        html.Header([html.H2("Missing bars by trading day"),
                                     html.Small(_gap_note(sources, name, tf, year), id="quality-gap-note")]),
                        widgets.filters(
                            widgets.choice("quality-symbol", "symbol", list(held), name),
                            widgets.choice("quality-timeframe", "timeframe", list(frames), tf),
                            widgets.choice("quality-year", "year", years, year),
                        ),
                        html.Div(_calendar(sources, look, name, tf, year), id="quality-calendar"),
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
    )  # fmt: skip


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
    def offer_timeframes(name: str | None, chosen: str | None) -> tuple[Any, Any]:
        frames = list(_timeframes(sources, name))
        return frames, chosen if chosen in frames else next(iter(frames), None)

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
        name: str | None, tf: str | None, year: str | None, state: str, rule: str | None, view: dict[str, str]
    ) -> tuple[Any, ...]:
        query = widgets.write_query(symbol=name, timeframe=tf, year=year, state=state, rule=rule)
        if ctx.triggered_id in ("quality-state", "quality-rule"):
            return no_update, no_update, no_update, no_update, query
        years = _years(sources, name, tf)
        year = year if year in years else (years[-1] if years else None)
        calendar = _calendar(sources, theme(view["theme"]), name, tf, year)
        return calendar, _gap_note(sources, name, tf, year), years, year, query

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
            result = _decide(sources, asked["rows"], key, decision)
        rows, options = _rows(sources, state, rule)
        return rows, options, result, ""

    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("dashboard", "decide"),
        Output("quality-asked", "data"),
        Input("quality-release", "n_clicks"),
        Input("quality-discard", "n_clicks"),
        prevent_initial_call=True,
    )


def _decide(sources: Sources, chosen: Sequence[str], key: str | None, decision: Decision) -> str:
    """What became of it, in a sentence."""
    if sources.operations is None:
        return "This machine has no ledger, so nothing can be decided here."
    if not sources.access.may_change(key):
        return "That needs the dashboard's key."
    try:
        known = {row.id: row for row in sources.market.quarantined()}
        rows = [known[one] for one in chosen if one in known and known[one].decision is None]
        if not rows:
            return "Choose rows first: those that wait for a decision have a box."
        if decision == "released":
            stored = sources.operations.release_quarantined(rows, by="dashboard")
            return f"{formats.plural(len(rows), 'row')} released, {formats.plural(stored, 'bar')} stored."
        return f"{formats.plural(sources.operations.discard_quarantined(rows, by='dashboard'), 'row')} discarded."
    except OUTAGE as error:
        return f"The offline store can't be read or written ({type(error).__name__})."
    except OperationsError as error:
        return str(error)


def _actions(sources: Sources) -> html.Div:
    off = sources.operations is None or sources.access.key is None
    remedy = ""
    if sources.operations is None:
        remedy = "This machine has no ledger: rows are released where the pipelines run."
    elif sources.access.key is None:
        remedy = (
            "To release or discard rows, start the dashboard with FSTORE_DASHBOARD_KEY or FSTORE_DASHBOARD_KEY_FILE."
        )
    asks = sources.access.open_to_see and not off
    return html.Div(
        [
            html.Button("Release chosen", id="quality-release", className="primary", disabled=off, n_clicks=0),
            html.Button("Discard chosen", id="quality-discard", disabled=off, n_clicks=0),
            dcc.Input(id="quality-key", type="password", placeholder="key", value="", autoComplete="off",
                      style={} if asks else {"display": "none"}),
            html.Span(remedy, id="quality-result", className="result", role="status"),
        ],
        className="actions",
    )  # fmt: skip


def _rows(sources: Sources, state: str, rule: str | None) -> tuple[Any, list[str]]:
    """The quarantined rows of a state and rule, and the rules there are."""
    try:
        held = sources.market.quarantined()
    except OUTAGE as error:
        return widgets.empty("The offline store can't be read", type(error).__name__), []
    rules = sorted({row.rule for row in held})
    meant = [
        row
        for row in held
        if (not rule or row.rule == rule) and (state == "all" or (row.decision or "waiting") == state)
    ]
    if not held:
        return widgets.empty("Nothing is in quarantine", "Rows that break a rule are kept here, with the rule."), []
    if not meant:
        return widgets.empty("No such rows", "Choose another decision or rule."), rules
    shown = meant[:ROWS_SHOWN]
    columns = {"box": "", "bar": "symbol", "open": "open time (UTC)", "kind": "kind", "rule": "rule",
               "detail": "what was seen", "row": "row", "from": "from", "at": "quarantined"}  # fmt: skip
    now = sources.now
    lines = [_line(row, now) for row in shown]
    newest = f"the newest {len(shown):,} of {len(meant):,} rows"
    count = newest if len(meant) > len(shown) else formats.plural(len(meant), "row")
    grid = widgets.table(columns, lines, wrapped=["detail", "row"], height=460)
    return [html.Div(count, className="result", style={"marginBottom": "6px"}), grid], rules


def _line(row: QuarantinedRow, now: Any) -> dict[str, Any]:
    decision = row.decision
    return {
        "box": "" if decision else widgets.checkbox(row.id),
        "bar": f"{row.symbol} {row.timeframe}",
        "open": formats.moment(row.open_time),
        "kind": row.kind,
        "rule": [widgets.tag(row.rule, "warn"), " ", widgets.tag(decision, _TONES[decision]) if decision else ""],
        "detail": row.detail,
        "row": html.Span(_short(row.row), className="mono", title=row.row[:2000]),
        "from": f"{row.file}:{row.line}" if row.file and row.line is not None else row.file or formats.ABSENT,
        "at": widgets.when(row.created, now),
    }


def _short(text: str) -> str:
    """A row's values as one line: of a bar its prices."""
    try:
        values = json.loads(text)
    except ValueError:
        return text[:120]
    prices = {k: v for k, v in values.items() if k in ("open", "high", "low", "close", "volume")}
    if len(prices) == 5:
        return " ".join(f"{k[0].upper()} {v if v is not None else formats.ABSENT}" for k, v in prices.items())
    return str(values.get("text", text))[:120]


def _content(sources: Sources, look: Theme) -> dict[str, Any]:
    verdicts, why = sources.ask(lambda o: o.verdicts(since=sources.now - timedelta(days=DAYS), limit=5000))
    doubts, _ = sources.ask(lambda o: o.doubts())
    try:
        held = sources.market.quarantined()
        trouble = ""
    except OUTAGE as error:
        held, trouble = [], f"the offline store can't be read ({type(error).__name__})"
    by_rule = Counter(row.rule for row in held)
    passed = sum(v.passed for v in verdicts)
    bad = sum(v.bad_rows for v in verdicts)
    judged = sum(v.rows for v in verdicts)
    none = "no ledger here" if why == "no ledger" else "the ledger is away" if why else ""
    shown: dict[str, Any] = {
        "tiles": [
            widgets.tile("Gates passed", f"{passed:,} / {len(verdicts):,}" if verdicts else formats.ABSENT,
                         none or f"last {DAYS} days",
                         "" if not verdicts else "good" if passed == len(verdicts) else "warn"),
            widgets.tile("Rows judged", formats.count(judged) if verdicts else formats.ABSENT, none or
                         f"{formats.count(bad)} bad"),
            widgets.tile("Bad rows", formats.share(bad / judged if judged else None), none or "of those judged"),
            widgets.tile("In quarantine", formats.count(len(held)), trouble or formats.plural(len(by_rule), "rule")),
            widgets.tile("In doubt", formats.ABSENT if why else str(len(doubts)), none or "views not proven right",
                         "" if why else "bad" if doubts else "good"),
        ]
    }  # fmt: skip
    if why:
        shown["verdicts"] = shown["latest"] = widgets.unanswered(why)
    elif not verdicts:
        shown["verdicts"] = shown["latest"] = widgets.empty(
            "No gate has run yet", "Gates run in ", widgets.code("fstore ingest"), " and ",
            widgets.code("fstore materialize"), ".",
        )  # fmt: skip
    else:
        shown["verdicts"] = widgets.graph("quality-verdicts-chart", figures.verdicts_by_day(look, verdicts))
        now = sources.now
        doubted = {(d.symbol, d.timeframe): d for d in doubts}
        rows = [
            {
                "at": widgets.when(v.at, now), "about": f"{v.symbol} {v.timeframe}", "kind": v.kind,
                "result": [widgets.tag("passed", "good") if v.passed else widgets.tag("stopped", "bad"),
                           widgets.tag("in doubt", "warn") if (v.symbol, v.timeframe) in doubted else ""],
                "rows": formats.count(v.rows), "bad": formats.count(v.bad_rows),
                "why": v.reason or ", ".join(f"{rule} {n:,}" for rule, n in v.by_rule.items()),
            }
            for v in verdicts[:100]
        ]  # fmt: skip
        columns = {"at": "when", "about": "about", "kind": "gate", "result": "result", "rows": "rows", "bad": "bad",
                   "why": "why"}  # fmt: skip
        shown["latest"] = widgets.table(columns, rows, numbers=["rows", "bad"], wrapped=["why"], height=360)
    if by_rule:
        shown["rules"] = widgets.graph("quality-rules-chart", figures.broken_rules(look, by_rule))
    else:
        shown["rules"] = widgets.empty("No rule is broken", "Rows that break one are kept with it and never stored.")
    return shown


def _symbols(sources: Sources) -> Sequence[str]:
    try:
        return sources.market.symbols()
    except OUTAGE:
        return ()


def _timeframes(sources: Sources, name: str | None) -> Sequence[str]:
    try:
        return sources.market.timeframes(name) if name else ()
    except OUTAGE:
        return ()


def _years(sources: Sources, name: str | None, tf: str | None) -> list[str]:
    if not name or not tf:
        return []
    try:
        missing = sources.market.missing_by_day(name, tf)
    except OUTAGE:
        return []
    return sorted({str(day.year) for day in missing})


def _calendar(sources: Sources, look: Theme, name: str | None, tf: str | None, year: str | None) -> Any:
    if not name or not tf or not year:
        return widgets.empty("No bars yet", "The calendar shows which trading days lack bars, once there are some.")
    try:
        missing = sources.market.missing_by_day(name, tf)
    except OUTAGE as error:
        return widgets.empty("The offline store can't be read", type(error).__name__)
    of_year = {day: bars for day, bars in missing.items() if day.year == int(year)}
    return widgets.graph("quality-calendar-chart", figures.calendar(look, of_year, int(year)), 190)


def _gap_note(sources: Sources, name: str | None, tf: str | None, year: str | None) -> str:
    if not name or not tf or not year:
        return ""
    try:
        missing = sources.market.missing_by_day(name, tf)
    except OUTAGE:
        return ""
    of_year = [bars for day, bars in missing.items() if day.year == int(year)]
    return (
        f"{sum(of_year):,} bars missing on {sum(b > 0 for b in of_year):,} of {len(of_year):,} trading days in {year}; "
        f"{sum(missing.values()):,} in all years"
    )
