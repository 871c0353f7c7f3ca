"""The two chart templates, light and dark: Plotly's own with the colours of the style sheet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

ThemeName = Literal["light", "dark"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """Colours of one theme.

    Attributes:
        sources: source of an answer -> its colour, the same in every chart.
        series: colours for everything else, in order.
    """

    name: ThemeName
    text: str
    muted: str
    grid: str
    card: str
    good: str
    warn: str
    bad: str
    up: str
    down: str
    closed: str
    gap: str
    sources: Mapping[str, str]
    series: tuple[str, ...]


_LIGHT = Theme(
    name="light", text="#17202e", muted="#5d6b7e", grid="#e9edf2", card="#ffffff",
    good="#0b7a4b", warn="#b97509", bad="#c22a2a", up="#0b7a4b", down="#c22a2a",
    closed="rgba(93,107,126,.09)", gap="rgba(194,42,42,.16)",
    sources={"cache": "#12a594", "online": "#1d5fd1", "offline": "#7a5af0", "recomputed": "#c98a12",
             "last_good": "#d9620f", "": "#c22a2a"},
    series=("#1d5fd1", "#c98a12", "#7a5af0", "#12a594", "#d9620f", "#c0398f", "#5d6b7e", "#3f8f29"),
)  # fmt: skip
_DARK = Theme(
    name="dark", text="#e4e9f0", muted="#93a1b5", grid="#242c37", card="#161b23",
    good="#4fd09a", warn="#f0b653", bad="#ff8585", up="#3fbf8a", down="#f07171",
    closed="rgba(147,161,181,.09)", gap="rgba(255,133,133,.22)",
    sources={"cache": "#3cc9b8", "online": "#6aa5ff", "offline": "#a693ff", "recomputed": "#e9b44c",
             "last_good": "#ff9a52", "": "#ff8585"},
    series=("#6aa5ff", "#e9b44c", "#a693ff", "#3cc9b8", "#ff9a52", "#ee7fc4", "#93a1b5", "#8bcf6d"),
)  # fmt: skip


def theme(name: str | None) -> Theme:
    """The theme with this name; light for an unknown name."""
    return _DARK if name == "dark" else _LIGHT


@lru_cache(maxsize=2)
def template(name: ThemeName) -> dict[str, Any]:
    """The Plotly template of a theme as a plain dict, with only the parts of Plotly's own templates that are used."""
    import plotly.io as pio

    colours = theme(name)
    base = pio.templates["plotly_dark" if name == "dark" else "plotly_white"].to_plotly_json()["layout"]
    axis = {
        "gridcolor": colours.grid, "zerolinecolor": colours.grid, "linecolor": colours.grid,
        "title": {"standoff": 8}, "tickfont": {"color": colours.muted, "size": 11}, "ticks": "",
    }  # fmt: skip
    return {
        "layout": {
            "colorscale": base["colorscale"],
            "colorway": list(colours.series),
            "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 12,
                     "color": colours.text},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "hovermode": "x unified",
            "hoverlabel": {"bgcolor": colours.card, "bordercolor": colours.grid,
                           "font": {"color": colours.text, "size": 12}, "align": "left"},
            "xaxis": axis,
            "yaxis": axis,
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom",
                       "font": {"size": 11, "color": colours.muted}, "itemwidth": 30},
        }
    }  # fmt: skip
