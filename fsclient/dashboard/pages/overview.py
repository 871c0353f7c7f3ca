"""Is everything all right, in one look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from dash import Dash, Input, Output, State, html

from feature_repo.catalog import TIMEFRAMES
from fsclient.dashboard import formats, widgets
from fsclient.dashboard.charts.calls import calls_by_source, latencies
from fsclient.dashboard.charts.frame import nothing
from fsclient.dashboard.charts.freshness import freshness_map
from fsclient.dashboard.online import LATE_BARS, ViewAge
from fsclient.dashboard.operations import Alert, Verdict
from fsclient.dashboard.sources import Sources
from fsclient.dashboard.theme import theme
from fsclient.dashboard.traffic.selection import Selection
from fsclient.dashboard.widgets import Query, Tone

PATH, TITLE = "/", "Overview"

MOST_IN_MATRIX = 30
"""Symbols that the freshness table shows one by one; more become a map, with the oldest named beside it."""
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
                widgets.card("Calls a second", widgets.graph("overview-calls", shown["calls"], 200), note="last hour"),
                widgets.card("Response time", widgets.graph("overview-latency", shown["latency"], 200),
                             note="percentiles, last hour"),
                html.Div(shown["fresh"], id="overview-fresh", className="w7", style={"display": "grid"}),
                html.Div(shown["attention"], id="overview-attention", className="w5", style={"display": "grid"}),
            ],
            className="grid",
        ),
        widgets.poll("overview-poll"),
    )  # fmt: skip


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
    verdicts, why = sources.ask(lambda o: o.verdicts(since=now - timedelta(days=1)))
    alerts, _ = sources.ask(lambda o: o.alerts(open_only=True))
    doubts, _ = sources.ask(lambda o: o.doubts())
    alive = [p for p in traffic.processes if traffic.is_alive(p)]
    broken = sum(state != "closed" for p in alive for name, state in p.states.items() if name.startswith("breaker."))
    breakers = sum(name.startswith("breaker.") for p in alive for name in p.states)
    stale = [age for age in ages if age.state == "stale"]
    failed = _latest_failures(verdicts)
    problem = traffic.problem or sources.online.problem
    chosen = theme(colours)
    concerns: list[tuple[Tone, str]] = []
    if problem:
        concerns.append(("bad", "the online store is away"))
    if broken:
        concerns.append(("bad", f"{formats.plural(broken, 'breaker')} open"))
    if alerts:
        concerns.append(("bad", f"{formats.plural(len(alerts), 'alert')} open"))
    if (lately.error_share or 0) > _BAD_ERROR_SHARE:
        concerns.append(("bad", f"{formats.share(lately.error_share)} of the calls fail"))
    if stale:
        concerns.append(("warn", f"{formats.plural(len(stale), 'view')} stale"))
    if failed:
        concerns.append(("warn", f"{formats.plural(len(failed), 'gate')} stopped"))
    if doubts:
        concerns.append(("warn", f"{formats.plural(len(doubts), 'view')} in doubt"))
    return {
        "banner": _banner(sources, problem),
        "state": _verdict(concerns, anything=bool(ages or hour.calls.any())),
        "tiles": _tiles(lately, ages, verdicts, why, alerts, len(alive), broken, breakers),
        "calls": calls_by_source(chosen, hour) if hour.calls.any() else nothing(chosen, "No calls in this hour"),
        "latency": latencies(chosen, hour) if hour.calls.any() else nothing(chosen, "No calls in this hour"),
        "fresh": _freshness(chosen, ages),
        "attention": _attention(sources, stale, failed, alerts, why),
    }


def _banner(sources: Sources, problem: str) -> str:
    if not problem:
        return ""
    read_s = sources.traffic.read_s
    since = "" if read_s is None else f" What is shown was read {formats.duration(sources.now_s() - read_s)} ago."
    return f"{problem} Calls are still counted by their processes and told when it is back.{since}"


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
    verdicts: Sequence[Verdict],
    why: str,
    alerts: Sequence[Alert],
    alive: int,
    broken: int,
    breakers: int,
) -> list[html.Div]:
    states = Counter(age.state for age in ages)
    passed = sum(v.passed for v in verdicts)
    failing = lately.error_share
    none = "no ledger here" if why == "no ledger" else "the ledger is away"
    tone: Tone = "bad" if (failing or 0) > _BAD_ERROR_SHARE else "warn" if (failing or 0) > _ERROR_SHARE else "good"
    return [
        widgets.tile("Views fresh", f"{states['fresh']:,}" if ages else formats.ABSENT,
                     f"of {len(ages):,}: {states['late']:,} late, {states['stale']:,} stale" if ages else "none yet",
                     "" if not ages else "warn" if states["stale"] else "good"),
        widgets.tile("Calls a second", formats.rate(float(lately.calls.sum()) / (60 * _NOW_MINUTES)),
                     f"{alive:,} clients alive" if alive != 1 else "1 client alive"),
        widgets.tile("Error rate", formats.share(failing), f"{formats.count(int(lately.errors.sum()))} of "
                     f"{formats.count(int(lately.calls.sum()))}", "" if failing is None else tone),
        widgets.tile("Cache hit rate", formats.share(lately.hit_share),
                     f"{formats.count(int(lately.stale.sum()))} stale answers"),
        widgets.tile("Response p50", formats.duration(lately.percentile_s(0.5)),
                     f"p90 {formats.duration(lately.percentile_s(0.9))}"),
        widgets.tile("Response p99", formats.duration(lately.percentile_s(0.99)),
                     f"{formats.count(int(lately.retries.sum()))} retries"),
        widgets.tile("Breakers", formats.ABSENT if not breakers else "closed" if not broken else f"{broken} open",
                     f"of {breakers}" if breakers else "none is told",
                     "bad" if broken else "good" if breakers else ""),
        widgets.tile("Gates, 24 h", f"{passed:,} / {len(verdicts):,}" if verdicts else formats.ABSENT,
                     none if why else "passed" if verdicts else "none ran",
                     "" if not verdicts else "good" if passed == len(verdicts) else "warn"),
        widgets.tile("Open alerts", formats.ABSENT if why else str(len(alerts)), none if why else
                     alerts[0].rule if alerts else "none", "" if why else "bad" if alerts else "good"),
    ]  # fmt: skip


def _freshness(chosen: Any, ages: Sequence[ViewAge]) -> html.Section:
    note = "closed bars of an open market since each view's own"
    symbols = list(dict.fromkeys(age.symbol for age in ages))
    if not ages:
        return widgets.card(
            "Freshness in bars",
            widgets.empty("Nothing is published", "Bring bars with ",
                          widgets.code("fstore ingest FILE --symbol … --timeframe …"), " and publish them with ",
                          widgets.code("fstore materialize"), "."),
            width="w12",
        )  # fmt: skip
    if len(symbols) > MOST_IN_MATRIX:
        counts = Counter(age.state for age in ages)
        legend = [widgets.tag(f"{state} {counts[state]:,}", tone) for state, tone in _TONES.items()]
        body: Any = [
            html.Div(legend, className="legend"),
            widgets.graph("overview-map", freshness_map(chosen, ages), 260),
        ]
        return widgets.card("Freshness in bars", *body, note=f"{len(symbols):,} symbols; {note}", width="w12")
    held = {(age.symbol, age.timeframe): age for age in ages}
    frames = [tf for tf in TIMEFRAMES if any(age.timeframe == tf for age in ages)]
    rows = [{"symbol": name, **{tf: _cell(held.get((name, tf))) for tf in frames}} for name in symbols]
    grid = widgets.table({"symbol": "symbol", **{tf: tf for tf in frames}}, rows, height=330, look="matrix")
    return widgets.card("Freshness in bars", grid, note=note, width="w12")


_TONES: dict[str, Tone] = {"fresh": "good", "late": "warn", "stale": "bad"}


def _cell(age: ViewAge | None) -> Any:
    if age is None:
        return ""
    return html.Span(formats.bars(age.age_bars), className=f"cell {_TONES[age.state]}")


def _latest_failures(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Of each gate the newest verdict, where it is a failure."""
    newest: dict[tuple[str, str, str], Verdict] = {}
    for verdict in verdicts:  # newest first
        newest.setdefault((verdict.symbol, verdict.timeframe, verdict.kind), verdict)
    return [verdict for verdict in newest.values() if not verdict.passed]


