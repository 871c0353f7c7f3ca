"""Charts of quality: verdicts by day, broken rules, missing bars on a calendar."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import numpy as np

from fsclient.dashboard.charts.frame import Figure, figure
from fsclient.dashboard.operations import VerdictTotal
from fsclient.dashboard.theme import Theme

_BAR_MS = 0.75 * 86_400_000
"""Width of a day's bar; without it Plotly draws a chart's only bar a hair's breadth wide."""
_MONTHS = range(1, 13, 2)
"""The months that a calendar labels; a phone has room for six."""


def verdicts_by_day(theme: Theme, totals: Sequence[VerdictTotal]) -> Figure:
    """Verdicts per UTC day: how many passed and how many did not."""
    first, last = (edge((total.day for total in totals), default=None) for edge in (min, max))
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)] if first and last else []
    per_day = Counter[date]()
    traces = []
    for name, passed, colour in (("passed", True, theme.good), ("stopped", False, theme.bad)):
        counts = Counter[date]()
        for total in totals:
            if total.passed is passed:
                counts[total.day] += total.verdicts
        per_day += counts
        traces.append(
            {
                "type": "bar",
                "name": name,
                "x": [day.isoformat() for day in days],
                "y": [counts[day] for day in days],
                "marker": {"color": colour, "line": {"width": 0}},
                "hovertemplate": "%{y:,}",
                "width": _BAR_MS,
            }
        )
    axis = {"type": "date", "tickformat": "%b %d", "nticks": 6, "tickangle": 0}
    few = max(per_day.values(), default=0) < 6
    counts_axis = {"tickformat": ",~d", "dtick": 1 if few else None}  # half a verdict is no tick
    if 0 < len(days) < 14:  # a few days keep the width of a day instead of filling the card
        axis["range"] = [(days[-1] - timedelta(days=13, hours=12)).isoformat(), f"{days[-1]}T12:00"]
    return figure(theme, traces, barmode="stack", bargap=0.25, xaxis=axis, yaxis=counts_axis, showlegend=True)


def broken_rules(theme: Theme, counts: Mapping[str, int]) -> Figure:
    """Quarantined rows by rule, the most broken rule on top."""
    ranked = sorted(counts.items(), key=lambda item: item[1])[-12:]
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": [name for name, _ in ranked],
        "x": [rows for _, rows in ranked],
        "marker": {"color": theme.bad, "line": {"width": 0}},
        "text": [f"{rows:,}" for _, rows in ranked],
        "textposition": "auto",
        "hovertemplate": "%{y}: %{x:,} rows<extra></extra>",
        "width": 0.6,
    }
    longest = max((len(name) for name, _ in ranked), default=0)
    return figure(
        theme,
        [trace],
        hovermode="closest",
        xaxis={"showticklabels": False, "showgrid": False},
        yaxis={"range": [len(ranked) - 6.5, len(ranked) - 0.5] if len(ranked) < 6 else None},
        margin={"l": min(200, 12 + 7 * longest), "r": 8, "t": 6, "b": 8},
    )


def calendar(theme: Theme, missing: Mapping[date, int], year: int) -> Figure:
    """How many bars each trading day of a year lacks: weeks from left to right, days from Monday down.

    A complete day is drawn faintly; a day without trading or outside the history is left blank.
    """
    first = date(year, 1, 1)
    offset = first.weekday()
    length = (date(year + 1, 1, 1) - first).days
    weeks = (offset + length + 6) // 7
    cells = np.full((7, weeks), np.nan)
    texts = np.full((7, weeks), "", dtype=object)
    for n in range(length):
        day = first + timedelta(days=n)
        if day in missing:
            week, weekday = divmod(offset + n, 7)
            cells[weekday, week] = np.log1p(missing[day])
            texts[weekday, week] = (
                f"{day:%a %d %b %Y}: {missing[day]:,} bars missing"
                if missing[day]
                else (f"{day:%a %d %b %Y}: complete")
            )
    scale = [[0, theme.grid], [0.001, theme.warn], [1, theme.bad]]
    months = {date(year, m, 1).strftime("%b"): (offset + (date(year, m, 1) - first).days) // 7 for m in _MONTHS}
    trace = {
        "type": "heatmap",
        "z": cells,
        "text": texts.tolist(),
        "hovertemplate": "%{text}<extra></extra>",
        "colorscale": scale,
        "zmin": 0,
        "zmax": max(1.0, float(np.nanmax(cells)) if missing else 1.0),
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
        "hoverongaps": False,
    }
    return figure(
        theme,
        [trace],
        hovermode="closest",
        xaxis={
            "tickvals": list(months.values()),
            "ticktext": list(months),
            "tickangle": 0,
            "showgrid": False,
            "zeroline": False,
            "fixedrange": True,
        },
        yaxis={
            "tickvals": [0, 2, 4, 6],
            "ticktext": ["Mon", "Wed", "Fri", "Sun"],
            "autorange": "reversed",
            "showgrid": False,
            "zeroline": False,
            "fixedrange": True,
        },
        margin={"l": 40, "r": 8, "t": 6, "b": 26},
    )
