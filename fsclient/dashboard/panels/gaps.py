"""Missing bars of a symbol and timeframe by trading day, a year at a time."""

from __future__ import annotations

from typing import Any

from feature_repo.stores.tables import OFFLINE_OUTAGE
from fsclient.dashboard import widgets
from fsclient.dashboard.charts import quality
from fsclient.dashboard.sources import Sources
from fsclient.dashboard.theme import Theme


def years(sources: Sources, name: str | None, tf: str | None) -> list[str]:
    """Years with bars, ascending."""
    if not name or not tf:
        return []
    try:
        missing = sources.market.missing_by_day(name, tf)
    except OFFLINE_OUTAGE:
        return []
    return sorted({str(day.year) for day in missing})


def calendar(sources: Sources, look: Theme, name: str | None, tf: str | None, year: str | None) -> Any:
    """Which trading days of a year lack bars."""
    if not name or not tf or not year:
        return widgets.empty("No bars yet", "The calendar shows which trading days lack bars, once there are some.")
    try:
        missing = sources.market.missing_by_day(name, tf)
    except OFFLINE_OUTAGE as error:
        return widgets.empty("The offline store can't be read", type(error).__name__)
    of_year = {day: bars for day, bars in missing.items() if day.year == int(year)}
    return widgets.graph("quality-calendar-chart", quality.calendar(look, of_year, int(year)), 190)


def gap_note(sources: Sources, name: str | None, tf: str | None, year: str | None) -> str:
    """How many bars are missing."""
    if not name or not tf or not year:
        return ""
    try:
        missing = sources.market.missing_by_day(name, tf)
    except OFFLINE_OUTAGE:
        return ""
    of_year = [bars for day, bars in missing.items() if day.year == int(year)]
    return (
        f"{sum(of_year):,} bars missing on {sum(b > 0 for b in of_year):,} of {len(of_year):,} trading days in {year}; "
        f"{sum(missing.values()):,} in all years"
    )