def _attention(
    sources: Sources, stale: Sequence[ViewAge], failed: Sequence[Verdict], alerts: Sequence[Alert], why: str
) -> html.Section:
    now = sources.now
    rows: list[dict[str, Any]] = [
        {"what": widgets.tag("alert", "bad"), "about": a.subject, "detail": f"{a.rule}: {a.detail}",
         "since": widgets.when(a.opened, now)}
        for a in alerts
    ]  # fmt: skip
    rows += [
        {"what": widgets.tag("gate", "warn"), "about": f"{v.symbol} {v.timeframe}", "detail": f"{v.kind}: {v.reason}",
         "since": widgets.when(v.at, now)}
        for v in failed
    ]  # fmt: skip
    oldest = sorted(stale, key=lambda age: -(age.age_bars or 0))
    rows += [
        {"what": widgets.tag("stale", "warn"), "about": f"{age.symbol} {age.timeframe}",
         "detail": f"{formats.bars(age.age_bars)} bars old, more than {LATE_BARS}",
         "since": widgets.when(_close(age), now)}
        for age in oldest[:40]
    ]  # fmt: skip
    if not rows:
        body = widgets.empty("Nothing needs attention", "Alerts, stopped gates and stale views appear here.")
    else:
        columns = {"what": "", "about": "about", "detail": "what", "since": "since"}
        body = widgets.table(columns, rows, wrapped=["detail"], height=330)
    note = "alerts and gates: no ledger here" if why == "no ledger" else "the ledger is away" if why else ""
    return widgets.card("Needs attention", body, note=note, width="w12")


def _close(age: ViewAge) -> Any:
    return formats.from_epoch(age.event_us / 1e6)
