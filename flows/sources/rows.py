"""From a file's columns to rows of bars: times in UTC, numbers, the order that the file was in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from numpy.typing import NDArray

from feature_repo.catalog import Symbol, Timeframe
from flows.sources.columns import PRICES, Choice, Side, choose, volume_text
from flows.sources.error import Unreadable, shown
from flows.sources.options import SourceOptions
from flows.sources.prices import read_numbers
from flows.sources.table import Table
from flows.sources.times import Times, of_a_stopped_clock, read_times
from flows.sources.units import in_units, price_factor
from flows.sources.zones import declared_zone

_TIME_REMEDY = "Correct or delete the line; times are best written as 2019-10-17T09:00:00Z."
_NUMBER_REMEDY = "Correct or delete the line; numbers are written with a point, as 1.0716."


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of one file, in its order.

    Attributes:
        frame: open_time (datetime64[us, UTC]), open, high, low, close, volume, and of a file with both sides
            ask_open, ask_high, ask_low, ask_close (float64; open to close are then the bid's), file, line. Of ticks
            open_time is the tick's time, and ``price`` and ``ask_price`` are in the place of the prices.
        rejected: the rows whose time cannot be known, as ``SourceBars.rejected``.
        out_of_order: rows that step against the order of the file.
        detected: what was found out, as shown to a user.
    """

    frame: pd.DataFrame
    rejected: pd.DataFrame
    out_of_order: int
    detected: Mapping[str, str]

    @property
    def of_ticks(self) -> bool:
        return "price" in self.frame


def read_rows(table: Table, *, symbol: Symbol, timeframe: Timeframe, options: SourceOptions, side: Side) -> Rows:
    """Make rows of bars of a file's columns.

    Raises:
        SourceError: a column is missing or holds text that is no number or time, or the file mixes instruments.
    """
    choice = choose(table.names, symbol, options, side, table.error_in_header)
    _check_one_symbol(table, choice)
    declared = declared_zone((table.names[i] for i in choice.time), table.preamble)
    zone = options.tz or declared or table.zone or "UTC"
    times = _times(table, choice, zone)
    reasons = dict(times.reasons)
    stopped = of_a_stopped_clock(times.instants, intraday=timeframe.seconds < 86_400)
    reasons |= {row: f"{times.instants[row]}Z is no time of a bar" for row in np.flatnonzero(stopped).tolist()}
    closes = not choice.of_ticks and (options.stamp == "close" or (options.stamp == "auto" and choice.close_stamped))
    shift = np.timedelta64(timeframe.microseconds if closes else 0, "us")
    names: tuple[str, ...] = ("price",) if choice.of_ticks else PRICES
    names += tuple(f"ask_{price}" for price in names[: len(choice.ask_prices)])
    prices, unit = _prices(table, choice, symbol, options)
    volume, volume_at = _volume(table, choice)
    frame = pd.DataFrame(
        {
            "open_time": pd.DatetimeIndex(times.instants - shift).tz_localize("UTC"),
            **dict(zip(names, prices.T, strict=True)),
            "volume": in_units(volume, options.volume_unit or 1.0),
            "file": table.file,
            "line": table.lines,
        }
    )
    lost = sorted(reasons)
    order, out_of_order = _order(times)
    return Rows(
        frame=frame.drop(index=lost),
        rejected=reject([table], frame.iloc[lost], "unreadable_value", [reasons[row] for row in lost]),
        out_of_order=out_of_order,
        detected={
            **table.detected,
            "columns": f"{choice.text}, {volume_text(table.names, choice, volume_at)}",
            "time_zone": _zone_text(times, zone, options.tz, declared, table),
            "stamp": _stamp_text(choice, options, closes=closes),
            "order": order,
            **({"unit": unit} if unit else {}),
        },
    )


def reject(tables: Sequence[Table], rows: pd.DataFrame, rule: str, details: Sequence[str]) -> pd.DataFrame:
    """The quarantine rows of ``rows`` (open_time, file, line), with their text from the ``tables`` they came from."""
    raw = np.full(len(rows), "", dtype=object)
    for table in tables:
        of_table = (rows["file"] == table.file).to_numpy()
        if of_table.any():
            raw[of_table] = table.raw(rows["line"].to_numpy()[of_table])
    rejected = rows[["file", "line", "open_time"]].reset_index(drop=True)
    return rejected.assign(raw=raw, rule=np.full(len(rows), rule, dtype=object), detail=np.array(details, dtype=object))


def _times(table: Table, choice: Choice, zone: str) -> Times:
    try:
        return read_times([table.columns[i] for i in choice.time], zone)
    except Unreadable as cell:
        name = " and ".join(table.names[i] for i in choice.time) or "the time"
        raise table.error_in_row(cell.row, f"{name} is {shown(cell.text)}, not a time", _TIME_REMEDY) from None


def _prices(table: Table, choice: Choice, symbol: Symbol, options: SourceOptions) -> tuple[NDArray[np.float64], str]:
    """The prices as the symbol is quoted, shape (rows, prices), and a word on their unit in the file."""
    prices = np.column_stack([_numbers(table, at) for at in (*choice.prices, *choice.ask_prices)])
    factor, unit = price_factor(prices, symbol, options.unit, table.error_in_header)
    return in_units(prices, factor), unit


def _volume(table: Table, choice: Choice) -> tuple[NDArray[np.float64], int | None]:
    """The volume and the column it is from: the best one, but the count of ticks where that is zero throughout."""
    if not choice.volumes:
        return np.full(len(table.lines), np.nan), None
    best = _numbers(table, choice.volumes[0])
    if choice.tick_count is None or np.nan_to_num(best).any():
        return best, choice.volumes[0]
    return _numbers(table, choice.tick_count), choice.tick_count


def _numbers(table: Table, at: int) -> NDArray[np.float64]:
    try:
        return read_numbers(table.columns[at])
    except Unreadable as cell:
        what = f"{table.names[at]} is {shown(cell.text)}, not a number"
        raise table.error_in_row(cell.row, what, _NUMBER_REMEDY) from None


def _check_one_symbol(table: Table, choice: Choice) -> None:
    if choice.symbol is None:
        return
    column = table.columns[choice.symbol]
    names = pc.unique(pc.drop_null(column))
    if len(names) > 1:
        what = f"bars of {shown(str(names[0]))} and of {shown(str(names[1]))} in one file"
        raise table.error_in_row(pc.index(column, names[1]).as_py(), what, "Split it, one symbol a file.")


def _order(times: Times) -> tuple[str, int]:
    """The order that a file is in, and how many rows step against it."""
    steps = np.diff(times.instants[~np.isnat(times.instants)]).astype(np.int64)
    up, down = int((steps > 0).sum()), int((steps < 0).sum())
    return "newest first" if down > up else "oldest first", min(up, down)


def _zone_text(times: Times, zone: str, asked: str | None, declared: str | None, table: Table) -> str:
    stated = "stated in every time" if times.in_utc.any() else ""
    if times.in_utc.all():
        return stated
    program = table.detected.get("format", "")
    how = "as told" if asked else "declared in the file" if declared else f"as {program} has it" if table.zone else ""
    if not how:
        how = (
            "assumed; MetaTrader writes the broker's clock, which --tz tells" if program.startswith("mt") else "assumed"
        )
    return f"{zone} ({how}), stated in some times" if stated else f"{zone} ({how})"


def _stamp_text(choice: Choice, options: SourceOptions, *, closes: bool) -> str:
    if choice.of_ticks:
        return "ticks"
    return f"bar {'close' if closes else 'open'} ({'as told' if options.stamp != 'auto' else 'detected'})"
