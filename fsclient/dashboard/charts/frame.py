"""What all charts share: template, margins and time axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fsclient.dashboard.theme import Theme, template
from fsclient.dashboard.traffic.selection import Selection

Figure = dict[str, Any]


def figure(theme: Theme, traces: Sequence[Mapping[str, Any]], **layout: Any) -> Figure:
    """A figure with the theme's template and margins that fit a card."""
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


def over_time(chosen: Selection, values: Any, **trace: Any) -> dict[str, Any]:
    """A trace at equal steps, given by its first time and the step."""
    return {
        "x0": str(chosen.times[0]) + "Z",
        "dx": chosen.step_s * 1000,
        "y": values,
        "type": "scatter",
        "mode": "lines",
        "line": {"width": 1.5},
        **trace,
    }


def alone(values: Any) -> npt.NDArray[np.intp]:
    """Positions of values without a neighbour, which a line would not show."""
    known = np.isfinite(values)
    beside = np.zeros(len(values), bool)
    beside[1:] |= known[:-1]
    beside[:-1] |= known[1:]
    return np.flatnonzero(known & ~beside)


def marks(name: str, x: Sequence[str], y: Any, colour: str, **trace: Any) -> dict[str, Any]:
    """A mark at each of these points. Marks at every value would cost a browser several times what a line costs."""
    return {
        "type": "scatter",
        "mode": "markers",
        "x": x,
        "y": y,
        "name": f"{name}, alone",
        "marker": {"size": 4, "color": colour},
        "showlegend": False,
        "hoverinfo": "skip",
        **trace,
    }


def time_axis(chosen: Selection) -> dict[str, Any]:
    """An axis over the whole selected period, whether or not there are values at its ends."""
    first, last = chosen.times[0], chosen.times[-1] + np.timedelta64(chosen.step_s, "s")
    return {"type": "date", "range": [str(first), str(last)], "nticks": 6, "tickangle": 0}


def nothing(theme: Theme, text: str) -> Figure:
    """An empty chart that says why it is empty."""
    note = {
        "text": text,
        "xref": "paper",
        "yref": "paper",
        "x": 0.5,
        "y": 0.5,
        "showarrow": False,
        "font": {"color": theme.muted, "size": 13},
    }
    hidden = {"visible": False}
    return figure(theme, [], annotations=[note], xaxis=hidden, yaxis=hidden)
