"""The overview: whether everything is all right, at a glance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from dash import Dash, Input, Output, State, html

from feature_repo.catalog import TIMEFRAMES
from feature_repo.freshness import LIMITS
from fsclient.dashboard import formats, widgets
from fsclient.dashboard.charts.calls import calls_by_source, latencies
from fsclient.dashboard.charts.frame import nothing
from fsclient.dashboard.charts.freshness import freshness_map
from fsclient.dashboard.online import ViewAge
from fsclient.dashboard.operations import Alert, Verdict, VerdictTotal
from fsclient.dashboard.sources import Sources
from fsclient.dashboard.theme import Theme, theme
from fsclient.dashboard.traffic.selection import Selection
from fsclient.dashboard.widgets import Query, Tone

PATH, TITLE = "/", "Overview"

MAX_IN_MATRIX = 30
"""Symbols up to which freshness is a table; more are drawn as a map, with the oldest listed beside it."""
_NOW_MINUTES = 15
_ERROR_SHARE, _BAD_ERROR_SHARE = 0.001, 0.01


def layout(sources: Sources, _query: Query, colours: str) -> html.Div:
    """The page."""
    shown = _content(sources, colours)
    return widgets.page(
        TITLE,
        "the last 15 minutes, and what needs attention",
        html.Div(shown["banner"], id="overview-banner", className="banner", role="status"),
        html.Div(shown["state"], id="overview-state"),
        html.Div(shown["tiles"], id="overview-tiles", className="tiles"),
        html.Div(
            [
                widgets.card(
                    "Calls per second", widgets.graph("overview-calls", shown["calls"], 200), note="last hour"
                ),
                widgets.card(
                    "Response time",
                    widgets.graph("overview-latency", shown["latency"], 200),
                    note="percentiles, last hour",
                ),
                html.Div(shown["fresh"], id="overview-fresh", className="w7", style={"display": "grid"}),
                html.Div(shown["attention"], id="overview-attention", className="w5", style={"display": "grid"}),
            ],
            className="grid",
        ),
        widgets.poll("overview-poll"),
    )


def register(app: Dash, sources: Sources) -> None:
    """The page's callback."""

    @app.callback(
        Output("overview-banner", "children"),
        Output("overview-state", "children"),
        Output("overview-tiles", "children"),
        Output("overview-calls", "figure"),
        Output("overview-latency", "figure"),
        Output("overview-fresh", "children"),
        Output("overview-attention", "children"),
        Input("overview-poll", "n_intervals"),
        State("view", "data"),
        prevent_initial_call=True,
    )
    def update(_: int, view: dict[str, str]) -> tuple[Any, ...]:
        shown = _content(sources, view["theme"])
        return tuple(shown[name] for name in ("banner", "state", "tiles", "calls", "latency", "fresh", "attention"))


def _content(sources: Sources, colours: str) -> dict[str, Any]:
    traffic, now = sources.traffic, sources.now
    traffic.refresh()
    hour, lately = traffic.select("m", 3600), traffic.select("m", 60 * _NOW_MINUTES)
    ages = sources.online.ages()
    day_ago = now - timedelta(days=1)
    gates, why = sources.ask(lambda o: o.verdict_totals(day_ago), ())
    failing, _ = sources.ask(lambda o: o.failing(day_ago), ())
    alerts, _ = sources.ask(lambda o: o.alerts(open_only=True), ())
    open_alerts = sum(sources.ask(lambda o: o.open_alerts(), {})[0].values())
    doubts, _ = sources.ask(lambda o: o.doubts(), ())
    alive = [p for p in traffic.processes if traffic.is_alive(p)]
    broken = sum(state != "closed" for p in alive for name, state in p.states.items() if name.startswith("breaker."))
    breakers = sum(name.startswith("breaker.") for p in alive for name in p.states)
    unreadable = sources.online.unreadable
    stale = [age for age in ages if age.state == "stale"]
    problem = traffic.problem or sources.online.problem
    look = theme(colours)
    concerns: list[tuple[Tone, str]] = []
    if problem:
        concerns.append(("bad", "the online store does not answer"))
    if broken:
        concerns.append(("bad", f"{formats.plural(broken, 'breaker')} open"))
    if open_alerts:
        concerns.append(("bad", f"{formats.plural(open_alerts, 'alert')} open"))
    if (lately.error_share or 0) > _BAD_ERROR_SHARE:
        concerns.append(("bad", f"{formats.share(lately.error_share)} of calls fail"))
    if unreadable:
        concerns.append(("bad", f"{formats.plural(len(unreadable), 'view')} unreadable"))
    if stale:
        concerns.append(("warn", f"{formats.plural(len(stale), 'view')} stale"))
    if failing:
        concerns.append(("warn", f"{formats.plural(len(failing), 'gate')} stopped"))
    if doubts:
        concerns.append(("warn", f"{formats.plural(len(doubts), 'view')} in doubt"))
    return {
        "banner": _banner(sources, problem),
        "state": _verdict(concerns, anything=bool(ages or hour.calls.any())),
        "tiles": _tiles(lately, ages, gates, why, alerts, open_alerts, len(alive), broken, breakers),
        "calls": calls_by_source(look, hour) if hour.calls.any() else nothing(look, "No calls in the last hour"),
        "latency": latencies(look, hour) if hour.calls.any() else nothing(look, "No calls in the last hour"),
        "fresh": _freshness(look, ages),
        "attention": _attention(sources, stale, failing, alerts, why),
    }


