"""From a file's columns to rows of bars: times in UTC, numbers, the order that the file was in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feature_repo.catalog import Symbol, Timeframe
from flows.sources.columns import PRICES, Choice, Side, choose, volume_text
from flows.sources.error import EitherWay, SourceError, Unreadable, shown
from flows.sources.exports import is_mt5
from flows.sources.hours import find_clock
from flows.sources.instruments import may_be
from flows.sources.options import SourceOptions
from flows.sources.prices import read_flags, read_numbers
from flows.sources.spellings import Instants
from flows.sources.table import Table
from flows.sources.times import Times, of_a_stopped_clock, read_times
from flows.sources.units import in_units, price_factor
from flows.sources.zones import declared_zone

_MINUTE_US, _MAX_EARLY_US = 60_000_000, 1_000_000
_LISTED = 10  # instruments named in an error
_TIME_REMEDY = "Correct or delete the line; times are best written as 2019-10-17T09:00:00Z."
_EITHER_REMEDY = "Use --dayfirst if they are written day/month/year, or --monthfirst if month/day/year."
_NUMBER_REMEDY = "Correct or delete the line; numbers are written with a point, as 1.0716."


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of one file, in its order.

    Attributes:
        frame: open_time (datetime64[us, UTC]), open, high, low, close, volume, and of a file with both sides
            ask_open, ask_high, ask_low, ask_close (float64; open to close are then the bid's), file, line. Of ticks
            open_time is the tick's time, and ``price`` and ``ask_price`` are in the place of the prices.
        rejected: the rows whose time cannot be known, as ``SourceBars.rejected``.
        rows_read: rows of the instrument, with those that are not in ``frame``.
        unfinished: rows left out because the source itself says that they are incomplete.
        out_of_order: rows that step against the order of the file.
        zone_assumed: the zone of times that state none is nowhere stated and was taken to be UTC.
        brokers_clock: the times are on a broker's clock, which only the user can name.
        detected: what was detected, as shown to a user.
    """

    frame: pd.DataFrame
    rejected: pd.DataFrame
    rows_read: int
    unfinished: int
    out_of_order: int
    zone_assumed: bool
    brokers_clock: bool
    detected: Mapping[str, str]

    @property
    def of_ticks(self) -> bool:
        return "price" in self.frame


