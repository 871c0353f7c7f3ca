"""Charts of the clients' calls over time: rate, response time, cache, errors, fallbacks, breakers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fsclient.dashboard.charts.frame import Figure, alone, figure, marks, over_time, time_axis
from fsclient.dashboard.theme import Theme
from fsclient.dashboard.traffic.selection import Selection, percentiles

SOURCE_NAMES = {"": "no answer", "last_good": "last good"}
_SHORTEST_SHARE = 0.2
_ORDER = ("cache", "online", "offline", "recomputed", "last_good", "")


def calls_by_source(theme: Theme, chosen: Selection) -> Figure:
    """Calls per second, stacked by the source of the answer."""
    names = [name for name in _ORDER if name in chosen.by_source]
    names += sorted(set(chosen.by_source) - set(names))
    seconds = np.full(len(chosen.times), float(chosen.step_s))
    seconds[-1] = max(chosen.running_s, 1.0)
    # An interval that has only just begun has no meaningful rate yet.
    shown = slice(None) if chosen.running_s > _SHORTEST_SHARE * chosen.step_s else slice(-1)
    traces = [
        over_time(
            chosen,
            np.round(chosen.by_source[name] / seconds, 4)[shown],
            name=SOURCE_NAMES.get(name, name),
            stackgroup="calls",
            line={"width": 0, "color": theme.sources.get(name)},  # an outline would make zero visible
            hovertemplate="%{y:,.3~f}/s",
        )
        for name in names
    ]
    return figure(theme, traces, xaxis=time_axis(chosen), yaxis={"rangemode": "tozero"}, showlegend=True)


def latencies(theme: Theme, chosen: Selection) -> Figure:
    """p50, p90 and p99 in milliseconds over time on a logarithmic axis; no line where there were no calls."""
    colours = (theme.series[3], theme.series[0], theme.series[4])
    traces = []
    for (name, share), colour in zip((("p50", 0.5), ("p90", 0.9), ("p99", 0.99)), colours, strict=True):
        values = np.round(percentiles(chosen.histogram, share) * 1e3, 6)
        traces += _line(chosen, values, colour, name=name, hovertemplate="%{y:,.3~g} ms")
    axis = {"type": "log", "ticksuffix": " ms", "dtick": 1, "tickformat": "~g", "minor": {"dtick": "D1"}}
    return figure(theme, traces, xaxis=time_axis(chosen), yaxis=axis, showlegend=True)


def hit_rate(theme: Theme, chosen: Selection) -> Figure:
    """Share of the calls answered by the cache among those that asked it."""
    asked = chosen.hits + chosen.misses
    shares = np.where(asked > 0, chosen.hits / np.maximum(asked, 1), np.nan)
    traces = _line(chosen, np.round(shares, 5), theme.sources["cache"], name="hit rate", hovertemplate="%{y:.1%}")
    axis = {"range": [0, 1.02], "tickformat": ".0%", "nticks": 5}
    return figure(theme, traces, xaxis=time_axis(chosen), yaxis=axis, showlegend=False)


def _line(chosen: Selection, values: Any, colour: str, **trace: Any) -> list[dict[str, Any]]:
    """A line over time, with a mark at each point that has no neighbour."""
    traces = [over_time(chosen, values, line={"width": 1.6, "color": colour}, **trace)]
    at = alone(values)
    if len(at):
        traces.append(marks(trace["name"], [f"{chosen.times[n]}Z" for n in at], values[at], colour))
    return traces


def stacked_counts(theme: Theme, chosen: Selection, counts: Mapping[str, Any], colours: Mapping[str, str]) -> Figure:
    """Counts over time, stacked: errors by kind, fallbacks by source.

    A count spans its interval from start to end, as a bar would; a step line is a single shape where bars are one
    shape each. The zero after the last interval ends the last step.
    """
    ranked = sorted(counts, key=lambda name: -int(counts[name].sum()))
    traces = []
    for n, name in enumerate(ranked):
        colour = colours.get(name, theme.series[(n + 3) % len(theme.series)])
        traces.append(
            over_time(
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
        xaxis=time_axis(chosen),
        yaxis={"rangemode": "tozero", "tickformat": ",~d"},
        showlegend=True,
    )


def states(theme: Theme, chosen: Selection) -> Figure:
    """How often processes were seen with an open or half-open breaker."""
    counts = {
        f"{name.removeprefix('breaker.')} {state.replace('_', ' ')}": seen
        for name, by_state in chosen.states.items()
        for state, seen in by_state.items()
    }
    colours = {name: theme.bad if name.endswith(" open") else theme.warn for name in counts}
    return stacked_counts(theme, chosen, counts, colours)
