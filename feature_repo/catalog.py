"""What exists, as data: timeframes, sessions, symbols, indicators, and the views made of them.

Everything else loops over these tables. Every name of a view, field, source or service is made here once and
looked up here afterwards; no other module builds a name or takes one apart. To add a symbol, an indicator or a
timeframe, add a row.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

PROJECT = "fstore"
ENTITY = "symbol"
WINDOW_BARS = 512
"""How many closed bars the online window of a symbol and timeframe holds."""


def _shown(name: object) -> str:
    """A name as an error tells it: escaped, and not longer than a line."""
    text = ascii(name)
    return text if len(text) <= 80 else text[:77] + "..."


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The names nearest to one that is not known, in whatever case it was written, as a question; or nothing."""
    spelt: dict[str, str] = {}
    for right in known:
        spelt.setdefault(right.casefold(), right)
    near = difflib.get_close_matches(str(name)[:64].casefold(), list(spelt), n=3, cutoff=0.5)
    return f" Did you mean {', '.join(spelt[n] for n in near)}?" if near else ""


class CatalogError(LookupError):
    """A name that the catalog does not have; the message says which, and the nearest that it has.

    Attributes:
        kind: what was looked up: ``"symbol"``, ``"timeframe"``, ``"feature"`` or ``"indicator kind"``.
        name: the name that was asked for.
    """

    def __init__(self, kind: str, name: object, known: Iterable[str], remedy: str) -> None:
        super().__init__(f"unknown {kind} {_shown(name)}.{did_you_mean(name, known)} {remedy}")
        self.kind = kind
        self.name = name


# ------------------------------------------------------------------------------------------------ timeframes


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeframe:
    """A bar length. Lengths below four hours are cut from the UTC hour, longer ones from the session's day start."""

    name: str
    seconds: int

    @property
    def microseconds(self) -> int:
        return self.seconds * 1_000_000

    @property
    def from_day_start(self) -> bool:
        """Whether bars are cut from the session's day start instead of the UTC hour."""
        return self.seconds > 3600


TIMEFRAMES: Mapping[str, Timeframe] = MappingProxyType(
    {
        name: Timeframe(name=name, seconds=seconds)
        for name, seconds in (
            ("1m", 60),
            ("5m", 300),
            ("15m", 900),
            ("30m", 1800),
            ("1h", 3600),
            ("4h", 14_400),
            ("1d", 86_400),
        )
    }
)


def timeframe(name: str) -> Timeframe:
    """The timeframe called ``name``.

    Raises:
        CatalogError: there is none.
    """
    try:
        return TIMEFRAMES[name]
    except (KeyError, TypeError):
        raise CatalogError("timeframe", name, TIMEFRAMES, f"Known: {', '.join(TIMEFRAMES)}.") from None


