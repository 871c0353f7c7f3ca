"""The rules that bars and indicator rows must keep, as data.

A rule demands one thing of its columns. ``flows.quality.suite`` turns the demand into a great-expectations expectation,
``flows.quality.masks`` into a mask of the rows that break it, ``flows.quality.fast_rules`` into a comparison for live
bars; all three read the same numbers here. To add a rule, add a row.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS, PRODUCER, Symbol, Timeframe

TIME = "datetime64[us, UTC]"
NUMBER = "float64"
FINITE = sys.float_info.max

ON_GRID = "on_grid"
CLOSED_FOR_S = "closed_for_s"
IDLE = "idle"
UNIT_FACTOR = "unit_factor"
DERIVED = (ON_GRID, CLOSED_FOR_S, IDLE, UNIT_FACTOR)
"""Columns that the gate derives for the rules: whether a bar opens on its grid; seconds since it closed; whether it is
a flat bar without volume of hours in which the market was closed; how many times its neighbours' unit its prices are.
"""

ORDER_TOLERANCE = 1e-12
"""How far two prices of a bar may be out of order, as a share of the larger one: where two sources count as saying the
same number, a rounding of an adjusted price is not an error either."""


# --------------------------------------------------------------------------------------------------- demands


@dataclass(frozen=True, slots=True, kw_only=True)
class NotEmpty:
    """There is at least one row. About the whole batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """Each column is there once and has its dtype. About the whole batch.

    Attributes:
        dtypes: pandas' names of the columns' dtypes, in the order of the rule's columns.
    """

    dtypes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """The column has a value.

    Attributes:
        unless: boolean column that is true in the rows that may have none.
    """

    unless: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Within:
    """The column lies between ``low`` and ``high``, both included. A missing value is not judged."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InOrder:
    """The first column is at most the second, within ``tolerance``. A row with a missing value is not judged.

    Attributes:
        tolerance: share of the larger magnitude of the two by which the first may exceed the second.
    """

    tolerance: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """No two rows have the column's value, the key. A missing key is not judged.

    Attributes:
        values: columns that distinguish a repetition from a contradiction. Of rows that agree in all of them the first
            is good; of rows that differ none is, because nobody can say which is true.
    """

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ascending:
    """No row has an earlier time than one before it. A missing time is not judged."""


Demand = NotEmpty | Typed | Present | Within | InOrder | Unique | Ascending


# ----------------------------------------------------------------------------------------------------- rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One thing that a table must keep.

    Attributes:
        name: what is wrong where it is broken; unique among the rules it is used with. Users see it.
        description: what it demands, one line for reports.
        columns: the columns that the demand is about.
        demand: what it demands.
        sets_aside: whether rows that break it are quarantined without counting as bad: they say nothing against the
            rest of their batch.
    """

    name: str
    description: str
    columns: tuple[str, ...]
    demand: Demand
    sets_aside: bool = False


@lru_cache(maxsize=1024)
def bar_rules(symbol: Symbol, timeframe: Timeframe) -> tuple[Rule, ...]:
    """The rules of a symbol's bars, for the columns of the bars table and those in ``DERIVED``."""
    return tuple(_bar_rows(symbol, timeframe))


@lru_cache(maxsize=2)
def indicator_rules(*, below_zero: bool = False) -> tuple[Rule, ...]:
    """The rules of indicator rows, for ``event_timestamp``, every field of the catalog, and whether it may be NaN.

    Args:
        below_zero: whether the symbol's prices may be, and so whatever is drawn over them.
    """
    return tuple(_indicator_rows(below_zero))


def may_be_nan_column(name: str) -> str:
    """Name of the boolean column that says in which rows an indicator field may be NaN."""
    return f"{name}_may_be_nan"


def _table_rows(time: str, numbers: tuple[str, ...]) -> Iterator[Rule]:
    yield Rule(name="empty", description="There is at least one row.", columns=(), demand=NotEmpty())
    yield Rule(name="wrong_columns", description=f"{time} is {TIME}; all numbers are there, as {NUMBER}.",
               columns=(time, *numbers), demand=Typed(dtypes=(TIME, *(NUMBER for _ in numbers))))  # fmt: skip
    yield Rule(name=f"{time}_missing", description=f"{time} is known.", columns=(time,), demand=Present())


