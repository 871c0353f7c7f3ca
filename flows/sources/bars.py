"""A source to one table of bars."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd

from feature_repo.catalog import BAR_FIELDS, Symbol, Timeframe
from flows.sources.columns import PRICES, Side
from flows.sources.duplicates import repeated
from flows.sources.error import SourceError
from flows.sources.hours import ZoneDoubt, doubt_zone
from flows.sources.options import SourceOptions
from flows.sources.origin import is_path, read_origin
from flows.sources.quotes import mid, pair
from flows.sources.rows import Rows, read_rows, reject
from flows.sources.spacing import check_spacing
from flows.sources.table import Origin, Table
from flows.sources.ticks import bars_of_ticks, complete_ticks

_COLUMNS = ["open_time", *BAR_FIELDS, "file", "line"]
_DETECT_ALL = SourceOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceNotes:
    """What was seen in a source.

    Attributes:
        files: names of the files, in the order they were read; the bid's before the ask's.
        rows_read: rows of all files together. Of a source of bars without an ask file it is the sum of the bars, the
            rejected rows, the duplicates and the incomplete rows held back.
        out_of_order: rows that step against the order, oldest or newest first, that their file is otherwise in.
        duplicates: rows that say exactly what an earlier row said, left out.
        header_lines_skipped: lines above the headers, as a comment or an address.
        detected: what was found out or told about the format, delimiter, header, columns, time_zone, stamp, order and
            unit; of several files the differing answers, separated by `` | ``.
        held: bars left out because they are not whole: an exchange's newest candle, the bar in which ticks end, a row
            that says so itself.
        ticks: how many ticks the bars were made of, with the rejected ones; 0 of a source of bars.
        zone_question: why the zone of the times must be stated before they are stored, and how; empty where it is
            known, stated, or nothing speaks against UTC.
        zone_hint: what speaks against the zone that was stated; empty where nothing does.
    """

    files: tuple[str, ...]
    rows_read: int
    out_of_order: int
    duplicates: int
    header_lines_skipped: int
    detected: Mapping[str, str]
    held: int = 0
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
        rejected: rows that are no bars: file, line, open_time (NaT where not known), raw (the row's text), rule
            (``unreadable_value``, ``ask_below_bid``, ``no_matching_ask``, ``no_matching_bid``), detail (why).
        notes: what was seen.
        digest: SHA-256, hex, of what was read (the bytes of all files in their order, or the table that a database or
            an exchange gave) and of all that decides what it means: symbol, timeframe and options. Empty if not known.
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
            file with ``bid_open`` to ``ask_close`` columns gives mid prices by itself.

    Raises:
        SourceError: the source cannot be read; nothing of it was taken.
    """
    if ask is not None and not (is_path(source) and is_path(ask)):
        what = "--ask is for files"
        raise SourceError(what, remedy="Of a database, select bid_open to ask_close in one query.")
    sides = [_read(source, symbol, timeframe, options, "both" if ask is None else "bid")]
    if ask is not None:
        sides.append(_read(ask, symbol, timeframe, options, "ask"))
    rejected = [some for side in sides for some in side.rejected]
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
    """What one source gave: ``bars`` are the rows of all of its tables less the duplicates, or made of their ticks."""

    origin: Origin
    rows: Sequence[Rows]
    bars: pd.DataFrame
    rejected: Sequence[pd.DataFrame]
    duplicates: int
    held: int
    ticks: int

    @property
    def tables(self) -> Sequence[Table]:
        return self.origin.tables


def _read(source: Path | str, symbol: Symbol, timeframe: Timeframe, options: SourceOptions, side: Side) -> _Side:
    origin = read_origin(source, symbol=symbol, timeframe=timeframe, options=options)
    tables = origin.tables
    rows = [read_rows(t, symbol=symbol, timeframe=timeframe, options=options, side=side) for t in tables]
    _check_alike(tables, rows)
    rejected = [some.rejected for some in rows]
    bars = _concat([some.frame for some in rows])
    held = sum(table.held for table in tables) + sum(side_rows.unfinished for side_rows in rows)
    ticks = 0
    if rows[0].of_ticks:
        _check_ticks(tables, rows, options)
        bars, without_price, crossed = complete_ticks(bars)
        why = ["the tick has no price, nor any before it"] * len(without_price)
        rejected.append(reject(tables, without_price, "unreadable_value", why))
        rejected.append(reject(tables, crossed, "ask_below_bid", _crossing(crossed, "price", "ask_price", "")))
        ticks = len(bars) + sum(map(len, rejected))
        bars, held = bars_of_ticks(
            bars, symbol=symbol, timeframe=timeframe, complete_to=options.end, written_at=origin.written_at
        )
    elif options.end is not None and origin.content is not None:
        raise SourceError("--end is for ticks, queries and exchanges", remedy="A file of bars is read whole.")
    else:
        check_spacing(bars["open_time"], timeframe, tables[0].file)
    again = repeated(bars)
    return _Side(
        origin=origin,
        rows=rows,
        bars=bars[~again],
        rejected=rejected,
        duplicates=int(again.sum()),
        held=held,
        ticks=ticks,
    )


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
    """Bars and ticks, mid prices and prices of one side do not go into one table."""
    for table, some in zip(tables, rows, strict=True):
        if some.of_ticks != rows[0].of_ticks:
            what = f"of this file and {tables[0].file} only one has ticks"
            raise SourceError(what, remedy="Read them one by one.", file=table.file)
        if any((ask in some.frame) != (ask in rows[0].frame) for ask in ("ask_close", "ask_price")):
            what = f"of this file and {tables[0].file} only one has bid and ask columns"
            raise SourceError(what, remedy="Read them one by one.", file=table.file)