# -------------------------------------------------------------------------------------------------- sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """When a market is open.

    Attributes:
        kind: ``fx`` (Sunday 17:00 to Friday 17:00 New York), ``24x7``, or ``exchange`` (a calendar's sessions).
        timezone: IANA zone that ``day_start`` is told in.
        day_start: local time at which a day, and so its 1d and 4h bars, begins.
        calendar: code of the calendar in ``exchange_calendars``; exchange sessions only.
        moved: the zones that ``timezone`` gave way to, each with the first local date that was told in it, ascending:
            a broker's server that was moved. Best a date without trading, for the day before may be cut short.
    """

    name: str
    kind: Literal["fx", "24x7", "exchange"]
    timezone: str
    day_start: str = "00:00"
    calendar: str | None = None
    moved: tuple[tuple[str, str], ...] = ()

    @property
    def clock(self) -> str:
        """The zone with its changes, as ``Europe/Berlin,2014-11-23=Europe/Athens``."""
        return ",".join((self.timezone, *(f"{day}={zone}" for day, zone in self.moved)))


SESSIONS: Mapping[str, Session] = MappingProxyType(
    {
        s.name: s
        for s in (
            Session(name="fx", kind="fx", timezone="America/New_York", day_start="17:00"),
            # A MetaTrader broker's own days, midnight to midnight, of a server that was moved from CET to EET.
            Session(name="fx_broker", kind="fx", timezone="Europe/Berlin", moved=(("2014-11-23", "Europe/Athens"),)),
            Session(name="24x7", kind="24x7", timezone="UTC"),
            # An exchange's daily bar is labelled by its date at 00:00 UTC, as data vendors do.
            Session(name="us_equity", kind="exchange", timezone="UTC", calendar="XNYS"),
        )
    }
)


# --------------------------------------------------------------------------------------------------- symbols


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbol:
    """One instrument.

    Attributes:
        digits: decimals that prices are quoted with.
        price_min, price_max: a price outside of these is a unit error (points for prices, cents for dollars).
    """

    name: str
    session: Session
    digits: int
    price_min: float
    price_max: float


_SYMBOL_NAME = re.compile(r"[A-Z0-9][A-Z0-9._-]{0,14}(/[A-Z0-9][A-Z0-9._-]{0,14})?", re.ASCII)

_SYMBOL_ROWS: tuple[tuple[str, int, float, float, str], ...] = (
    # session, digits, lowest and highest plausible price, symbols
    ("fx", 5, 0.3, 3.5, "EUR/USD GBP/USD AUD/USD NZD/USD USD/CAD USD/CHF EUR/GBP EUR/CHF EUR/AUD EUR/CAD EUR/NZD"),
    ("fx", 5, 0.3, 3.5, "GBP/AUD GBP/CAD GBP/CHF GBP/NZD AUD/CAD AUD/CHF AUD/NZD NZD/CAD NZD/CHF CAD/CHF"),
    ("fx", 3, 40.0, 400.0, "USD/JPY EUR/JPY GBP/JPY AUD/JPY NZD/JPY CAD/JPY CHF/JPY"),
    ("fx", 5, 1.0, 60.0, "USD/SEK USD/NOK USD/DKK USD/SGD USD/HKD USD/MXN USD/ZAR USD/PLN EUR/SEK EUR/NOK USD/CNH"),
    ("fx", 3, 200.0, 20_000.0, "XAU/USD"),
    ("fx", 4, 2.0, 500.0, "XAG/USD"),
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
    """The symbol called ``name``, spelt exactly as in the catalog.

    Raises:
        CatalogError: there is none; names with look-alike letters, control characters or path parts end here too.
    """
    try:
        return SYMBOLS[name]
    except (KeyError, TypeError):
        remedy = "Symbols are listed in feature_repo/catalog.py; add a row there to trade a new one."
        raise CatalogError("symbol", name, SYMBOLS, remedy) from None


# ------------------------------------------------------------------------------------------------ indicators

CONVERGED = 1e-12
"""Weight of the oldest bar at which a recursive average counts as converged. Kept well below the promised 1e-9,
because the error at the seed can be many times the value itself (an MACD near zero)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Indicator:
    """One indicator with its parameters.

    Attributes:
        name: unique name of the indicator.
        kind: which kernel of ``feature_repo.indicators`` computes it.
        parameters: the kernel's keyword arguments.
        inputs: bar columns that the kernel takes (``session_day`` is the bar's trading day, days since 1970-01-01).
        outputs: names of the float64 columns that it gives, unique in the catalog.
        lookback: bars that must precede a bar before its value exists; the first ``lookback`` values may be NaN.
        warm_up: bars that must precede a bar until its value is within 1e-9 of the value computed from all history;
            None for a cumulative indicator, which never forgets where it began.
        low, high: bounds that every value keeps, as the definition implies; None where there is none.
    """

    name: str
    kind: str
    parameters: Mapping[str, float] = field(default_factory=dict)
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    lookback: int
    warm_up: int | None
    low: float | None = None
    high: float | None = None


def _exponential(alpha: float) -> int:
    """Bars until the weight ``(1 - alpha) ** n`` of an exponential average's seed falls below ``CONVERGED``."""
    return math.ceil(math.log(CONVERGED) / math.log1p(-alpha))


def _ema(window: float) -> int:
    return _exponential(2 / (window + 1))


def _wilder(window: float) -> int:
    return _exponential(1 / window)


_HLC = ("high", "low", "close")
_DAY_BARS = 1440  # bars of a trading day at the shortest timeframe


def _indicator_rows() -> Iterable[Indicator]:
    close = ("close",)
    for n in (5, 10, 20, 50, 100, 200):
        yield Indicator(name=f"sma_{n}", kind="sma", parameters={"window": n}, inputs=close,
                        outputs=(f"sma_{n}",), lookback=n - 1, warm_up=n - 1, low=0.0)  # fmt: skip
    for n in (9, 12, 20, 26, 50, 200):
        yield Indicator(name=f"ema_{n}", kind="ema", parameters={"window": n}, inputs=close,
                        outputs=(f"ema_{n}",), lookback=n - 1, warm_up=n + _ema(n), low=0.0)  # fmt: skip
    for n in (7, 14, 21):
        yield Indicator(name=f"rsi_{n}", kind="rsi", parameters={"window": n}, inputs=close,
                        outputs=(f"rsi_{n}",), lookback=n, warm_up=n + _wilder(n), low=0.0, high=100.0)  # fmt: skip
    yield Indicator(name="macd_12_26_9", kind="macd", parameters={"fast": 12, "slow": 26, "signal": 9}, inputs=close,
                    outputs=("macd", "macd_signal", "macd_hist"), lookback=33,
                    warm_up=33 + _ema(26) + _ema(9))  # fmt: skip
    yield Indicator(name="bollinger_20_2", kind="bollinger", parameters={"window": 20, "deviations": 2.0}, inputs=close,
                    outputs=("bb_upper", "bb_middle", "bb_lower", "bb_width", "bb_percent_b"),
                    lookback=19, warm_up=19)  # fmt: skip
    yield Indicator(name="atr_14", kind="atr", parameters={"window": 14}, inputs=_HLC, outputs=("atr_14",),
                    lookback=14, warm_up=14 + _wilder(14), low=0.0)  # fmt: skip
    yield Indicator(name="dmi_14", kind="dmi", parameters={"window": 14}, inputs=_HLC,
                    outputs=("adx_14", "plus_di_14", "minus_di_14"), lookback=27,
                    warm_up=27 + 2 * _wilder(14), low=0.0, high=100.0)  # fmt: skip
    yield Indicator(name="stochastic_14_3_3", kind="stochastic", parameters={"fast_k": 14, "slow_k": 3, "slow_d": 3},
                    inputs=_HLC, outputs=("stoch_k", "stoch_d"), lookback=17, warm_up=17,
                    low=0.0, high=100.0)  # fmt: skip
    yield Indicator(name="cci_20", kind="cci", parameters={"window": 20}, inputs=_HLC, outputs=("cci_20",),
                    lookback=19, warm_up=19)  # fmt: skip
    yield Indicator(name="williams_r_14", kind="williams_r", parameters={"window": 14}, inputs=_HLC,
                    outputs=("williams_r_14",), lookback=13, warm_up=13, low=-100.0, high=0.0)  # fmt: skip
    yield Indicator(name="roc_10", kind="roc", parameters={"window": 10}, inputs=close, outputs=("roc_10",),
                    lookback=10, warm_up=10, low=-100.0)  # fmt: skip
    yield Indicator(name="mfi_14", kind="mfi", parameters={"window": 14}, inputs=(*_HLC, "volume"),
                    outputs=("mfi_14",), lookback=14, warm_up=14, low=0.0, high=100.0)  # fmt: skip
    yield Indicator(name="obv", kind="obv", inputs=("close", "volume"), outputs=("obv",), lookback=0, warm_up=None)
    yield Indicator(name="donchian_20", kind="donchian", parameters={"window": 20}, inputs=("high", "low"),
                    outputs=("donchian_upper", "donchian_middle", "donchian_lower"), lookback=19, warm_up=19,
                    low=0.0)  # fmt: skip
    yield Indicator(name="keltner_20", kind="keltner", parameters={"window": 20, "atr_window": 10, "multiplier": 2.0},
                    inputs=_HLC, outputs=("keltner_upper", "keltner_middle", "keltner_lower"), lookback=19,
                    warm_up=20 + _wilder(10) + _ema(20))  # fmt: skip
    yield Indicator(name="supertrend_10_3", kind="supertrend", parameters={"window": 10, "multiplier": 3.0},
                    inputs=_HLC, outputs=("supertrend", "supertrend_direction"), lookback=10,
                    warm_up=None)  # fmt: skip
    yield Indicator(name="returns", kind="returns", inputs=close, outputs=("returns",), lookback=1, warm_up=1, low=-1.0)
    yield Indicator(
        name="log_returns", kind="log_returns", inputs=close, outputs=("log_returns",), lookback=1, warm_up=1
    )
    yield Indicator(name="volatility_20", kind="volatility", parameters={"window": 20}, inputs=close,
                    outputs=("volatility_20",), lookback=20, warm_up=20, low=0.0)  # fmt: skip
    # Of n values none lies more than sqrt(n - 1) population deviations from their mean (Samuelson's inequality).
    yield Indicator(name="zscore_20", kind="zscore", parameters={"window": 20}, inputs=close, outputs=("zscore_20",),
                    lookback=19, warm_up=19, low=-math.sqrt(19), high=math.sqrt(19))  # fmt: skip
    yield Indicator(name="vwap", kind="vwap", inputs=(*_HLC, "volume", "session_day"), outputs=("vwap",),
                    lookback=0, warm_up=_DAY_BARS - 1, low=0.0)  # fmt: skip


INDICATORS: Mapping[str, Indicator] = MappingProxyType({i.name: i for i in _indicator_rows()})


# ----------------------------------------------------------------------------------------- views and fields

BAR_FIELDS: tuple[str, ...] = ("open", "high", "low", "close", "volume")
INDICATOR_FIELDS: tuple[str, ...] = tuple(out for i in INDICATORS.values() for out in i.outputs)
PRODUCER: Mapping[str, Indicator] = MappingProxyType({out: i for i in INDICATORS.values() for out in i.outputs})
"""Which indicator gives a field."""
WINDOW_TIME = "open_time"
"""The window's time column: open times of its bars, seconds since 1970-01-01 UTC, as float64 (exact to 2**53)."""
WINDOW_FIELDS: tuple[str, ...] = (WINDOW_TIME, *BAR_FIELDS, *INDICATOR_FIELDS)


def field_names(names: Iterable[str]) -> tuple[str, ...]:
    """``names`` with each indicator's name replaced by its outputs; a field's own name stays itself.

    Raises:
        CatalogError: a name is neither a bar column, a field nor an indicator.
    """
    found: list[str] = []
    for name in names:
        if name in PRODUCER or name in BAR_FIELDS:
            found.append(name)
        elif name in INDICATORS:
            found.extend(INDICATORS[name].outputs)
        else:
            known = (*BAR_FIELDS, *INDICATOR_FIELDS, *INDICATORS)
            raise CatalogError("feature", name, known, "Features are listed in feature_repo/catalog.py.")
    return tuple(dict.fromkeys(found))


ViewKind = Literal["ohlcv", "indicators", "window"]
VIEW_KINDS: tuple[ViewKind, ...] = ("ohlcv", "indicators", "window")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One Feast feature view: its name, its source's name, and its fields (float64, or arrays of it in a window)."""

    name: str
    source: str
    kind: ViewKind
    timeframe: Timeframe
    fields: tuple[str, ...]

    @property
    def is_window(self) -> bool:
        return self.kind == "window"


_FIELDS: Mapping[ViewKind, tuple[str, ...]] = {
    "ohlcv": BAR_FIELDS,
    "indicators": INDICATOR_FIELDS,
    "window": WINDOW_FIELDS,
}

VIEWS: Mapping[str, View] = MappingProxyType(
    {
        v.name: v
        for tf in TIMEFRAMES.values()
        for kind in VIEW_KINDS
        for v in (
            View(
                name=f"{kind}_{tf.name}",
                source=f"{kind}_{tf.name}_source",
                kind=kind,
                timeframe=tf,
                fields=_FIELDS[kind],
            ),
        )
    }
)
VIEW_OF_SOURCE: Mapping[str, View] = MappingProxyType({v.source: v for v in VIEWS.values()})
_VIEW_OF: Mapping[tuple[ViewKind, str], View] = {(v.kind, v.timeframe.name): v for v in VIEWS.values()}


def view(kind: ViewKind, timeframe_name: str) -> View:
    """The view of a kind at a timeframe."""
    return _VIEW_OF[kind, timeframe(timeframe_name).name]


SERVICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        # everything of one timeframe, newest closed bar; and a mix of timeframes as a strategy reads them
        **{f"latest_{tf}": (f"ohlcv_{tf}", f"indicators_{tf}") for tf in TIMEFRAMES},
        **{f"window_service_{tf}": (f"window_{tf}",) for tf in TIMEFRAMES},
    }
)
"""Feature services: name -> the views they serve."""


def _check() -> None:
    for name in SYMBOLS:
        if not _SYMBOL_NAME.fullmatch(name):
            raise ValueError(f"catalog: {name!r} is no valid symbol name (A-Z, 0-9, . _ - and one /)")
    fields = (*BAR_FIELDS, *INDICATOR_FIELDS)
    if len(set(fields)) != len(fields):
        raise ValueError("catalog: two indicators share an output name")
    for name, indicator in INDICATORS.items():
        if name in fields and indicator.outputs != (name,):
            raise ValueError(f"catalog: {name} names both an indicator and a field that is not its only output")


_check()