def _banner(sources: Sources, problem: str) -> str:
    if not problem:
        return ""
    read_s = sources.traffic.read_s
    since = "" if read_s is None else f" The figures shown were read {formats.duration(sources.now_s() - read_s)} ago."
    return f"{problem} Client processes keep counting their calls and publish them when it is back.{since}"


def _verdict(concerns: Sequence[tuple[Tone, str]], *, anything: bool) -> html.Div:
    if not anything and not concerns:
        return html.Div(
            ["Nothing here yet", html.Span(["Load the bundled real bars with ", html.Code("fstore demo"), "."])],
            className="verdict warn",
        )
    if not concerns:
        return html.Div("All is well", className="verdict good")
    tone = "bad" if any(tone == "bad" for tone, _ in concerns) else "warn"
    return html.Div(
        ["Needs attention", html.Span(", ".join(text for _, text in concerns))], className=f"verdict {tone}"
    )


def _tiles(
    lately: Selection,
    ages: Sequence[ViewAge],
    gates: Sequence[VerdictTotal],
    why: str,
    alerts: Sequence[Alert],
    open_alerts: int,
    alive: int,
    broken: int,
    breakers: int,
) -> list[html.Div]:
    states = Counter(age.state for age in ages)
    verdicts = sum(total.verdicts for total in gates)
    passed = sum(total.verdicts for total in gates if total.passed)
    failing = lately.error_share
    none = widgets.ledger_note(why)
    tone: Tone = "bad" if (failing or 0) > _BAD_ERROR_SHARE else "warn" if (failing or 0) > _ERROR_SHARE else "good"
    return [
        widgets.tile(
            "Views fresh",
            f"{states['fresh']:,}" if ages else formats.ABSENT,
            f"of {len(ages):,}: {states['late']:,} late, {states['stale']:,} stale" if ages else "none yet",
            "" if not ages else "warn" if states["stale"] else "good",
        ),
        widgets.tile(
            "Calls per second",
            formats.rate(float(lately.calls.sum()) / (60 * _NOW_MINUTES)),
            f"{alive:,} clients alive" if alive != 1 else "1 client alive",
        ),
        widgets.tile(
            "Error rate",
            formats.share(failing),
            f"{formats.count(int(lately.errors.sum()))} of {formats.count(int(lately.calls.sum()))}",
            "" if failing is None else tone,
        ),
        widgets.tile(
            "Cache hit rate", formats.share(lately.hit_share), f"{formats.count(int(lately.stale.sum()))} stale answers"
        ),
        widgets.tile(
            "Response p50",
            formats.duration(lately.percentile_s(0.5)),
            f"p90 {formats.duration(lately.percentile_s(0.9))}",
        ),
        widgets.tile(
            "Response p99",
            formats.duration(lately.percentile_s(0.99)),
            f"{formats.count(int(lately.retries.sum()))} retries",
        ),
        widgets.tile(
            "Breakers",
            formats.ABSENT if not breakers else "closed" if not broken else f"{broken} open",
            f"of {breakers}" if breakers else "none reported",
            "bad" if broken else "good" if breakers else "",
        ),
        widgets.tile(
            "Gates, 24 h",
            f"{passed:,} / {verdicts:,}" if verdicts else formats.ABSENT,
            none if why else "passed" if verdicts else "none ran",
            "" if not verdicts else "good" if passed == verdicts else "warn",
        ),
        widgets.tile(
            "Open alerts",
            formats.ABSENT if why else formats.count(open_alerts),
            none if why else alerts[0].rule if alerts else "none",
            "" if why else "bad" if alerts else "good",
        ),
    ]


