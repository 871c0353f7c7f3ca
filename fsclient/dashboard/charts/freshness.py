"""The freshness of many symbols as a map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from feature_repo.catalog import TIMEFRAMES
from fsclient.dashboard.charts.frame import Figure, figure
from fsclient.dashboard.online import ViewAge
from fsclient.dashboard.theme import Theme


def freshness_map(theme: Theme, ages: Sequence[ViewAge]) -> Figure:
    """One cell per view: symbols from left to right, one row per timeframe; for more symbols than a table can show."""
    symbols = list(dict.fromkeys(age.symbol for age in ages))
    frames = [tf for tf in TIMEFRAMES if any(age.timeframe == tf for age in ages)]
    at, row = {s: n for n, s in enumerate(symbols)}, {tf: n for n, tf in enumerate(frames)}
    level = {"fresh": 0, "late": 1, "stale": 2}
    cells = np.full((len(frames), len(symbols)), np.nan)
    bars = np.full((len(frames), len(symbols)), np.nan)
    for age in ages:
        cells[row[age.timeframe], at[age.symbol]] = level[age.state]
        bars[row[age.timeframe], at[age.symbol]] = np.nan if age.age_bars is None else age.age_bars
    steps = [theme.good, theme.warn, theme.bad]
    scale = [[edge, steps[n]] for n in range(3) for edge in (n / 3, (n + 1) / 3)]
    trace = {
        "type": "heatmap",
        "x": symbols,
        "y": frames,
        "z": cells,
        "customdata": bars,
        "colorscale": scale,
        "zmin": -0.5,
        "zmax": 2.5,
        "showscale": False,
        "xgap": 1 if len(symbols) < 150 else 0,
        "ygap": 3,
        "hovertemplate": "%{x} %{y}: %{customdata:,} bars old<extra></extra>",
    }
    ticks = {"showticklabels": len(symbols) <= 60, "showgrid": False, "type": "category"}
    return figure(
        theme,
        [trace],
        xaxis=ticks,
        yaxis={"autorange": "reversed", "type": "category", "showgrid": False},
        hovermode="closest",
        margin={"l": 40, "r": 8, "t": 6, "b": 60 if len(symbols) <= 60 else 8},
    )