def read_rows(table: Table, *, symbol: Symbol, timeframe: Timeframe, options: SourceOptions, side: Side) -> Rows:
    """Make rows of bars from a file's columns.

    Raises:
        SourceError: a column is missing or holds text that is not a number or time, the file is another instrument's or
            mixes several, or its dates or its clock can be read in two ways.
    """
    choice = choose(table.names, symbol, options, side, table.error_in_header)
    table, instrument = _of_one_instrument(table, choice, symbol, options.instrument)
    declared = declared_zone((table.names[i] for i in choice.time), table.preamble)
    times = _times(table, choice, timeframe, options, declared)
    zone = times.zone
    reasons = dict(times.reasons)
    stopped = of_a_stopped_clock(times.instants, intraday=timeframe.seconds < 86_400)
    reasons |= {row: f"{times.instants[row]}Z is no time of a bar" for row in np.flatnonzero(stopped).tolist()}
    closes = not choice.of_ticks and _are_closes(times.instants, choice, options)
    bar = np.timedelta64(timeframe.microseconds, "us")
    instants = _full_minutes(times.instants) - bar if closes else times.instants
    names: tuple[str, ...] = ("price",) if choice.of_ticks else PRICES
    names += tuple(f"ask_{price}" for price in names[: len(choice.ask_prices)])
    prices, unit = _prices(table, choice, symbol, options)
    volume, volume_at = _volume(table, choice, prices, options)
    frame = pd.DataFrame(
        {
            "open_time": pd.DatetimeIndex(instants).tz_localize("UTC"),
            **dict(zip(names, prices.T, strict=True)),
            "volume": in_units(volume, options.volume_unit or 1.0),
            "file": table.file,
            "line": table.lines,
        }
    )
    unfinished = _unfinished(table, choice)
    lost = [row for row in sorted(reasons) if not unfinished[row]]
    kept = ~unfinished
    kept[lost] = False
    order, out_of_order = _order(times)
    assumed = not (options.tz or declared or table.clocks or times.in_utc.all())
    return Rows(
        frame=frame if kept.all() else frame[kept],
        rejected=reject([table], frame.iloc[lost], "unreadable_value", [reasons[row] for row in lost]),
        rows_read=len(table.lines),
        unfinished=int(unfinished.sum()),
        out_of_order=out_of_order,
        zone_assumed=assumed,
        brokers_clock=_on_brokers_clock(table) and not (options.tz or declared),
        detected={
            **table.detected,
            "columns": f"{choice.text}, {volume_text(table.names, choice, volume_at)}",
            "time_zone": _zone_text(times, zone, options.tz, declared, table),
            "stamp": _stamp_text(choice, options, closes=closes),
            "order": order,
            **({"unit": unit} if unit else {}),
            **({"instrument": instrument} if instrument else {}),
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


def _times(table: Table, choice: Choice, timeframe: Timeframe, options: SourceOptions, declared: str | None) -> Times:
    bar_us = 0 if choice.of_ticks else timeframe.microseconds

    def clock(wall: Instants) -> str:
        return _found_clock(table, wall, bar_us)

    stated = options.tz or declared or (table.clocks[0] if len(table.clocks) == 1 else None)
    zone = stated or (clock if table.clocks else "UTC")
    name = " and ".join(table.names[i] for i in choice.time) or "the time"
    columns = [table.columns[i] for i in choice.time]
    try:
        return read_times(
            columns, zone, local_counts=options.tz is not None or _on_brokers_clock(table), day_first=options.day_first
        )
    except EitherWay as cell:
        what = f"every date could be day or month first, as {shown(cell.text)}"
        raise table.error_in_row(cell.row, what, _EITHER_REMEDY) from None
    except Unreadable as cell:
        raise table.error_in_row(cell.row, f"{name} is {shown(cell.text)}, not a time", _TIME_REMEDY) from None


def _found_clock(table: Table, wall: Instants, bar_us: int) -> str:
    """The clock of a format that has had several, by the hours of the week."""
    clock = find_clock(wall, bar_us, table.clocks)
    if clock.clock is not None:
        return clock.clock
    program, ways = table.detected.get("format", ""), ", ".join(f"--tz {zone}" for zone in table.clocks[:2])
    if clock.rivals:
        what = f"its summer hours can be on several of {program}'s clocks, and no weekend in it shows which"
        raise SourceError(what, remedy=f"Give a longer file, or use {ways} or another zone.", file=table.file)
    what = f"its weeks end on {clock.close}, as on none of {program}'s clocks ({'; '.join(table.clocks)})"
    raise SourceError(what, remedy="Name the zone of its times with --tz.", file=table.file)


def _are_closes(instants: Instants, choice: Choice, options: SourceOptions) -> bool:
    """Whether times are their bars' closes: stated, named as such, or all of them a moment before a full minute."""
    if options.stamp != "auto":
        return options.stamp == "close"
    known = instants[~np.isnat(instants)]
    if choice.open_stamped or choice.close_stamped or not len(known):
        return choice.close_stamped
    return bool((known != _full_minutes(known)).all())


def _full_minutes(instants: Instants) -> Instants:
    """Times, those up to a second before a full minute moved to it: a bar's last millisecond is its end."""
    before = -instants.view(np.int64) % _MINUTE_US
    early = (before <= _MAX_EARLY_US) & ~np.isnat(instants)
    return np.where(early, instants + before.astype("timedelta64[us]"), instants)


def _unfinished(table: Table, choice: Choice) -> NDArray[np.bool_]:
    """The rows of which the source says that their bars are not whole."""
    unfinished = np.zeros(len(table.lines), bool)
    for at, value in ((choice.finished, False), (choice.unfinished, True)):
        flags = None if at is None or choice.of_ticks else read_flags(table.columns[at])
        if flags is not None:
            unfinished |= flags == value
    return unfinished


def _prices(table: Table, choice: Choice, symbol: Symbol, options: SourceOptions) -> tuple[NDArray[np.float64], str]:
    """The prices as the symbol is quoted, shape (rows, prices), and a note on their unit in the file."""
    prices = np.column_stack([_numbers(table, at) for at in (*choice.prices, *choice.ask_prices)])
    factor, unit = price_factor(prices, symbol, options.unit, table.error_in_header)
    return in_units(prices, factor), unit


def _volume(
    table: Table, choice: Choice, prices: NDArray[np.float64], options: SourceOptions
) -> tuple[NDArray[np.float64], int | None]:
    """The volume and its column: the best one, else the count of ticks; NaN where neither reports any."""
    unknown = np.full(len(table.lines), np.nan)
    columns = [*choice.volumes[:1], *(() if choice.tick_count is None else (choice.tick_count,))]
    if options.volume == "none" or not columns:
        return unknown, None
    volumes = {at: _numbers(table, at) for at in dict.fromkeys(columns)}
    for at, volume in volumes.items():
        if not np.isin(volume[~np.isnan(volume)], (0.0, -1.0)).all():
            return volume, at
    # 0 or -1 on every row: no volume, unless no price moved either, for such bars may well have traded nothing.
    moved = choice.of_ticks or bool((prices[:, 1:4] != prices[:, :3])[np.isfinite(prices).all(axis=1)].any())
    best = volumes[columns[0]]
    return (unknown, None) if moved or (best < 0).any() or np.isnan(best).all() else (best, columns[0])


def _numbers(table: Table, at: int) -> NDArray[np.float64]:
    try:
        return read_numbers(table.columns[at])
    except Unreadable as cell:
        what = f"{table.names[at]} is {shown(cell.text)}, not a number"
        raise table.error_in_row(cell.row, what, _NUMBER_REMEDY) from None


def _of_one_instrument(table: Table, choice: Choice, symbol: Symbol, wanted: str | None) -> tuple[Table, str]:
    """The rows of the instrument that is wanted, or of the only one, and its name in the file."""
    if choice.symbol is None:
        if wanted is not None:
            raise table.error_in_header("no column names the instruments", "Omit --instrument.")
        return table, ""
    column = pc.cast(table.columns[choice.symbol], pa.string())
    names = [name for name in pc.unique(pc.drop_null(column)).to_pylist() if name.strip()]
    listed = ", ".join(shown(name) for name in names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
    if wanted is not None:
        if wanted not in names:
            raise table.error_in_header(f"no instrument {shown(wanted)}", f"Its instruments are {listed}.")
        return table.taken(pc.fill_null(pc.equal(column, wanted), False).to_numpy()), wanted
    if len(names) > 1:
        row = pc.index(column, names[1]).as_py()
        example = next((name for name in names if may_be(name, symbol)), names[0])
        what = f"bars of {shown(names[0])} and of {shown(names[1])} in one file"
        raise table.error_in_row(row, what, f"Name the one to take, as --instrument {example}.")
    if names and not may_be(names[0], symbol):
        what = f"bars of {shown(names[0])}, which is not how {symbol.name} is written"
        remedy = f"Give the file of {symbol.name}, or use --instrument {names[0]} if this is its name there."
        raise table.error_in_row(pc.index(column, names[0]).as_py(), what, remedy)
    return table, names[0] if names else ""


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
    if asked:
        how = "as stated"
    elif declared:
        how = "declared in the file"
    elif table.clocks:
        how = f"as {program} has it" if zone == table.clocks[0] else "found by the hours of the week"
    elif _on_brokers_clock(table):
        how = "assumed; MetaTrader writes the broker's clock, which --tz states"
    else:
        how = "assumed"
    return f"{zone} ({how}), stated in some times" if stated else f"{zone} ({how})"


def _on_brokers_clock(table: Table) -> bool:
    """Whether MetaTrader wrote the times; its Python package counts them as if the broker's clock were UTC."""
    return table.detected.get("format", "").rpartition(", ")[2].startswith("mt") or is_mt5(table.names)


def _stamp_text(choice: Choice, options: SourceOptions, *, closes: bool) -> str:
    if choice.of_ticks:
        return "ticks"
    return f"bar {'close' if closes else 'open'} ({'as stated' if options.stamp != 'auto' else 'detected'})"
