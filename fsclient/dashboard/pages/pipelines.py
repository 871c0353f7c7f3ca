"""Runs: how long they took, what they did, and where the engine shows more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from dash import Dash, Input, Output, State, dcc, html

from fsclient.dashboard import formats, widgets
from fsclient.dashboard.charts.runs import durations
from fsclient.dashboard.operations import Run
from fsclient.dashboard.sources import Sources
from fsclient.dashboard.theme import theme
from fsclient.dashboard.widgets import Query, Tone

PATH, TITLE = "/pipelines", "Pipelines"

MAX_RUNS = 300
"""Runs that the page knows one by one, the newest; its totals count all."""
_MAX_ROWS = 100
_TONES: dict[str, Tone] = {"completed": "good", "running": "info", "failed": "bad", "lost": "bad", "stopped": "warn"}


def layout(sources: Sources, query: Query, colours: str) -> html.Div:
    """The page."""
    shown = _content(sources, query.get("kind"), query.get("state"), colours)
    return widgets.page(
        TITLE,
        "runs as the ledger recorded them",
        html.Div(shown["tiles"], id="pipelines-tiles", className="tiles"),
        widgets.filters(
            widgets.choice("pipelines-kind", "kind", shown["kinds"], query.get("kind"), all_="all kinds"),
            widgets.choice("pipelines-state", "state", sorted(_TONES), query.get("state"), all_="all states"),
        ),
        html.Div(
            [
                widgets.card(
                    "Durations",
                    html.Div(shown["chart"], id="pipelines-chart"),
                    width="w12",
                    note="a cross marks a run that did not complete",
                ),
                widgets.card("Runs", html.Div(shown["runs"], id="pipelines-runs"), width="w12", note="newest first"),
            ],
            className="grid",
        ),
        dcc.Store(id="pipelines-query"),
        widgets.poll("pipelines-poll", 10_000),
    )


def register(app: Dash, sources: Sources) -> None:
    """The page's callback."""

    @app.callback(
        Output("pipelines-tiles", "children"),
        Output("pipelines-chart", "children"),
        Output("pipelines-runs", "children"),
        Output("pipelines-kind", "options"),
        Output("pipelines-query", "data"),
        Input("pipelines-poll", "n_intervals"),
        Input("pipelines-kind", "value"),
        Input("pipelines-state", "value"),
        State("view", "data"),
        prevent_initial_call=True,
    )
    def update(_: int, kind: str | None, state: str | None, view: dict[str, str]) -> tuple[Any, ...]:
        shown = _content(sources, kind, state, view["theme"])
        query = widgets.write_query(kind=kind, state=state)
        return shown["tiles"], shown["chart"], shown["runs"], shown["kinds"], query


def _content(sources: Sources, kind: str | None, state: str | None, colours: str) -> dict[str, Any]:
    recent, why = sources.ask(lambda o: o.runs(limit=MAX_RUNS), ())
    kinds = sorted({run.kind for run in recent})
    if why:
        return {"tiles": [], "chart": widgets.unanswered(why), "runs": widgets.unanswered(why), "kinds": []}
    runs = [run for run in recent if (not kind or run.kind == kind) and (not state or run.state == state)]
    if not runs:
        nothing = (
            widgets.empty("No such runs", f"None of the last {MAX_RUNS} runs is of this kind and state.")
            if recent
            else _NOTHING_RAN
        )
        return {"tiles": _tiles(sources, recent), "chart": nothing, "runs": nothing, "kinds": kinds}
    ended = [run for run in runs if run.ended]
    chart = (
        widgets.graph("pipelines-durations", durations(theme(colours), runs), 200)
        if ended
        else widgets.empty("Nothing has ended yet", "A run appears here when it ends.")
    )
    return {"tiles": _tiles(sources, recent), "chart": chart, "runs": _table(sources, runs), "kinds": kinds}


def _tiles(sources: Sources, runs: Sequence[Run]) -> list[html.Div]:
    day_ago = sources.now - timedelta(days=1)
    states = Counter[str]()
    for total in sources.ask(lambda o: o.run_totals(day_ago), ())[0]:
        states[total.state] += total.runs
    running, bad = states["running"], states["failed"] + states["lost"]
    rows, _ = sources.ask(lambda o: o.rows_stored(day_ago), 0)
    last = next((run for run in runs if run.ended), None)
    return [
        widgets.tile("Running", formats.count(running), "now", ""),
        widgets.tile("Runs, 24 h", formats.count(states.total()), f"{states['completed']:,} completed"),
        widgets.tile(
            "Failed, 24 h",
            formats.count(bad),
            f"{states['lost']:,} lost, {states['stopped']:,} stopped",
            "bad" if bad else "good",
        ),
        widgets.tile("Rows stored, 24 h", formats.count(rows), "in all tables"),
        widgets.tile(
            "Last run",
            formats.duration(_seconds(last)) if last else formats.ABSENT,
            f"{last.kind}, {formats.ago(last.ended, sources.now)}" if last else "none yet",
        ),
    ]


def _table(sources: Sources, runs: Sequence[Run]) -> html.Div:
    now = sources.now
    rows = [
        {
            "state": widgets.tag(run.state, _TONES.get(run.state, "")),
            "kind": run.kind,
            "started": html.Span(formats.moment(run.started, seconds=True), title=formats.ago(run.started, now)),
            "took": formats.duration(_seconds(run)) if run.ended else formats.ABSENT,
            "did": _did(run),
            "problems": _problems(run),
            "link": html.A("Prefect ↗", href=run.url, target="_blank", rel="noopener noreferrer") if run.url else "",
        }
        for run in runs[:_MAX_ROWS]
    ]
    columns = {"state": "state", "kind": "run", "started": "started (UTC)", "took": "took", "did": "did",
               "problems": "problems", "link": "engine"}  # fmt: skip
    return widgets.table(columns, rows, numbers=["took"], wrapped=["did", "problems"], height=560)


_NOTHING_RAN = widgets.empty(
    "Nothing has run yet",
    "Start with ",
    widgets.code("fstore demo"),
    " or ",
    widgets.code("fstore materialize"),
    "; schedules start with ",
    widgets.code("fstore up"),
    ".",
)


def _did(run: Run) -> str:
    words = [f"{word.replace('_', ' ')} {formats.count(n)}" for word, n in run.counts.items() if n]
    return ", ".join(words) or ("nothing new" if run.ended else "")


def _problems(run: Run) -> str:
    more = len(run.problems) - 3
    return "; ".join(run.problems[:3]) + (f" and {more} more" if more > 0 else "")


def _seconds(run: Run | None) -> float | None:
    return None if run is None or run.ended is None else (run.ended - run.started).total_seconds()
