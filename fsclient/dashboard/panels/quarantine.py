"""Quarantined rows and the decisions about them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from dash import dcc, html

from feature_repo.stores.quarantine import Decision, QuarantinedRow
from feature_repo.stores.tables import OFFLINE_OUTAGE
from fsclient.dashboard import formats, widgets
from fsclient.dashboard.operations import OperationsError
from fsclient.dashboard.quarantine import MAX_ROWS_SHOWN
from fsclient.dashboard.sources import Sources
from fsclient.dashboard.widgets import Tone

STATES = {"waiting": "waiting", "released": "released", "discarded": "discarded", "all": "all"}
_TONES: dict[str, Tone] = {"released": "info", "discarded": ""}


def decide(sources: Sources, chosen: Sequence[str], key: str | None, decision: Decision) -> str:
    """Carries out a decision; returns the result as a sentence."""
    if sources.operations is None:
        return "This machine has no ledger, so nothing can be decided here."
    if not sources.access.may_change(key):
        return "This needs the dashboard's key."
    try:
        known = {row.id: row for row in sources.quarantine.rows()}
        rows = [known[id_] for id_ in chosen if id_ in known and known[id_].decision is None]
        if not rows:
            return "Choose rows first: rows that wait for a decision have a checkbox."
        if decision == "released":
            stored = sources.operations.release_quarantined(rows, by="dashboard")
            return f"{formats.plural(len(rows), 'row')} released, {formats.plural(stored, 'bar')} stored."
        return f"{formats.plural(sources.operations.discard_quarantined(rows, by='dashboard'), 'row')} discarded."
    except OFFLINE_OUTAGE as error:
        return f"The offline store can't be read or written ({type(error).__name__})."
    except OperationsError as error:
        return str(error)


def actions(sources: Sources) -> html.Div:
    """The buttons that decide, or why they are disabled."""
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
            dcc.Input(
                id="quality-key",
                type="password",
                placeholder="key",
                value="",
                autoComplete="off",
                style={} if asks else {"display": "none"},
            ),
            html.Span(remedy, id="quality-result", className="result", role="status"),
        ],
        className="actions",
    )


def rows(sources: Sources, state: str, rule: str | None) -> tuple[Any, list[str]]:
    """The newest quarantined rows of a decision and rule, and all rules there are."""
    try:
        counts, newest = sources.quarantine.counts(), sources.quarantine.rows()
    except OFFLINE_OUTAGE as error:
        return widgets.empty("The offline store can't be read", type(error).__name__), []
    if not counts:
        return widgets.empty("The quarantine is empty", "Rows that break a rule are kept here, with the rule."), []

    def is_chosen(of_rule: str, decision: Decision | None) -> bool:
        return (not rule or of_rule == rule) and (state == "all" or (decision or "waiting") == state)

    rules = sorted({of_rule for of_rule, _ in counts})
    total = sum(number for (of_rule, decision), number in counts.items() if is_chosen(of_rule, decision))
    shown = [row for row in newest if is_chosen(row.rule, row.decision)][:MAX_ROWS_SHOWN]
    if not shown:
        return widgets.empty("No such rows", "Choose another decision or rule."), rules
    columns = {"box": "", "bar": "symbol", "open": "open time (UTC)", "kind": "kind", "rule": "rule",
               "detail": "what was seen", "row": "row", "from": "from", "at": "quarantined"}  # fmt: skip
    lines = [_line(row, sources.now) for row in shown]
    count = formats.plural(total, "row") if total == len(shown) else f"the newest {len(shown):,} of {total:,} rows"
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
    """A row's values on one line: its prices if it is a bar."""
    try:
        values = json.loads(text)
    except ValueError:
        return text[:120]
    prices = {k: v for k, v in values.items() if k in ("open", "high", "low", "close", "volume")}
    if len(prices) == 5:
        return " ".join(f"{k[0].upper()} {v if v is not None else formats.ABSENT}" for k, v in prices.items())
    return str(values.get("text", text))[:120]
