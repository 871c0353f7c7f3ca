"""The clients' calls on all machines: rate, cache, errors, response times, fallbacks."""

from __future__ import annotations

from typing import Any

from dash import Dash, Input, Output, State, dcc, html

from fsclient.dashboard import formats, widgets
from fsclient.dashboard.charts import calls as charts
from fsclient.dashboard.charts.frame import nothing
from fsclient.dashboard.sources import Sources
from fsclient.dashboard.theme import theme
from fsclient.dashboard.traffic.selection import Filter, Selection, percentiles
from fsclient.dashboard.widgets import Query, Tone
from fsclient.metrics.store import Process, Resolution

PATH, TITLE = "/client", "Client"

PERIODS: dict[str, tuple[str, Resolution, int, int]] = {
    "1h": ("1 h", "m", 3600, 1),
    "6h": ("6 h", "m", 6 * 3600, 1),
    "24h": ("24 h", "m", 86_400, 5),
    "7d": ("7 d", "h", 7 * 86_400, 1),
    "30d": ("30 d", "h", 30 * 86_400, 3),
}
"""Period -> text, resolution, seconds, and minutes or hours per point, so that a chart has 1,500 points at most."""
_CHARTS = ("calls", "latency", "cache", "errors", "fallbacks", "breakers")
_MAX_ROWS = 100


def layout(sources: Sources, query: Query, colours: str) -> html.Div:
    """The page."""
    traffic = sources.traffic
    shown = _content(sources, query, colours)
    return widgets.page(
        TITLE,
        "all calls of all processes that publish their metrics",
        html.Div(shown["banner"], id="client-banner", className="banner", role="status"),
        widgets.filters(
            widgets.segments(
                "client-period", "period", {key: text for key, (text, *_) in PERIODS.items()}, query.get("period", "1h")
            ),
            widgets.choice(
                "client-process",
                "process",
                _process_options(sources),
                query.get("process"),
                all_="all processes",
                wide=True,
            ),
            widgets.choice("client-method", "method", traffic.methods, query.get("method"), all_="all methods"),
            widgets.choice("client-symbol", "symbol", traffic.symbols, query.get("symbol"), all_="all symbols"),
        ),
        html.Div(shown["tiles"], id="client-tiles", className="tiles"),
        html.Div(
            [
                widgets.card(
                    "Calls per second", widgets.graph("client-calls", shown["calls"]), note="by source of the answer"
                ),
                widgets.card("Response time", widgets.graph("client-latency", shown["latency"]), note="percentiles"),
                widgets.card(
                    "Cache hit rate",
                    widgets.graph("client-cache", shown["cache"], 220),
                    width="w4",
                    note="of calls that used it",
                ),
                widgets.card(
                    "Errors by kind", widgets.graph("client-errors", shown["errors"], 220), width="w4", note="calls"
                ),
                widgets.card(
                    "Fallbacks by source",
                    widgets.graph("client-fallbacks", shown["fallbacks"], 220),
                    width="w4",
                    note="calls",
                ),
                widgets.card("By method", html.Div(shown["methods"], id="client-methods"), width="w7"),
                widgets.card(
                    "By symbol",
                    html.Div(shown["symbols"], id="client-symbols"),
                    width="w5",
                    note="single-symbol calls only",
                ),
                widgets.card(
                    "Processes",
                    html.Div(shown["processes"], id="client-processes"),
                    width="w8",
                    note="listed for 30 days after their end",
                ),
                widgets.card(
                    "Breakers not closed",
                    widgets.graph("client-breakers", shown["breakers"], 190),
                    width="w4",
                    note="times seen, every 5 s",
                ),
            ],
            className="grid",
        ),
        dcc.Store(id="client-query"),
        widgets.poll("client-poll"),
    )


def register(app: Dash, sources: Sources) -> None:
    """The page's callback."""

    @app.callback(
        *(Output(f"client-{name}", "children") for name in ("banner", "tiles", "methods", "symbols", "processes")),
        *(Output(f"client-{name}", "figure") for name in _CHARTS),
        Output("client-query", "data"),
        Output("client-process", "options"),
        Output("client-method", "options"),
        Output("client-symbol", "options"),
        Input("client-poll", "n_intervals"),
        Input("client-period", "value"),
        Input("client-process", "value"),
        Input("client-method", "value"),
        Input("client-symbol", "value"),
        State("view", "data"),
        prevent_initial_call=True,
    )
    def update(
        _: int, period: str, process: str | None, method: str | None, symbol: str | None, view: dict[str, str]
    ) -> tuple[Any, ...]:
        filters = {"period": period, "process": process, "method": method, "symbol": symbol}
        query = {name: value for name, value in filters.items() if value}
        shown = _content(sources, query, view["theme"])
        texts = (shown[name] for name in ("banner", "tiles", "methods", "symbols", "processes"))
        options = (_process_options(sources), sources.traffic.methods, sources.traffic.symbols)
        charts = (shown[name] for name in _CHARTS)
        return (*texts, *charts, widgets.write_query(**query), *options)


def _content(sources: Sources, query: Query, colours: str) -> dict[str, Any]:
    traffic = sources.traffic
    traffic.refresh()
    _, resolution, period_s, every = PERIODS.get(query.get("period", "1h"), PERIODS["1h"])
    chosen = Filter(process=query.get("process"), method=query.get("method"), symbol=query.get("symbol"))
    selection = traffic.select(resolution, period_s, chosen, every=every)
    look = theme(colours)
    problem = traffic.problem
    if problem and traffic.read_s is not None:
        problem += f" The figures shown were read {formats.duration(sources.now_s() - traffic.read_s)} ago."
    quiet = nothing(look, "No calls in this period")
    return {
        "banner": problem,
        "tiles": _tiles(selection, period_s),
        "calls": charts.calls_by_source(look, selection) if selection.calls.any() else quiet,
        "latency": charts.latencies(look, selection) if selection.calls.any() else quiet,
        "cache": charts.hit_rate(look, selection) if selection.hit_share is not None else quiet,
        "errors": _counts(look, selection, selection.by_error, {}, "No errors"),
        "fallbacks": _counts(look, selection, selection.fallbacks, look.sources, "No fallbacks"),
        "breakers": charts.states(look, selection) if selection.states else nothing(look, "All closed"),
        "methods": _methods(selection),
        "symbols": _symbols(selection),
        "processes": _processes(sources),
    }