def _check_ticks(tables: Sequence[Table], rows: Sequence[Rows], options: SourceOptions) -> None:
    """A tick in two files would be counted twice, and ticks have no stamp but their own."""
    if options.stamp != "auto":
        raise SourceError("--stamp is for bars; these are ticks", remedy="Leave it out.", file=tables[0].file)
    spans = [
        (some.frame["open_time"].min(), some.frame["open_time"].max(), t.file)
        for t, some in zip(tables, rows, strict=True)
        if len(some.frame)
    ]
    spans.sort()
    for (_, last, earlier), (first, _, later) in itertools.pairwise(spans):
        if first < last:
            what = f"its ticks begin at {first}, before those of {earlier} end"
            raise SourceError(what, remedy="Give files whose times do not overlap.", file=later)


def _unmatched(side: _Side, rows: pd.DataFrame, other: str) -> pd.DataFrame:
    return reject(side.tables, rows, f"no_matching_{other}", [f"the {other} has no bar at this time"] * len(rows))


def _mid(bid: _Side, bars: pd.DataFrame, symbol: Symbol) -> tuple[pd.DataFrame, pd.DataFrame]:
    mids, crossed = mid(bars, symbol.digits)
    rows = bars[crossed]
    return mids[~crossed], reject(bid.tables, rows, "ask_below_bid", _crossing(rows, "close", "ask_close", " close"))


def _crossing(rows: pd.DataFrame, bid: str, ask: str, of: str) -> list[str]:
    sides = zip(rows[ask], rows[bid], strict=True) if len(rows) else ()  # ticks of one side have no ask
    return [f"ask{of} {a!r} is below bid{of} {b!r}" for a, b in sides]


def _concat(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]  # an empty frame would decide on column types
    return pd.concat(filled, ignore_index=True) if filled else frames[0]


def _sorted(bars: pd.DataFrame) -> pd.DataFrame:
    return bars.sort_values("open_time", kind="stable", ignore_index=True)


def _zone_doubt(frame: pd.DataFrame, symbol: Symbol, timeframe: Timeframe) -> ZoneDoubt:
    """What the week says against the zone of the times, of currencies only: no other market has one week everywhere."""
    if symbol.session.kind != "fx":
        return ZoneDoubt()
    prices = frame[list(PRICES)].to_numpy()
    moved = (prices[:, 1:] != prices[:, :-1]).any(axis=1)
    return doubt_zone(frame["open_time"].to_numpy(dtype="datetime64[us]")[moved], timeframe.microseconds)


def _notes(sides: Sequence[_Side], frame: pd.DataFrame, symbol: Symbol, timeframe: Timeframe) -> SourceNotes:
    tables = [table for side in sides for table in side.tables]
    rows = [some for side in sides for some in side.rows]
    answers: dict[str, dict[str, None]] = {}
    for some in rows:
        for what, answer in some.detected.items():
            answers.setdefault(what, {})[answer] = None
    doubt = _zone_doubt(frame, symbol, timeframe)
    asks = any(some.zone_assumed for some in rows)
    brokers = any(some.brokers_clock for some in rows)
    question = ""
    if asks and doubt.hours:
        question = f"{doubt.text}. Say --tz {doubt.remedy}, or --tz UTC if the times are UTC"
    elif brokers and not doubt.settled:
        question = "the times are on the clock of a MetaTrader broker, and no weekend shows which. Say --tz with its "
        question += "zone, as --tz Europe/Athens, or --tz UTC"
    hint = doubt.text if doubt.hours and not question else ""
    return SourceNotes(
        files=tuple(table.file for table in tables),
        rows_read=sum(some.rows_read for some in rows),
        out_of_order=sum(some.out_of_order for some in rows),
        duplicates=sum(side.duplicates for side in sides),
        header_lines_skipped=sum(len(table.preamble) for table in tables),
        detected={what: " | ".join(distinct) for what, distinct in answers.items()},
        held=sum(side.held for side in sides),
        ticks=sum(side.ticks for side in sides),
        zone_question=question,
        zone_hint=hint,
    )
