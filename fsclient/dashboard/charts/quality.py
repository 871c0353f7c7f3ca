"""What the gates found: verdicts by day, rules broken, missing bars on a calendar."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import numpy as np

from fsclient.dashboard.charts.frame import Figure, figure
from fsclient.dashboard.operations import Verdict
from fsclient.dashboard.theme import Theme

_BAR_MS = 0.75 * 86_400_000
"""How wide a day's bar is: Plotly makes the only one of a chart a hair's breadth."""
_MONTHS = range(1, 13, 2)
"""The months that a calendar names: a telephone has room for six."""


def verdicts_by_day(theme: Theme, verdicts: Sequence[Verdict]) -> Figure:
    """Gate results a day: how many passed and how many did not."""
    days = sorted({v.at.date() for v in verdicts})
    every = [days[0] + timedelta(days=n) for n in range((days[-1] - days[0]).days + 1)] if days else []
    traces = []
    for name, passed, colour in (("passed", True, theme.good), ("stopped", False, theme.bad)):
        counts = dict.fromkeys(every, 0)
        for verdict in verdicts:
            if verdict.passed is passed:
                counts[verdict.at.date()] += 1
        traces.append({"type": "bar", "name": name, "x": [day.isoformat() for day in every],
                       "y": list(counts.values()), "marker": {"color": colour, "line": {"width": 0}},
                       "hovertemplate": "%{y:,}", "width": _BAR_MS})  # fmt: skip
    axis = {"type": "date", "tickformat": "%b %d", "nticks": 6, "tickangle": 0}
    most = max(Counter(verdict.at.date() for verdict in verdicts).values(), default=0)
    counts_axis = {"tickformat": ",~d", "dtick": 1 if most < 6 else None}  # there are no halves of a verdict
    if len(every) < 14 and every:  # a few days are bars of a day's width, not of the card's
        axis["range"] = [(every[-1] - timedelta(days=13, hours=12)).isoformat(), f"{every[-1]}T12:00"]
    return figure(theme, traces, barmode="stack", bargap=0.25, xaxis=axis, yaxis=counts_axis, showlegend=True)


def broken_rules(theme: Theme, counts: Mapping[str, int]) -> Figure:
    """Rows by the rule that they break, the most broken on top."""
    ranked = sorted(counts.items(), key=lambda item: item[1])[-12:]
    trace = {
        "type": "bar", "orientation": "h", "y": [name for name, _ in ranked], "x": [rows for _, rows in ranked],
        "marker": {"color": theme.bad, "line": {"width": 0}}, "text": [f"{rows:,}" for _, rows in ranked],
        "textposition": "auto", "hovertemplate": "%{y}: %{x:,} rows<extra></extra>", "width": 0.6,
    }  # fmt: skip
    longest = max((len(name) for name, _ in ranked), default=0)
    return figure(theme, [trace], hovermode="closest", xaxis={"showticklabels": False, "showgrid": False},
                  yaxis={"range": [len(ranked) - 6.5, len(ranked) - 0.5] if len(ranked) < 6 else None},
                  margin={"l": min(200, 12 + 7 * longest), "r": 8, "t": 6, "b": 8})  # fmt: skip


def calendar(theme: Theme, missing: Mapping[date, int], year: int) -> Figure:
    """A year as weeks from left to right and days from Monday down: how many bars each trading day lacks.

    A day on which nothing is missing is drawn faintly, one without trading or outside of the history not at all.
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
            texts[weekday, week] = f"{day:%a %d %b %Y}: {missing[day]:,} bars missing" if missing[day] else (
                f"{day:%a %d %b %Y}: complete")  # fmt: skip
    none = theme.grid
    scale = [[0, none], [0.001, theme.warn], [1, theme.bad]]
    months = {date(year, m, 1).strftime("%b"): (offset + (date(year, m, 1) - first).days) // 7 for m in _MONTHS}
    trace = {
        "type": "heatmap", "z": cells, "text": texts.tolist(), "hovertemplate": "%{text}<extra></extra>",
        "colorscale": scale, "zmin": 0, "zmax": max(1.0, float(np.nanmax(cells)) if missing else 1.0),
        "showscale": False, "xgap": 2, "ygap": 2, "hoverongaps": False,
    }  # fmt: skip
    return figure(
        theme,
        [trace],
        hovermode="closest",
        xaxis={"tickvals": list(months.values()), "ticktext": list(months), "tickangle": 0,
               "showgrid": False, "zeroline": False, "fixedrange": True},
        yaxis={"tickvals": [0, 2, 4, 6], "ticktext": ["Mon", "Wed", "Fri", "Sun"], "autorange": "reversed",
               "showgrid": False, "zeroline": False, "fixedrange": True},
        margin={"l": 40, "r": 8, "t": 6, "b": 26},
    )  # fmt: skip
