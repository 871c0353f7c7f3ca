"""How a value came to be: the bars that it is made of, and the value made of them once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from feature_repo import catalog
from feature_repo.agreement import FloatArray
from feature_repo.catalog import BAR_FIELDS, PRODUCER, Indicator, Symbol, Timeframe
from feature_repo.moments import to_datetime, to_us
from feature_repo.sessions import bar_close
from feature_repo.stores.tables import OfflineTables
from flows.compute.derive import derive_bars, opens_us
from flows.compute.increment import STATE_FIELDS, compute_from, input_columns
from flows.inspect.explain.explanation import number

SHOWN_BARS = 5


def indicator_of(name: str, bars: pd.DataFrame, symbol: Symbol, timeframe: Timeframe) -> dict[str, Any]:
    """What an ``Explanation`` says of the origin of an indicator's value at the last of ``bars``."""
    indicator, opens = PRODUCER[name], opens_us(bars)
    inputs = input_columns(bars, symbol, timeframe)
    last = len(bars) - 1
    unknown = np.full(len(bars), np.nan)
    values = compute_from(last, inputs, opens, timeframe, whole=True, stored=dict.fromkeys(STATE_FIELDS, unknown))
    began = _began(indicator, inputs)
    if indicator.kind.memory == "day":
        first = int(np.flatnonzero(inputs["session_day"] == inputs["session_day"][-1])[0])
    else:
        first = began if indicator.warm_up is None else max(began, last - indicator.warm_up)
    used = bars.iloc[first:]
    return {
        "kind": "indicator",
        "indicator": indicator.name,
        "parameters": dict(indicator.parameters),
        "inputs": indicator.inputs,
        "from_timeframe": timeframe.name,
        **_made_of(used, [i for i in indicator.inputs if i in BAR_FIELDS]),
        "expected_bars": None,
        "lookback": indicator.lookback,
        "warm_up": indicator.warm_up,
        "preceding": last - began,
        "recomputed": number(values[name][0]),
    }


def _began(indicator: Indicator, inputs: Mapping[str, FloatArray]) -> int:
    """The row after the last one with an unknown input: an indicator starts again there."""
    unknown = np.flatnonzero(np.logical_or.reduce([np.isnan(inputs[name]) for name in indicator.inputs]))
    return int(unknown[-1]) + 1 if unknown.size else 0


def bar_of(
    name: str, bars: pd.DataFrame, is_derived: bool, symbol: Symbol, timeframe: Timeframe, tables: OfflineTables
) -> dict[str, Any]:
    """The same of a bar's own column: as it was ingested, or derived from shorter bars."""
    about: dict[str, Any] = {"indicator": "", "parameters": {}, "inputs": (), "lookback": 0, "warm_up": 0}
    about |= {"preceding": len(bars) - 1, "expected_bars": None, "recomputed": None}
    bar = bars.iloc[-1]
    source = _source(symbol, timeframe, bar["open_time"].to_pydatetime(), tables) if is_derived else None
    if source is None:
        return (
            about
            | {"kind": "derived" if is_derived else "ingested", "from_timeframe": ""}
            | _made_of(bars.iloc[:0], [])
        )
    origin, rows = source
    close_us = int(bar_close(symbol.session, timeframe, opens_us(bars)[-1:])[0])
    made = derive_bars(rows, session=symbol.session, source=origin, target=timeframe, watermark_us=close_us)
    return about | {
        "kind": "derived",
        "from_timeframe": origin.name,
        **_made_of(rows, [name]),
        "expected_bars": int(made["expected_bars"].iloc[0]),
        "recomputed": number(made[name].iloc[0]),
    }


def _source(
    symbol: Symbol, timeframe: Timeframe, open_time: datetime, tables: OfflineTables
) -> tuple[Timeframe, pd.DataFrame] | None:
    """The source bars of a derived bar: the longest shorter timeframe that was ingested there."""
    opens = np.array([to_us(open_time)], np.int64)
    last = to_datetime(int(bar_close(symbol.session, timeframe, opens)[0]) - 1)
    for origin in sorted(catalog.TIMEFRAMES.values(), key=lambda tf: -tf.seconds):
        if origin.seconds < timeframe.seconds:
            rows = tables.read(
                "bars",
                timeframe=origin.name,
                symbols=[symbol.name],
                start=open_time,
                end=last,
                columns=[*BAR_FIELDS, "source_bars"],
            ).to_pandas()
            rows = rows[rows["source_bars"].isna()].reset_index(drop=True)
            if len(rows):
                return origin, rows
    return None


def _made_of(bars: pd.DataFrame, columns: Sequence[str]) -> dict[str, Any]:
    shown = bars.tail(SHOWN_BARS)[["open_time", *columns]]
    return {
        "from_bars": len(bars),
        "from_first": bars["open_time"].iloc[0].to_pydatetime() if len(bars) else None,
        "from_last": bars["open_time"].iloc[-1].to_pydatetime() if len(bars) else None,
        "from_shown": tuple(
            {"open_time": row["open_time"].to_pydatetime(), **{c: number(row[c]) for c in columns}}
            for _, row in shown.iterrows()
        ),
    }
