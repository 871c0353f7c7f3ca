"""The charts of calls and of data quality, as plain dicts: what Plotly would check again is checked by tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np

from feature_repo.catalog import TIMEFRAMES
from fsclient.dashboard.online import ViewAge
from fsclient.dashboard.operations import Run, Verdict
from fsclient.dashboard.theme import Theme, template
from fsclient.dashboard.traffic import Selection, percentiles

Figure = dict[str, Any]

SOURCE_NAMES = {"": "no answer", "last_good": "last good"}
_SHORTEST_SHARE = 0.2
_ORDER = ("cache", "online", "offline", "recomputed", "last_good", "")


def figure(theme: Theme, traces: Sequence[Mapping[str, Any]], **layout: Any) -> Figure:
    """Traces in a frame that fits its card."""
    return {
        "data": list(traces),
        "layout": {
            "template": template(theme.name),
            "margin": {"l": 52, "r": 10, "t": 26, "b": 34},
            "uirevision": "kept",
            "showlegend": len(traces) > 1,
            **layout,
        },
    }


def _over_time(chosen: Selection, values: Any, **trace: Any) -> dict[str, Any]:
    """A trace at equal steps, which tells its times by the first one and the step."""
    return {
        "x0": str(chosen.times[0]) + "Z",
        "dx": chosen.step_s * 1000,
        "y": values,
        "type": "scatter",
        "mode": "lines",
        "line": {"width": 1.5},
        **trace,
    }


def _time_axis(chosen: Selection) -> dict[str, Any]:
    first, last = chosen.times[0], chosen.times[-1] + np.timedelta64(chosen.step_s, "s")
    return {"type": "date", "range": [str(first), str(last)], "nticks": 6, "tickangle": 0}


def calls_by_source(theme: Theme, chosen: Selection) -> Figure:
    """Calls a second, stacked by where the answers came from."""
    names = [name for name in _ORDER if name in chosen.by_source]
    names += sorted(set(chosen.by_source) - set(names))
    seconds = np.full(len(chosen.times), float(chosen.step_s))
    seconds[-1] = max(chosen.running_s, 1.0)
    # What has only just begun has no rate yet.
    shown = slice(None) if chosen.running_s > _SHORTEST_SHARE * chosen.step_s else slice(-1)
    traces = [
        _over_time(
            chosen,
            np.round(chosen.by_source[name] / seconds, 4)[shown],
            name=SOURCE_NAMES.get(name, name),
            stackgroup="calls",
            line={"width": 0.8, "color": theme.sources.get(name)},
            hovertemplate="%{y:,.3~f}/s",
        )
        for name in names
    ]
    return figure(theme, traces, xaxis=_time_axis(chosen), yaxis={"rangemode": "tozero"}, showlegend=True)


def latencies(theme: Theme, chosen: Selection) -> Figure:
    """p50, p90 and p99 in milliseconds over time, on a logarithmic axis; no line where there were no calls."""
    colours = (theme.series[3], theme.series[0], theme.series[4])
    traces = []
    for (name, share), colour in zip((("p50", 0.5), ("p90", 0.9), ("p99", 0.99)), colours, strict=True):
        values = np.round(percentiles(chosen.histogram, share) * 1e3, 6)
        traces += _line(chosen, values, colour, name=name, hovertemplate="%{y:,.3~g} ms")
    axis = {"type": "log", "ticksuffix": " ms", "dtick": 1, "tickformat": "~g", "minor": {"dtick": "D1"}}
    return figure(theme, traces, xaxis=_time_axis(chosen), yaxis=axis, showlegend=True)


def hit_rate(theme: Theme, chosen: Selection) -> Figure:
    """Calls that the cache answered, of those that asked it."""
    asked = chosen.hits + chosen.misses
    shares = np.where(asked > 0, chosen.hits / np.maximum(asked, 1), np.nan)
    traces = _line(chosen, np.round(shares, 5), theme.sources["cache"], name="hit rate", hovertemplate="%{y:.1%}")
    axis = {"range": [0, 1.02], "tickformat": ".0%", "nticks": 5}
    return figure(theme, traces, xaxis=_time_axis(chosen), yaxis=axis, showlegend=False)


def _line(chosen: Selection, values: Any, colour: str, **trace: Any) -> list[dict[str, Any]]:
    """A line over time and, where a time without neighbours would be none, a mark.

    A mark at every time would cost a browser several times what the line costs.
    """
    known = np.isfinite(values)
    beside = np.zeros(len(values), bool)
    beside[1:] |= known[:-1]
    beside[:-1] |= known[1:]
    alone = np.flatnonzero(known & ~beside)
    traces = [_over_time(chosen, values, line={"width": 1.6, "color": colour}, **trace)]
    if len(alone):
        traces.append({
            "type": "scatter", "mode": "markers", "x": [f"{chosen.times[n]}Z" for n in alone], "y": values[alone],
            "name": f"{trace['name']}, alone", "marker": {"size": 4, "color": colour}, "showlegend": False,
            "hoverinfo": "skip",
        })  # fmt: skip
    return traces


def stacked_counts(theme: Theme, chosen: Selection, counts: Mapping[str, Any], colours: Mapping[str, str]) -> Figure:
    """Counts over time, stacked: errors by kind, fallbacks by source.

    A count stands from the start of its time to the end, as a bar does; a step line is one shape where bars are one
    each. The zero after the last time ends the last step.
    """
    ranked = sorted(counts, key=lambda name: -int(counts[name].sum()))
    traces = []
    for n, name in enumerate(ranked):
        colour = colours.get(name, theme.series[(n + 3) % len(theme.series)])
        traces.append(
            _over_time(
                chosen,
                np.append(counts[name], 0),
                name=SOURCE_NAMES.get(name, name),
                stackgroup="counts",
                line={"width": 0, "shape": "hv", "color": colour},
                fillcolor=colour,
                hovertemplate="%{y:,}",
            )
        )
    return figure(
        theme,
        traces,
        xaxis=_time_axis(chosen),
        yaxis={"rangemode": "tozero", "tickformat": ",~d"},
        showlegend=True,
    )


def states(theme: Theme, chosen: Selection) -> Figure:
    """How often a process was seen with an open or half-open breaker."""
    counts = {
        f"{name.removeprefix('breaker.')} {state.replace('_', ' ')}": seen
        for name, by_state in chosen.states.items()
        for state, seen in by_state.items()
    }
    colours = {name: theme.bad if name.endswith(" open") else theme.warn for name in counts}
    return stacked_counts(theme, chosen, counts, colours)


def freshness_map(theme: Theme, ages: Sequence[ViewAge]) -> Figure:
    """Every view as a cell: symbols from left to right, a row a timeframe; for more symbols than a table can show."""
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
        "type": "heatmap", "x": symbols, "y": frames, "z": cells, "customdata": bars, "colorscale": scale,
        "zmin": -0.5, "zmax": 2.5, "showscale": False, "xgap": 1 if len(symbols) < 150 else 0, "ygap": 3,
        "hovertemplate": "%{x} %{y}: %{customdata:,} bars old<extra></extra>",
    }  # fmt: skip
    ticks = {"showticklabels": len(symbols) <= 60, "showgrid": False, "type": "category"}
    return figure(
        theme,
        [trace],
        xaxis=ticks,
        yaxis={"autorange": "reversed", "type": "category", "showgrid": False},
        hovermode="closest",
        margin={"l": 40, "r": 8, "t": 6, "b": 60 if len(symbols) <= 60 else 8},
    )


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
                       "hovertemplate": "%{y:,}"})  # fmt: skip
    axis = {"type": "date", "tickformat": "%b %d", "nticks": 8}
    if len(every) < 14 and every:  # a few days are bars of a day's width, not of the card's
        axis["range"] = [(every[-1] - timedelta(days=13, hours=12)).isoformat(), f"{every[-1]}T12:00"]
    return figure(theme, traces, barmode="stack", bargap=0.25, xaxis=axis, yaxis={"tickformat": ",~d"}, showlegend=True)


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
    months = [(offset + (date(year, m, 1) - first).days) // 7 for m in range(1, 13)]
    trace = {
        "type": "heatmap", "z": cells, "text": texts.tolist(), "hovertemplate": "%{text}<extra></extra>",
        "colorscale": scale, "zmin": 0, "zmax": max(1.0, float(np.nanmax(cells)) if missing else 1.0),
        "showscale": False, "xgap": 2, "ygap": 2, "hoverongaps": False,
    }  # fmt: skip
    return figure(
        theme,
        [trace],
        hovermode="closest",
        xaxis={"tickvals": months, "ticktext": [date(year, m, 1).strftime("%b") for m in range(1, 13)],
               "showgrid": False, "zeroline": False, "fixedrange": True},
        yaxis={"tickvals": [0, 2, 4, 6], "ticktext": ["Mon", "Wed", "Fri", "Sun"], "autorange": "reversed",
               "showgrid": False, "zeroline": False, "fixedrange": True},
        margin={"l": 40, "r": 8, "t": 6, "b": 26},
    )  # fmt: skip


def durations(theme: Theme, runs: Sequence[Run]) -> Figure:
    """How long runs took, by when they started; a colour a kind, a cross for one that did not complete."""
    kinds = sorted({run.kind for run in runs if run.ended})
    traces = []
    for n, kind in enumerate(kinds):
        ended = [run for run in runs if run.kind == kind and run.ended]
        traces.append({
            "type": "scatter", "mode": "markers", "name": kind,
            "x": [run.started.isoformat() for run in ended],
            "y": [round((run.ended - run.started).total_seconds(), 3) for run in ended if run.ended],
            "marker": {"color": theme.series[n % len(theme.series)], "size": 8,
                       "symbol": ["circle" if run.state == "completed" else "x" for run in ended]},
            "hovertemplate": "%{y:,.3~g} s",
        })  # fmt: skip
    axis = {"rangemode": "tozero", "ticksuffix": " s"}
    return figure(
        theme,
        traces,
        hovermode="closest",
        xaxis={"type": "date", "nticks": 6, "tickangle": 0},
        yaxis=axis,
        showlegend=True,
    )