def _order_rows(time: str, values: tuple[str, ...]) -> Iterator[Rule]:
    yield Rule(name=f"unique_{time}", description=f"No two rows share one {time}.", columns=(time,),
               demand=Unique(values=(time, *values)))  # fmt: skip
    yield Rule(name=f"ascending_{time}", description=f"Rows are in the order of {time}.", columns=(time,),
               demand=Ascending())  # fmt: skip


def _finite(name: str) -> Rule:
    return Rule(name=f"{name}_not_finite", description=f"{name} is a finite number.", columns=(name,),
                demand=Within(low=-FINITE, high=FINITE))  # fmt: skip


def _bar_rows(symbol: Symbol, timeframe: Timeframe) -> Iterator[Rule]:
    prices = tuple(name for name in BAR_FIELDS if name != "volume")
    yield from _table_rows("open_time", BAR_FIELDS)
    yield Rule(name="off_grid", description=f"open_time opens a {timeframe.name} bar of session {symbol.session.name}.",
               columns=(ON_GRID,), demand=Within(low=True, high=True))  # fmt: skip
    yield Rule(name="unclosed", description=f"The bar closed: open_time + {timeframe.name} has passed.",
               columns=(CLOSED_FOR_S,), demand=Within(low=0.0, high=math.inf))  # fmt: skip
    for name in prices:
        yield Rule(name=f"{name}_missing", description=f"{name} is known.", columns=(name,), demand=Present())
        yield _finite(name)
        if not symbol.may_be_below_zero:
            yield Rule(name=f"{name}_not_positive", description=f"{name} is above zero.", columns=(name,),
                       demand=Within(low=math.nextafter(0, 1), high=math.inf))  # fmt: skip
    for name in prices:
        yield Rule(name=f"{name}_out_of_bounds",
                   description=f"{symbol.price_min:g} <= {name} <= {symbol.price_max:g}, as {symbol.name} is quoted.",
                   columns=(name,), demand=Within(low=symbol.price_min, high=symbol.price_max))  # fmt: skip
    for low, high, name in (
        ("low", "open", "low_above_open"),
        ("low", "close", "low_above_close"),
        ("open", "high", "high_below_open"),
        ("close", "high", "high_below_close"),
        ("low", "high", "high_below_low"),
    ):
        yield Rule(name=name, description=f"{low} <= {high}.", columns=(low, high),
                   demand=InOrder(tolerance=ORDER_TOLERANCE))  # fmt: skip
    yield _finite("volume")
    yield Rule(name="volume_negative", description="volume is at least zero, or NaN where none is reported.",
               columns=("volume",), demand=Within(low=0.0, high=math.inf))  # fmt: skip
    yield Rule(name="unit_error", description="Prices are in the unit and basis of the bars beside them.",
               columns=(UNIT_FACTOR,), demand=Within(low=1.0, high=1.0))  # fmt: skip
    yield Rule(name="closed_market_flat", description="Something happened, or the market was open.",
               columns=(IDLE,), demand=Within(low=False, high=False), sets_aside=True)  # fmt: skip
    yield from _order_rows("open_time", BAR_FIELDS)


def _indicator_rows(below_zero: bool) -> Iterator[Rule]:
    yield from _table_rows("event_timestamp", INDICATOR_FIELDS)
    for name in INDICATOR_FIELDS:
        indicator = PRODUCER[name]
        yield Rule(name=f"{name}_missing", description=f"{name} has a value, except in its warm-up.", columns=(name,),
                   demand=Present(unless=may_be_nan_column(name)))  # fmt: skip
        yield _finite(name)
        lowest = indicator.low
        if below_zero and lowest == 0 and indicator.pane_of(name) == "price":
            lowest = None
        if lowest is None and indicator.high is None:
            continue
        low = -math.inf if lowest is None else lowest
        high = math.inf if indicator.high is None else indicator.high
        slack = 1e-9 * max(1.0, *(abs(bound) for bound in (low, high) if math.isfinite(bound)))  # rounding
        yield Rule(name=f"{name}_out_of_bounds", description=f"{low:g} <= {name} <= {high:g}.", columns=(name,),
                   demand=Within(low=low - slack, high=high + slack))  # fmt: skip
    yield from _order_rows("event_timestamp", INDICATOR_FIELDS)
