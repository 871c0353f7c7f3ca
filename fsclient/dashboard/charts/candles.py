"""The chart of one symbol: candles with indicators over and below them, gaps, sessions and revisions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np

from feature_repo.catalog import PRODUCER
from feature_repo.stores.redis.codec import FloatArray
from fsclient.dashboard.charts.frame import Figure, alone, figure, marks
from fsclient.dashboard.market import Chart, Int64Array
from fsclient.dashboard.theme import Theme

MAX_PANELS = 4


def is_over(field: str) -> bool:
    """Whether a field is drawn over the candles."""
    return PRODUCER[field].pane_of(field) == "price"


def panels(fields: Sequence[str]) -> list[list[str]]:
    """The panels below the candles: one per indicator, with all of its outputs."""
    by_indicator: dict[str, list[str]] = {}
    for field in fields:
        if not is_over(field):
            name = field if PRODUCER[field].pane_of(field) == "own" else PRODUCER[field].name
            by_indicator.setdefault(name, []).append(field)
    return list(by_indicator.values())[:MAX_PANELS]


def height(fields: Sequence[str]) -> int:
    """Height that the chart needs, in pixels."""
    return 430 + 110 * len(panels(fields))


def candles(theme: Theme, chart: Chart) -> Figure:
    """The chart: gaps in open hours are shaded red, closed hours grey, and revised bars carry a mark.

    A point's ``customdata`` is its bar's open time, microseconds UTC. Lines are broken where bars are missing.
    """
    known = {field: values for field, values in chart.indicators.items() if np.isfinite(values).any()}
    below = panels(list(known))
    step = int(np.diff(chart.opens_us).min()) if len(chart.opens_us) > 1 else 60_000_000
    times = _times(chart.opens_us)
    opens = chart.opens_us.tolist()
    lines = _Lines(chart)
    share = 0.17 if below else 0.0
    floor = share * len(below)
    traces: list[dict[str, Any]] = [
        {
            "type": "candlestick",
            "name": chart.symbol,
            "x": times,
            "customdata": opens,
            "showlegend": False,
            **{field: chart.bars[field] for field in ("open", "high", "low", "close")},
            "increasing": {"line": {"color": theme.up, "width": 1}, "fillcolor": theme.up},
            "decreasing": {"line": {"color": theme.down, "width": 1}, "fillcolor": theme.down},
        }
    ]
    colours = dict(zip(known, cycle(theme.series), strict=False))
    for field, values in known.items():
        if is_over(field):
            traces += lines.traces(field, values, colours[field])
    at = np.flatnonzero(chart.revisions > 0)
    if len(at):
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "revised",
                "x": [times[n] for n in at],
                "y": chart.bars["high"][at] * 1.0004,
                "customdata": chart.opens_us[at].tolist(),
                "text": [f"revised {chart.revisions[n]} times" for n in at],
                "marker": {"symbol": "triangle-down", "size": 9, "color": theme.warn},
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
    axes: dict[str, Any] = {
        "yaxis": {"domain": [floor + (0.03 if below else 0), 1], "side": "right", "tickformat": ",.6~f"}
    }
    labels: list[dict[str, Any]] = []
    for row, fields in enumerate(below, start=2):
        top = floor - share * (row - 2)
        axes[f"yaxis{row}"] = {
            "domain": [top - share + 0.025, top],
            "side": "right",
            "nticks": 4,
            "tickformat": ",.5~g",
            "anchor": "x",
        }
        for field in fields:
            traces += lines.traces(field, known[field], colours[field], yaxis=f"y{row}")
        labels.append(
            {
                "text": ", ".join(fields),
                "xref": "paper",
                "yref": "paper",
                "x": 0,
                "y": top,
                "xanchor": "left",
                "yanchor": "top",
                "showarrow": False,
                "font": {"size": 11, "color": theme.muted},
                "bgcolor": theme.card,
            }
        )
    return figure(
        theme,
        traces,
        showlegend=len(traces) > 1,
        hovermode="x",
        dragmode="pan",
        clickmode="event",
        xaxis={
            "type": "date",
            "rangeslider": {"visible": False},
            "anchor": f"y{len(below) + 1}" if below else "y",
            "range": [times[0], str(np.datetime64(opens[-1] + 2 * step, "us").astype("datetime64[s]"))],
            "showspikes": True,
            "spikemode": "across",
            "spikethickness": 1,
            "spikedash": "dot",
            "spikecolor": theme.muted,
            "spikesnap": "cursor",
        },
        shapes=_shapes(theme, chart),
        annotations=labels,
        margin={"l": 10, "r": 62, "t": 30, "b": 34},
        uirevision=f"{chart.symbol} {chart.timeframe} {len(opens)} {opens[-1]}",
        **axes,
    )


class _Lines:
    """Lines over a chart's bars, each with an empty point in every gap in open hours."""

    def __init__(self, chart: Chart) -> None:
        starts = chart.gaps.start_us[chart.gaps.missing_bars > 0]
        self._breaks = np.searchsorted(chart.opens_us, starts)
        points = np.insert(chart.opens_us, self._breaks, starts)
        self._opens, self._times = points.tolist(), _times(points)

    def traces(self, field: str, values: FloatArray, colour: str, **trace: Any) -> list[dict[str, Any]]:
        """A field's line, and marks at its values without a neighbour."""
        y = np.insert(values, self._breaks, np.nan)
        traces: list[dict[str, Any]] = [
            {
                "type": "scatter",
                "mode": "lines",
                "name": field,
                "x": self._times,
                "y": y,
                "customdata": self._opens,
                "line": {"width": 1.4, "color": colour},
                "hovertemplate": f"{field} %{{y:,.6~g}}<extra></extra>",
                **trace,
            }
        ]
        at = alone(y)
        if len(at):
            traces.append(marks(field, [self._times[n] for n in at], y[at], colour, **trace))
        return traces


def _shapes(theme: Theme, chart: Chart) -> list[dict[str, Any]]:
    shapes = [
        {
            "type": "rect",
            "xref": "x",
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "layer": "below",
            "line": {"width": 0},
            "x0": _text(start),
            "x1": _text(end),
            "name": str(kind),
            "fillcolor": theme.closed if kind == "closed" else theme.gap,
        }
        for start, end, kind in zip(chart.gaps.start_us, chart.gaps.end_us, chart.gaps.kind, strict=True)
    ]
    shapes += [
        {
            "type": "line",
            "xref": "x",
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "layer": "below",
            "name": "day",
            "x0": _text(at),
            "x1": _text(at),
            "line": {"width": 1, "color": theme.grid, "dash": "dot"},
        }
        for at in chart.days_us
    ]
    return shapes


def _times(us: Int64Array) -> list[str]:
    return [f"{moment}Z" for moment in np.datetime_as_string(us.view("datetime64[us]"), unit="s").tolist()]


def _text(us: Any) -> str:
    return str(np.datetime64(int(us), "us").astype("datetime64[s]"))
