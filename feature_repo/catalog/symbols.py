"""The symbols that can be traded, and the sessions in which they trade."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import time
from types import MappingProxyType
from typing import Literal

from feature_repo.catalog.errors import CatalogError


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """When a market is open.

    Attributes:
        kind: ``fx`` (Sunday 17:00 to Friday 17:00 New York), ``24x7``, or ``exchange`` (a calendar's sessions).
        timezone: IANA zone of ``day_start``.
        day_start: local time at which a day, and so its 1d and 4h bars, begins.
        calendar: code of the calendar in ``exchange_calendars``; exchange sessions only.
        rest: local times from and to which the market rests every day, such as 17:00 to 18:00; None if it does not. A
            calendar's own breaks need no rest: it is for those that the calendar does not have.
        moved: the zones that replaced ``timezone``, each with the first local date in it, ascending: a broker's server
            that was moved. Best a date without trading, because the day before may be cut short.
    """

    name: str
    kind: Literal["fx", "24x7", "exchange"]
    timezone: str
    day_start: str = "00:00"
    calendar: str | None = None
    rest: tuple[str, str] | None = None
    moved: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        try:
            begins, ends = (time.fromisoformat(clock) for clock in self.rest or ("00:00", "00:01"))
        except ValueError as error:
            raise ValueError(f"session {self.name!r}: rest {self.rest!r} is not two local times: {error}") from None
        if begins >= ends:
            raise ValueError(f"session {self.name!r}: its rest ends at {ends:%H:%M}, not after {begins:%H:%M}")

    @property
    def clock(self) -> str:
        """The zone with its changes, as ``Europe/Berlin,2014-11-23=Europe/Athens``."""
        return ",".join((self.timezone, *(f"{day}={zone}" for day, zone in self.moved)))


SESSIONS: Mapping[str, Session] = MappingProxyType(
    {
        s.name: s
        for s in (
            Session(name="fx", kind="fx", timezone="America/New_York", day_start="17:00"),
            # Gold and silver trade by the currencies' days, each of which begins with an hour of rest.
            Session(name="metals", kind="fx", timezone="America/New_York", day_start="17:00", rest=("17:00", "18:00")),
            # A MetaTrader broker's own days, midnight to midnight, of a server that was moved from CET to EET.
            Session(name="fx_broker", kind="fx", timezone="Europe/Berlin", moved=(("2014-11-23", "Europe/Athens"),)),
            Session(name="24x7", kind="24x7", timezone="UTC"),
            # An exchange's daily bar is labelled by its date at 00:00 UTC, as data vendors do.
            Session(name="us_equity", kind="exchange", timezone="UTC", calendar="XNYS"),
        )
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbol:
    """One instrument.

    Attributes:
        digits: decimals that prices are quoted with.
        price_min, price_max: a price outside of these is a unit error (points, or cents for dollars). A ``price_min``
            below zero says that the symbol may trade below zero.
    """

    name: str
    session: Session
    digits: int
    price_min: float
    price_max: float

    @property
    def may_be_below_zero(self) -> bool:
        """Whether prices of zero and below are prices."""
        return self.price_min < 0


_SYMBOL_NAME = re.compile(r"[A-Z0-9][A-Z0-9._-]{0,14}(/[A-Z0-9][A-Z0-9._-]{0,14})?", re.ASCII)

_SYMBOL_ROWS: tuple[tuple[str, int, float, float, str], ...] = (
    # session, digits, lowest and highest plausible price, symbols
    ("fx", 5, 0.3, 3.5, "EUR/USD GBP/USD AUD/USD NZD/USD USD/CAD USD/CHF EUR/GBP EUR/CHF EUR/AUD EUR/CAD EUR/NZD"),
    ("fx", 5, 0.3, 3.5, "GBP/AUD GBP/CAD GBP/CHF GBP/NZD AUD/CAD AUD/CHF AUD/NZD NZD/CAD NZD/CHF CAD/CHF"),
    ("fx", 3, 40.0, 400.0, "USD/JPY EUR/JPY GBP/JPY AUD/JPY NZD/JPY CAD/JPY CHF/JPY"),
    ("fx", 5, 1.0, 60.0, "USD/SEK USD/NOK USD/DKK USD/SGD USD/HKD USD/MXN USD/ZAR USD/PLN EUR/SEK EUR/NOK USD/CNH"),
    ("metals", 3, 200.0, 20_000.0, "XAU/USD"),
    ("metals", 4, 2.0, 500.0, "XAG/USD"),
    ("fx_broker", 5, 0.3, 3.5, "AUD/USD.MT"),
    ("24x7", 2, 0.01, 10_000_000.0, "BTC/USD BTC/EUR BTC/USDT ETH/USD ETH/EUR ETH/USDT"),
    ("24x7", 6, 0.000_001, 100_000.0, "SOL/USD SOL/USDT XRP/USD XRP/USDT ADA/USD ADA/USDT DOGE/USD DOGE/USDT"),
    ("24x7", 6, 0.000_001, 100_000.0, "LTC/USD LTC/USDT BNB/USDT DOT/USDT LINK/USDT AVAX/USDT"),
    ("us_equity", 4, 0.01, 100_000.0, "GOOG GOOGL AAPL MSFT AMZN META NVDA TSLA AVGO BRK.B JPM LLY V UNH XOM MA COST"),
    ("us_equity", 4, 0.01, 100_000.0, "HD PG JNJ WMT NFLX BAC CRM ORCL CVX KO AMD PEP LIN TMO ADBE CSCO MCD ABT WFC"),
    ("us_equity", 4, 0.01, 100_000.0, "IBM GE CAT QCOM INTC DIS SPY QQQ IWM DIA GLD TLT"),
)

SYMBOLS: Mapping[str, Symbol] = MappingProxyType(
    {
        name: Symbol(name=name, session=SESSIONS[session], digits=digits, price_min=low, price_max=high)
        for session, digits, low, high, names in _SYMBOL_ROWS
        for name in names.split()
    }
)


def symbol(name: str) -> Symbol:
    """The symbol called ``name``, spelled exactly as in the catalog.

    Raises:
        CatalogError: there is no such symbol; so are names with look-alike letters, control characters or path parts.
    """
    try:
        return SYMBOLS[name]
    except (KeyError, TypeError):
        remedy = "Symbols are listed in feature_repo/catalog/symbols.py; add a row there to trade a new one."
        raise CatalogError("symbol", name, SYMBOLS, remedy) from None


for _name in SYMBOLS:
    if not _SYMBOL_NAME.fullmatch(_name):
        raise ValueError(f"catalog: {_name!r} is not a valid symbol name (A-Z, 0-9, . _ - and one /)")
