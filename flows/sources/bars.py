"""From a source to one table of bars."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from feature_repo.catalog import BAR_FIELDS, Symbol, Timeframe
from flows.sources.columns import PRICES, Side
from flows.sources.error import SourceError
from flows.sources.hours import ZoneDoubt, doubt_zone, doubt_zone_of_days
from flows.sources.options import SourceOptions
from flows.sources.origin import is_path, read_origin
from flows.sources.quotes import crossed_prices, mid, pair
from flows.sources.rows import Rows, read_rows, reject
from flows.sources.spacing import check_spacing
from flows.sources.table import Origin, Table
from flows.sources.ticks import bars_of_ticks, complete_ticks
from flows.sources.units import nearest_decimal

_COLUMNS = ["open_time", *BAR_FIELDS, "file", "line"]
_DETECT_ALL = SourceOptions()
_DUPLICATE_DIGITS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceNotes:
    """What was noticed in a source.

    Attributes:
        files: names of the files, in the order they were read; the bid's before the ask's.
        rows_read: rows of all files together. Of a source of bars without an ask file it is the sum of the bars, the
            rejected rows, the duplicates and the incomplete rows held back.
        out_of_order: rows that step against the order, oldest or newest first, that their file is otherwise in.
        duplicates: rows that repeat an earlier row exactly, left out.
        detected: what was detected or stated about the format, delimiter, header, columns, time_zone, stamp, order and
            unit; where files differ, their values separated by `` | ``.
        unfinished: bars left out because they are not whole: an exchange's newest candle, the bar in which ticks end, a
            row that says so itself.
        ticks: how many ticks the bars were made of, with the rejected ones; 0 of a source of bars.
        zone_question: why the zone of the times must be stated before they are stored, and how; empty where it is
            known, stated, or nothing speaks against UTC.
        zone_hint: what speaks against the zone that was stated; empty where nothing does.
    """

    files: tuple[str, ...]
    rows_read: int
    out_of_order: int
    duplicates: int
    detected: Mapping[str, str]
    unfinished: int = 0
    ticks: int = 0
    zone_question: str = ""
    zone_hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SourceBars:
    """The bars of a source, read but not judged.

    Attributes:
        frame: open_time (datetime64[us, UTC], ascending; bars that disagree on a time are all kept, in the order
            read), open, high, low, close, volume (float64; NaN where the source has none, infinities kept),
            file (name), line (int64, 1-based line in the file, row number for Parquet).
        rejected: rows that are not bars: file, line, open_time (NaT where not known), raw (the row's text), rule
            (``unreadable_value``, ``ask_below_bid``, ``no_matching_ask``, ``no_matching_bid``), detail (why).
        notes: what was noticed.
        digest: SHA-256, hex, of what was read (the bytes of all files in their order, or the table that a database or
            an exchange returned) and of all that decides its meaning: symbol, timeframe and options. Empty if unknown.
        written_at: when the newest file was written, UTC; None for a database or an exchange.
    """

    frame: pd.DataFrame
    rejected: pd.DataFrame
    notes: SourceNotes
    digest: str = ""
    written_at: datetime | None = None


def read_bars(
    source: Path | str,
    *,
    symbol: Symbol,
    timeframe: Timeframe,
    options: SourceOptions = _DETECT_ALL,
    ask: Path | str | None = None,
) -> SourceBars:
    """Read the bars of one symbol and timeframe.

    Args:
        source: a file (CSV, plain or gzip, Parquet or Excel) or a folder of them; as text also a database's
            SQLAlchemy URL, or ``exchange://NAME`` for an exchange that ccxt knows. Rows of ticks are made into bars.
        ask: the file or folder of the ask's bars, if ``source`` has the bid's: the bars are then of the mid price. A
            file with ``bid_open`` to ``ask_close`` columns yields mid prices by itself.

    Raises:
        SourceError: the source cannot be read; nothing of it was taken.
    """
    if ask is not None and not (is_path(source) and is_path(ask)):
        what = "--ask is for files"
        raise SourceError(what, remedy="From a database, select bid_open to ask_close in one query.")
    sides = [_read(source, symbol, timeframe, options, "both" if ask is None else "bid")]
    if ask is not None:
        sides.append(_read(ask, symbol, timeframe, options, "ask"))
    rejected = [rows for side in sides for rows in side.rejected]
    bars = sides[0].bars
    if ask is not None:
        bars, no_ask, no_bid = pair(sides[0].bars, sides[1].bars)
        rejected.append(_unmatched(sides[0], no_ask, "ask"))
        rejected.append(_unmatched(sides[1], no_bid, "bid"))
    if "ask_close" in bars:
        bars, rejected_crossed = _mid(sides[0], bars, symbol)
        rejected.append(rejected_crossed)
    frame = _sorted(bars[_COLUMNS])
    origins = [side.origin for side in sides]
    return SourceBars(
        frame=frame,
        rejected=_concat(rejected),
        notes=_notes(sides, frame, symbol, timeframe),
        digest=_digest(origins, frame, f"({symbol.name!r}, {timeframe.name!r}, {options.meaning()})"),
        written_at=max((o.written_at for o in origins if o.written_at is not None), default=None),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Side:
    """What was read from one source; ``bars`` are its tables' rows without duplicates, or are made of their ticks."""

    origin: Origin
    rows: Sequence[Rows]
    bars: pd.DataFrame
    rejected: Sequence[pd.DataFrame]
    duplicates: int
    unfinished: int
    ticks: int

    @property
    def tables(self) -> Sequence[Table]:
        return self.origin.tables


def _read(source: Path | str, symbol: Symbol, timeframe: Timeframe, options: SourceOptions, side: Side) -> _Side:
    origin = read_origin(source, symbol=symbol, timeframe=timeframe, options=options)
    tables = origin.tables
    rows = [read_rows(t, symbol=symbol, timeframe=timeframe, options=options, side=side) for t in tables]
    _check_alike(tables, rows)
    rejected = [table_rows.rejected for table_rows in rows]
    bars = _concat([table_rows.frame for table_rows in rows])
    unfinished = sum(table.unfinished for table in tables) + sum(table_rows.unfinished for table_rows in rows)
    ticks = 0
    if rows[0].of_ticks:
        _check_ticks(tables, rows, options)
        bars, without_price, crossed = complete_ticks(bars)
        why = ["the tick has no price, nor any before it"] * len(without_price)
        rejected.append(reject(tables, without_price, "unreadable_value", why))
        quotes = zip(crossed["ask_price"], crossed["price"], strict=True) if len(crossed) else ()  # of one side: no ask
        why = [_crossing(ask, bid) for ask, bid in quotes]
        rejected.append(reject(tables, crossed, "ask_below_bid", why))
        ticks = len(bars) + sum(map(len, rejected))
        bars, unfinished = bars_of_ticks(
            bars, symbol=symbol, timeframe=timeframe, complete_to=options.end, written_at=origin.written_at
        )
    elif options.end is not None and origin.content is not None:
        raise SourceError("--end is for ticks, queries and exchanges", remedy="A file of bars is read whole.")
    else:
        check_spacing(bars["open_time"], timeframe, tables[0].file)
    again = _repeated(bars)
    return _Side(
        origin=origin,
        rows=rows,
        bars=bars[~again],
        rejected=rejected,
        duplicates=int(again.sum()),
        unfinished=unfinished,
        ticks=ticks,
    )


def _repeated(bars: pd.DataFrame) -> NDArray[np.bool_]:
    """Which rows repeat the time and all the numbers of an earlier row; no value equals no value.

    Two downloads of one bar may spell a number 0.176 and 0.17600000000000002: they are compared to 15 significant
    digits, as what differs beyond is float noise. Rows that share a time but differ are no repetition: which of them
    is right is not decided here.
    """
    repeats = np.asarray(bars.duplicated("open_time", keep=False))
    if repeats.any():  # only rows that share a time need a full look
        shared = bars[repeats]
        numbers = pd.DataFrame(nearest_decimal(shared.select_dtypes("float64").to_numpy(), _DUPLICATE_DIGITS))
        repeats[repeats] = numbers.assign(open_time=shared["open_time"].to_numpy()).duplicated()
    return repeats


def _digest(origins: Sequence[Origin], frame: pd.DataFrame, meaning: str) -> str:
    digest = hashlib.sha256(meaning.encode())
    for origin in origins:
        if origin.content is not None:
            digest.update(origin.content.encode())
            continue
        digest.update(frame["open_time"].to_numpy(dtype="datetime64[us]").tobytes())
        digest.update(frame[[*BAR_FIELDS]].to_numpy(dtype="float64").tobytes())
    return digest.hexdigest()


def _check_alike(tables: Sequence[Table], rows: Sequence[Rows]) -> None:
    """Refuses to mix bars with ticks, or mid prices with prices of one side, in one table."""
    for table, table_rows in zip(tables, rows, strict=True):
        if table_rows.of_ticks != rows[0].of_ticks:
            what = f"of this file and {tables[0].file}, only one has ticks"
            raise SourceError(what, remedy="Read them one by one.", file=table.file)
        if any((ask in table_rows.frame) != (ask in rows[0].frame) for ask in ("ask_close", "ask_price")):
            what = f"of this file and {tables[0].file}, only one has bid and ask columns"
            raise SourceError(what, remedy="Read them one by one.", file=table.file)


def _check_ticks(tables: Sequence[Table], rows: Sequence[Rows], options: SourceOptions) -> None:
    """Refuses files of ticks that overlap, as their ticks would count twice, and a stamp, which ticks do not have."""
    if options.stamp != "auto":
        raise SourceError("--stamp is for bars; these are ticks", remedy="Omit it.", file=tables[0].file)
    spans = [
        (table_rows.frame["open_time"].min(), table_rows.frame["open_time"].max(), table.file)
        for table, table_rows in zip(tables, rows, strict=True)
        if len(table_rows.frame)
    ]
    spans.sort()
    for (_, last, earlier), (first, _, later) in itertools.pairwise(spans):
        if first < last:
            what = f"its ticks begin at {first}, before those of {earlier} end"
            raise SourceError(what, remedy="Give files whose times do not overlap.", file=later)


def _unmatched(side: _Side, rows: pd.DataFrame, other: str) -> pd.DataFrame:
    return reject(side.tables, rows, f"no_matching_{other}", [f"the {other} has no bar at this time"] * len(rows))


def _mid(bid: _Side, bars: pd.DataFrame, symbol: Symbol) -> tuple[pd.DataFrame, pd.DataFrame]:
    crossed = crossed_prices(bars)
    bad = crossed.any(axis=1)
    rows = bars[bad]
    first = [PRICES[at] for at in crossed[bad].argmax(axis=1)]
    sides = [(name, rows[f"ask_{name}"].iloc[i], rows[name].iloc[i]) for i, name in enumerate(first)]
    why = [_crossing(float(ask), float(bid), f" {name}") for name, ask, bid in sides]
    return mid(bars[~bad], symbol.digits), reject(bid.tables, rows, "ask_below_bid", why)


def _crossing(ask: float, bid: float, of: str = "") -> str:
    return f"ask{of} {ask!r} is below bid{of} {bid!r}"


def _concat(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]  # an empty frame would decide on column types
    return pd.concat(filled, ignore_index=True) if filled else frames[0]


def _sorted(bars: pd.DataFrame) -> pd.DataFrame:
    return bars.sort_values("open_time", kind="stable", ignore_index=True)


def _zone_doubt(frame: pd.DataFrame, symbol: Symbol, timeframe: Timeframe) -> ZoneDoubt:
    """What the hours of the market say against the zone of the times."""
    if symbol.session.kind == "24x7":
        return ZoneDoubt()
    if symbol.session.kind == "exchange":
        return doubt_zone_of_days(frame["open_time"].to_numpy(dtype="datetime64[us]"), timeframe, symbol.session)
    prices = frame[list(PRICES)].to_numpy()
    moved = (prices[:, 1:] != prices[:, :-1]).any(axis=1)
    opens = frame["open_time"].to_numpy(dtype="datetime64[us]")[moved]
    return doubt_zone(opens, timeframe.microseconds, symbol.session.clock)


def _notes(sides: Sequence[_Side], frame: pd.DataFrame, symbol: Symbol, timeframe: Timeframe) -> SourceNotes:
    tables = [table for side in sides for table in side.tables]
    rows = [table_rows for side in sides for table_rows in side.rows]
    answers: dict[str, dict[str, None]] = {}
    for table_rows in rows:
        for name, answer in table_rows.detected.items():
            answers.setdefault(name, {})[answer] = None
    doubt = _zone_doubt(frame, symbol, timeframe)
    asks = any(table_rows.zone_assumed for table_rows in rows)
    brokers = any(table_rows.brokers_clock for table_rows in rows)
    question = ""
    if asks and doubt.hours:
        question = f"{doubt.text}. Use --tz {doubt.remedy}, or --tz UTC if the times are UTC"
    elif brokers and not doubt.settled:
        question = "the times are on the clock of a MetaTrader broker, and no weekend shows which. Use --tz with its "
        question += "zone, as --tz Europe/Athens, or --tz UTC"
    hint = doubt.text if doubt.hours and not question else ""
    return SourceNotes(
        files=tuple(table.file for table in tables),
        rows_read=sum(table_rows.rows_read for table_rows in rows),
        out_of_order=sum(table_rows.out_of_order for table_rows in rows),
        duplicates=sum(side.duplicates for side in sides),
        detected={name: " | ".join(distinct) for name, distinct in answers.items()},
        unfinished=sum(side.unfinished for side in sides),
        ticks=sum(side.ticks for side in sides),
        zone_question=question,
        zone_hint=hint,
    )
