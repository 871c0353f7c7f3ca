"""Incidents: those that are open, and those that are over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dash import Dash, Input, Output, html

from fsclient.dashboard import formats, widgets
from fsclient.dashboard.operations import Alert
from fsclient.dashboard.sources import Sources
from fsclient.dashboard.widgets import Query

PATH, TITLE = "/alerts", "Alerts"

MAX_ALERTS = 500
"""Incidents that the page lists, the newest first."""


def layout(sources: Sources, _query: Query, _colours: str) -> html.Div:
    """The page."""
    now, past = _content(sources)
    return widgets.page(
        TITLE,
        "an incident is opened once and closed once",
        html.Div(
            [
                widgets.card("Open", html.Div(now, id="alerts-open"), width="w12"),
                widgets.card("Past", html.Div(past, id="alerts-past"), width="w12", note="newest first"),
            ],
            className="grid",
        ),
        widgets.poll("alerts-poll", 10_000),
    )


def register(app: Dash, sources: Sources) -> None:
    """The page's callback."""

    @app.callback(
        Output("alerts-open", "children"),
        Output("alerts-past", "children"),
        Input("alerts-poll", "n_intervals"),
        prevent_initial_call=True,
    )
    def update(_: int) -> tuple[Any, Any]:
        return _content(sources)


def _content(sources: Sources) -> tuple[Any, Any]:
    alerts, why = sources.ask(lambda o: o.alerts(limit=MAX_ALERTS), ())
    if why:
        return widgets.unanswered(why), widgets.unanswered(why)
    open_, past = [a for a in alerts if a.closed is None], [a for a in alerts if a.closed is not None]
    calm = widgets.empty("No alert is open", "Rules watch freshness, gates, parity and clients; incidents appear here.")
    return (
        _table(sources, open_, ended=False) if open_ else calm,
        _table(sources, past, ended=True) if past else widgets.empty("No alert yet", "Past incidents are kept here."),
    )


def _table(sources: Sources, alerts: Sequence[Alert], *, ended: bool) -> html.Div:
    now = sources.now
    rows = [
        {
            "rule": widgets.tag(a.rule, "" if ended else "bad"),
            "subject": a.subject,
            "detail": a.detail,
            "opened": formats.moment(a.opened, seconds=True),
            "closed": formats.moment(a.closed, seconds=True),
            "lasted": formats.duration(((a.closed or now) - a.opened).total_seconds()),
        }
        for a in alerts
    ]
    columns = {"rule": "rule", "subject": "about", "detail": "what was seen", "opened": "since (UTC)"}
    columns |= {"closed": "until (UTC)"} if ended else {}
    return widgets.table(columns | {"lasted": "lasted"}, rows, numbers=["lasted"], wrapped=["detail"], height=440)
