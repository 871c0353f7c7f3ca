"""The chart of how long runs took."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from fsclient.dashboard.charts.frame import Figure, figure
from fsclient.dashboard.operations import Run
from fsclient.dashboard.theme import Theme


def durations(theme: Theme, runs: Sequence[Run]) -> Figure:
    """Duration by start time, one colour per kind; a cross marks a run that did not complete."""
    kinds = sorted({run.kind for run in runs if run.ended})
    traces = []
    for n, kind in enumerate(kinds):
        ended = [run for run in runs if run.kind == kind and run.ended]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": kind,
                "x": [run.started.isoformat() for run in ended],
                "y": [round((run.ended - run.started).total_seconds(), 3) for run in ended if run.ended],
                "marker": {
                    "color": theme.series[n % len(theme.series)],
                    "size": 8,
                    "symbol": ["circle" if run.state == "completed" else "x" for run in ended],
                },
                "hovertemplate": "%{y:,.3~g} s",
            }
        )
    axis = {"rangemode": "tozero", "ticksuffix": " s"}
    ended_at = [run.started for run in runs if run.ended]
    return figure(
        theme,
        traces,
        hovermode="closest",
        xaxis={"type": "date", "nticks": 6, "tickangle": 0, "range": _around(ended_at)},
        yaxis=axis,
        showlegend=True,
    )


def _around(moments: Sequence[datetime]) -> list[str]:
    """The range of an axis with some room at its ends; an hour for a single run."""
    first, last = min(moments), max(moments)
    room = max((last - first) * 0.03, timedelta(minutes=30) if first == last else timedelta(minutes=1))
    return [(first - room).isoformat(), (last + room).isoformat()]