def _freshness(look: Theme, ages: Sequence[ViewAge]) -> html.Section:
    note = "bars closed in open hours since each view's newest"
    symbols = list(dict.fromkeys(age.symbol for age in ages))
    if not ages:
        return widgets.card(
            "Freshness in bars",
            widgets.empty(
                "Nothing is published",
                "Load bars with ",
                widgets.code("fstore ingest FILE --symbol … --timeframe …"),
                " and publish them with ",
                widgets.code("fstore materialize"),
                ".",
            ),
            width="w12",
        )
    if len(symbols) > MAX_IN_MATRIX:
        counts = Counter(age.state for age in ages)
        legend = [widgets.tag(f"{state} {counts[state]:,}", tone) for state, tone in _TONES.items()]
        body: Any = [
            html.Div(legend, className="legend"),
            widgets.graph("overview-map", freshness_map(look, ages), 260),
        ]
        return widgets.card("Freshness in bars", *body, note=f"{len(symbols):,} symbols; {note}", width="w12")
    by_view = {(age.symbol, age.timeframe): age for age in ages}
    frames = [tf for tf in TIMEFRAMES if any(age.timeframe == tf for age in ages)]
    rows = [{"symbol": name, **{tf: _cell(by_view.get((name, tf))) for tf in frames}} for name in symbols]
    grid = widgets.table({"symbol": "symbol", **{tf: tf for tf in frames}}, rows, height=330, look="matrix")
    return widgets.card("Freshness in bars", grid, note=note, width="w12")


_TONES: dict[str, Tone] = {"fresh": "good", "late": "warn", "stale": "bad"}


def _cell(age: ViewAge | None) -> Any:
    if age is None:
        return ""
    return html.Span(formats.bars(age.age_bars), className=f"cell {_TONES[age.state]}")


def _attention(
    sources: Sources, stale: Sequence[ViewAge], failing: Sequence[Verdict], alerts: Sequence[Alert], why: str
) -> html.Section:
    now = sources.now
    rows: list[dict[str, Any]] = [
        {
            "what": widgets.tag("alert", "bad"),
            "about": a.subject,
            "detail": f"{a.rule}: {a.detail}",
            "since": widgets.when(a.opened, now),
        }
        for a in alerts
    ]
    rows += [
        {
            "what": widgets.tag("gate", "warn"),
            "about": f"{v.symbol} {v.timeframe}",
            "detail": f"{v.kind}: {v.reason}",
            "since": widgets.when(v.at, now),
        }
        for v in failing
    ]
    rows += [
        {"what": widgets.tag("unreadable", "bad"), "about": name, "detail": reason, "since": ""}
        for name, reason in sources.online.unreadable.items()
    ]
    oldest = sorted(stale, key=lambda age: -(age.age_bars or 0))
    rows += [
        {
            "what": widgets.tag("stale", "warn"),
            "about": f"{age.symbol} {age.timeframe}",
            "detail": f"{formats.bars(age.age_bars)} bars old, stale above {LIMITS[age.timeframe].late}",
            "since": widgets.when(_close(age), now),
        }
        for age in oldest[:40]
    ]
    if not rows:
        body = widgets.empty("Nothing needs attention", "Alerts, stopped gates and stale views appear here.")
    else:
        columns = {"what": "", "about": "about", "detail": "what", "since": "since"}
        body = widgets.table(columns, rows, wrapped=["detail"], height=330)
    note = f"alerts and gates: {widgets.ledger_note(why)}" if why else ""
    return widgets.card("Needs attention", body, note=note, width="w12")


def _close(age: ViewAge) -> Any:
    return formats.from_epoch(age.event_us / 1e6)
