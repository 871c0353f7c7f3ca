"""What a symbol's views hold online now, and how old it is."""

from __future__ import annotations

from typing import Any

from dash import html

from feature_repo.catalog import BAR_FIELDS, PRODUCER
from fsclient.dashboard import formats, widgets
from fsclient.dashboard.online import OnlineValues
from fsclient.dashboard.widgets import Tone

_TONES: dict[str, Tone] = {"fresh": "good", "late": "warn", "stale": "bad"}


def online_now(held: OnlineValues | None, name: str, problem: str = "") -> Any:
    """Every value with its age; ``problem``: why the store could not be asked."""
    if held is None and problem:
        return widgets.empty("Not known now", problem)
    if held is None:
        return widgets.empty("Not online", "Publish it with ", widgets.code(f"fstore materialize --symbol {name}"), ".")
    age = held.age
    rows = [
        {"field": field, "value": formats.value(number), "kind": "" if field in BAR_FIELDS else PRODUCER[field].kind}
        for field, number in held.values.items()
    ]
    closed = formats.moment(formats.from_epoch(age.event_us / 1e6))
    head = html.Div(
        [
            widgets.tag(age.state, _TONES[age.state]),
            f" {formats.bars(age.age_bars)} bars old, as of {closed} UTC",
        ],
        style={"marginBottom": "8px"},
    )
    return [head, widgets.table({"field": "feature", "value": "value"}, rows, numbers=["value"], height=240)]
