"""Exports of trading programs and data vendors without a header, or with one of their own: known by their rows.

Two of them differ only in their volume: HistData writes 0 on every row, MetaTrader counts at least one tick
per bar.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flows.sources.columns import PRICES

HISTDATA_CLOCKS = (
    "Etc/GMT+5",
    "America/New_York",
    "America/New_York,2018-12-16=Europe/Zurich-6h",
    "Europe/Zurich-6h",
)
"""The clocks that HistData's files have been seen on. Its specification ("Data Files - Detailed Specification") says
Eastern Standard Time all the year, the first; files of summers show New York's daylight saving time, and later ones
Zurich's clock less six hours. In winter all are alike; in summer only the file's own hours of the week decide."""

_MIN_FITTING_SHARE = 0.9  # of the rows looked at
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_DATE, _CLOCK = r"\d{4}\.\d\d\.\d\d", r"\d\d:\d\d(?::\d\d)?"
_BAR = dict.fromkeys(PRICES, _NUMBER)
_NONE = {"always_zero": "0"}  # no volume: the name is of no column that we know
_MT5 = {**_BAR, "tickvol": r"\d+", "vol": r"\d+", "spread": r"\d+"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """An export without a header.

    Attributes:
        columns: name and pattern of each cell, in their order.
        clocks: the clocks that its times may be on, the documented one first; empty where they are on the clock of
            the computer that exported it.
    """

    format: str
    delimiters: str
    columns: Mapping[str, str]
    clocks: tuple[str, ...] = ()

    def fits(self, rows: Sequence[Sequence[str]]) -> bool:
        """Whether the first row is one of this export's, and all but the odd damaged one after it."""
        patterns = self.columns.values()
        fitting = [len(row) == len(patterns) and all(map(re.fullmatch, patterns, row)) for row in rows]
        return fitting[0] and sum(fitting) >= _MIN_FITTING_SHARE * len(fitting)


def _histdata(delimiter: str, **columns: str) -> Export:
    return Export(format="histdata", delimiters=delimiter, columns={**columns, **_NONE}, clocks=HISTDATA_CLOCKS)


EXPORTS: tuple[Export, ...] = (
    _histdata(";", time=r"\d{8} \d{6}", **_BAR),  # generic ASCII, NinjaTrader
    _histdata(",", date=_DATE, time=r"\d\d:\d\d", **_BAR),  # MetaTrader
    _histdata(",", symbol="[A-Z]{6}", time=r"\d{12}", **_BAR),  # MetaStock
    _histdata(",", time=r"\d{8} \d{9}", bid=_NUMBER, ask=_NUMBER),  # generic ASCII ticks
    _histdata(";", time=r"\d{8} \d{6}", price=_NUMBER),  # NinjaTrader ticks of one side
    Export(format="mt4", delimiters=",;", columns={"date": _DATE, "time": _CLOCK, **_BAR, "volume": r"\d+"}),
    Export(format="mt5", delimiters="\t,;", columns={"date": _DATE, "time": _CLOCK, **_MT5}),
    Export(format="mt5", delimiters="\t,;", columns={"date": _DATE, **_MT5}),  # daily and longer bars
)
SHEETS: tuple[Export, ...] = (_histdata(",", time=r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", **_BAR),)
"""Those that come as an Excel sheet."""


def is_mt5(names: Sequence[str]) -> bool:
    """Whether this is the header of MetaTrader 5's bars or ticks, or of the bars that its Python package returns."""
    return any(
        header <= {name.upper() for name in names}
        for header in (
            {"<DATE>", "<TICKVOL>"},
            {"<DATE>", "<BID>", "<FLAGS>"},
            {"TICK_VOLUME", "SPREAD", "REAL_VOLUME"},
        )
    )