def _counts(look: Any, selection: Selection, counts: Any, colours: Any, none: str) -> Any:
    if not any(values.any() for values in counts.values()):
        return nothing(look, none)
    return charts.stacked_counts(look, selection, counts, colours)


def _tiles(selection: Selection, period_s: int) -> list[html.Div]:
    calls, errors = int(selection.calls.sum()), int(selection.errors.sum())
    fallbacks = sum(int(counts.sum()) for counts in selection.fallbacks.values())
    failing = selection.error_share
    tone: Tone = "" if failing is None else "bad" if failing > 0.01 else "warn" if failing > 0.001 else "good"
    busiest = float((selection.calls / selection.step_s).max())
    return [
        widgets.tile("Calls", formats.count(calls), f"{formats.rate(calls / period_s)} per second"),
        widgets.tile("Busiest", f"{formats.rate(busiest)}/s", f"over {formats.span(selection.step_s)}"),
        widgets.tile("Errors", formats.count(errors), formats.share(failing), tone),
        widgets.tile(
            "Cache hit rate", formats.share(selection.hit_share), f"{formats.count(int(selection.hits.sum()))} hits"
        ),
        widgets.tile("p50", formats.duration(selection.percentile_s(0.5)), "half are faster"),
        widgets.tile("p90", formats.duration(selection.percentile_s(0.9)), "90 of 100 are faster"),
        widgets.tile("p99", formats.duration(selection.percentile_s(0.99)), "99 of 100 are faster"),
        widgets.tile(
            "Fallbacks",
            formats.count(fallbacks),
            f"{formats.count(int(selection.stale.sum()))} stale",
            "warn" if fallbacks else "",
        ),
    ]


def _methods(selection: Selection) -> html.Div:
    if not selection.by_method:
        return _no_calls()
    rows = []
    for name in sorted(selection.by_method, key=lambda m: -int(selection.by_method[m].sum())):
        calls, histogram = int(selection.by_method[name].sum()), selection.method_histograms[name]
        p50, p90, p99 = (float(percentiles(histogram, share)) for share in (0.5, 0.9, 0.99))
        rows.append(
            {
                "method": name,
                "calls": formats.count(calls),
                "errors": formats.count(selection.method_errors[name]),
                "rate": formats.share(selection.method_errors[name] / calls if calls else None),
                "p50": formats.duration(p50),
                "p90": formats.duration(p90),
                "p99": formats.duration(p99),
            }
        )
    columns = {"method": "method", "calls": "calls", "errors": "errors", "rate": "error rate", "p50": "p50",
               "p90": "p90", "p99": "p99"}  # fmt: skip
    return widgets.table(columns, rows, numbers=list(columns)[1:], height=260)


def _symbols(selection: Selection) -> html.Div:
    if not selection.symbols:
        return _no_calls()
    total = sum(selection.symbols.values())
    ranked = sorted(selection.symbols.items(), key=lambda item: (item[0] == "other", -item[1]))
    rows = [
        {"symbol": name, "calls": formats.count(calls), "share": formats.share(calls / total)}
        for name, calls in ranked[:_MAX_ROWS]
    ]
    return widgets.table(
        {"symbol": "symbol", "calls": "calls", "share": "share"}, rows, numbers=["calls", "share"], height=260
    )


def _no_calls() -> html.Div:
    return widgets.empty(
        "No calls in this period",
        "Clients publish their calls automatically; try ",
        widgets.code("fstore latest EUR/USD"),
        ", a longer period or fewer filters.",
    )


def _processes(sources: Sources) -> html.Div:
    traffic, now = sources.traffic, sources.now
    if not traffic.processes:
        return widgets.empty("No client has published yet", "Each process appears here after its first call.")
    rows = [
        {
            "state": widgets.tag("alive", "good") if traffic.is_alive(p) else widgets.tag("gone"),
            "host": p.host,
            "pid": str(p.pid),
            "breakers": _breakers(p, alive=traffic.is_alive(p)),
            "start": formats.moment(formats.from_epoch(p.start_s), seconds=True),
            "seen": widgets.when(formats.from_epoch(p.seen_s), now),
        }
        for p in traffic.processes[:_MAX_ROWS]
    ]
    columns = {"state": "", "host": "host", "pid": "pid", "breakers": "breakers", "start": "started (UTC)",
               "seen": "last seen"}  # fmt: skip
    return widgets.table(columns, rows, numbers=["pid"], height=300)


def _breakers(process: Process, *, alive: bool) -> Any:
    states = {name.removeprefix("breaker."): s for name, s in process.states.items() if name.startswith("breaker.")}
    if not states:
        return formats.ABSENT
    tones: dict[str, Tone] = {"closed": "good", "open": "bad"} if alive else {}
    return [widgets.tag(f"{name} {state.replace('_', ' ')}", tones.get(state, "")) for name, state in states.items()]


def _process_options(sources: Sources) -> list[dict[str, str]]:
    traffic = sources.traffic
    known = traffic.processes
    return [
        {"value": p.id, "label": f"{p.host} {p.pid}" + ("" if traffic.is_alive(p) else " (gone)")} for p in known[:500]
    ]
