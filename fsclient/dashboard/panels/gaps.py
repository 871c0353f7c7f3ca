"""Missing bars of a symbol and timeframe by trading day, a year at a time."""

from __future__ import annotations

from typing import Any

from feature_repo.stores.tables import OFFLINE_OUTAGE
from fsclient.dashboard import widgets
from fsclient.dashboard.charts import quality
from fsclient.dashboard.sources import Sources
from fsclient.dashboard.theme import Theme


def years(sources: Sources, symbol: str | None, timeframe: str | None) -> list[str]:
    """The years that have bars, ascending."""
    if not symbol or not timeframe:
        return []
    try:
        missing = sources.market.missing_by_day(symbol, timeframe)
    except OFFLINE_OUTAGE:
        return []
    return sorted({str(day.year) for day in missing})


def calendar(sources: Sources, look: Theme, symbol: str | None, timeframe: str | None, year: str | None) -> Any:
    """A calendar of the trading days of a year that lack bars."""
    if not symbol or not timeframe or not year:
        return widgets.empty("No bars yet", "Once there are bars, a calendar shows which trading days lack some.")
    try:
        missing = sources.market.missing_by_day(symbol, timeframe)
    except OFFLINE_OUTAGE as error:
        return widgets.empty("The offline store can't be read", type(error).__name__)
    of_year = {day: bars for day, bars in missing.items() if day.year == int(year)}
    return widgets.graph("quality-calendar-chart", quality.calendar(look, of_year, int(year)), 190)


def gap_note(sources: Sources, symbol: str | None, timeframe: str | None, year: str | None) -> str:
    """How many bars are missing, in a sentence."""
    if not symbol or not timeframe or not year:
        return ""
    try:
        missing = sources.market.missing_by_day(symbol, timeframe)
    except OFFLINE_OUTAGE:
        return ""
    of_year = [bars for day, bars in missing.items() if day.year == int(year)]
    return (
        f"{sum(of_year):,} bars missing on {sum(b > 0 for b in of_year):,} of {len(of_year):,} trading days in {year}; "
        f"{sum(missing.values()):,} in all years"
    )
