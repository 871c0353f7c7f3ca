"""A file or folder to one table of bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from feature_repo.catalog import BAR_FIELDS, Symbol, Timeframe
from flows.sources.columns import Side
from flows.sources.duplicates import repeated
from flows.sources.error import SourceError
from flows.sources.files import read_tables
from flows.sources.options import SourceOptions
from flows.sources.quotes import mid, pair
from flows.sources.rows import Rows, read_rows, reject
from flows.sources.table import Table

_COLUMNS = ["open_time", *BAR_FIELDS, "file", "line"]
_DETECT_ALL = SourceOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceNotes:
    """What was seen in a source.

    Attributes:
        files: names of the files, in the order they were read; the bid's before the ask's.
        rows_read: rows of all files together. Of a source without an ask file it is the sum of the bars, the
            rejected rows and the duplicates.
        out_of_order: rows that step against the order, oldest or newest first, that their file is otherwise in.
        duplicates: rows that say exactly what an earlier row said, left out.
        header_lines_skipped: lines above the headers, as a comment or an address.
        detected: what was found out or told about the format, delimiter, header, columns, time_zone, stamp and order;
            of several files the differing answers, separated by `` | ``.
    """

    files: tuple[str, ...]
    rows_read: int
    out_of_order: int
    duplicates: int
    header_lines_skipped: int
    detected: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SourceBars:
    """The bars of a source, read but not judged.

    Attributes:
        frame: open_time (datetime64[us, UTC], ascending; bars that disagree on a time are all kept, in the order
            read), open, high, low, close, volume (float64; NaN where the source has none, infinities kept),
            file (name), line (int64, 1-based line in the file, row number for Parquet).
        rejected: rows that are no bars: file, line, open_time (NaT where not known), raw (the row's text), rule
            (``unreadable_value``, ``ask_below_bid``, ``no_matching_ask``, ``no_matching_bid``), detail (why).
        notes: what was seen.
    """

    frame: pd.DataFrame
    rejected: pd.DataFrame
    notes: SourceNotes


def read_bars(
    path: Path | str,
    *,
    symbol: Symbol,
    timeframe: Timeframe,
    options: SourceOptions = _DETECT_ALL,
    ask: Path | str | None = None,
) -> SourceBars:
    """Read the bars of one symbol and timeframe.

    Args:
        path: a CSV (plain or gzip) or Parquet file, or a folder of them.
        ask: where the ask's bars are, if ``path`` has the bid's: the bars are then of the mid price. A file with
            ``bid_open`` to ``ask_close`` columns gives mid prices by itself.

    Raises:
        SourceError: the source cannot be read; nothing of it was taken.
    """
    sides = [_read(Path(path), symbol, timeframe, options, "both" if ask is None else "bid")]
    if ask is not None:
        sides.append(_read(Path(ask), symbol, timeframe, options, "ask"))
    rejected = [rows.rejected for side in sides for rows in side.rows]
    bars = sides[0].bars
    if ask is not None:
        bars, no_ask, no_bid = pair(sides[0].bars, sides[1].bars)
        rejected.append(_unmatched(sides[0], no_ask, "ask"))
        rejected.append(_unmatched(sides[1], no_bid, "bid"))
    if "ask_close" in bars:
        bars, rejected_crossed = _mid(sides[0], bars, symbol)
        rejected.append(rejected_crossed)
    return SourceBars(
        frame=_sorted(bars[_COLUMNS]),
        rejected=_concat(rejected),
        notes=_notes(sides),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Side:
    """What one path gave: ``bars`` are the rows of all of its files, less the duplicates."""

    tables: Sequence[Table]
    rows: Sequence[Rows]
    bars: pd.DataFrame
    duplicates: int


def _read(path: Path, symbol: Symbol, timeframe: Timeframe, options: SourceOptions, side: Side) -> _Side:
    tables = read_tables(path, options)
    rows = [read_rows(t, symbol=symbol, timeframe=timeframe, options=options, side=side) for t in tables]
    _check_alike(tables, rows)
    bars = _concat([some.frame for some in rows])
    again = repeated(bars)
    return _Side(tables=tables, rows=rows, bars=bars[~again], duplicates=int(again.sum()))


def _check_alike(tables: Sequence[Table], rows: Sequence[Rows]) -> None:
    """Mid prices and prices of one side do not go into one table."""
    for table, some in zip(tables, rows, strict=True):
        if ("ask_close" in some.frame) != ("ask_close" in rows[0].frame):
            what = f"of this file and {tables[0].file} only one has bid and ask columns"
            raise SourceError(what, remedy="Read them one by one.", file=table.file)


def _unmatched(side: _Side, rows: pd.DataFrame, other: str) -> pd.DataFrame:
    return reject(side.tables, rows, f"no_matching_{other}", [f"the {other} has no bar at this time"] * len(rows))


def _mid(bid: _Side, bars: pd.DataFrame, symbol: Symbol) -> tuple[pd.DataFrame, pd.DataFrame]:
    mids, crossed = mid(bars, symbol.digits)
    rows = bars[crossed]
    details = [
        f"ask close {a!r} is below bid close {b!r}" for a, b in zip(rows["ask_close"], rows["close"], strict=True)
    ]
    return mids[~crossed], reject(bid.tables, rows, "ask_below_bid", details)


def _concat(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]  # an empty frame would decide on column types
    return pd.concat(filled, ignore_index=True) if filled else frames[0]


def _sorted(bars: pd.DataFrame) -> pd.DataFrame:
    return bars.sort_values("open_time", kind="stable", ignore_index=True)


def _notes(sides: Sequence[_Side]) -> SourceNotes:
    tables = [table for side in sides for table in side.tables]
    rows = [some for side in sides for some in side.rows]
    answers: dict[str, dict[str, None]] = {}
    for some in rows:
        for what, answer in some.detected.items():
            answers.setdefault(what, {})[answer] = None
    return SourceNotes(
        files=tuple(table.file for table in tables),
        rows_read=sum(len(table.lines) for table in tables),
        out_of_order=sum(some.out_of_order for some in rows),
        duplicates=sum(side.duplicates for side in sides),
        header_lines_skipped=sum(len(table.preamble) for table in tables),
        detected={what: " | ".join(distinct) for what, distinct in answers.items()},
    )
