"""The command that loads bars: from a source, through the gate, into the offline store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from feature_repo import catalog
from feature_repo.catalog import Timeframe
from feature_repo.series import series
from flows.cli import show
from flows.cli.arguments import TIMEFRAMES, AsJson, check_range, moment
from flows.settings import Settings, load_settings
from flows.sources.options import Format, Stamp, Volume
from fsclient.errors import InvalidRequestError

if TYPE_CHECKING:
    from feature_repo.gaps import GapKind
    from flows.ingest.ingest import IngestReport
    from flows.sources import SourceBars


def ingest(
    source: Annotated[
        str,
        typer.Argument(help="A file, a folder of them, a database's URL, or exchange://NAME, such as binance."),
    ],
    symbol: Annotated[str, typer.Option(help="Such as EUR/USD.")],
    timeframe: Annotated[str, typer.Option(help=f"{TIMEFRAMES}.")],
    file_format: Annotated[
        Format,
        typer.Option("--format", metavar="<format>", help=f"{', '.join(get_args(Format))}; auto detects it."),
    ] = "auto",
    tz: Annotated[
        str | None,
        typer.Option(help="Zone of times that state none, such as Europe/Berlin; ZONE,DATE=ZONE if it changed."),
    ] = None,
    stamp: Annotated[Stamp, typer.Option(help="Whether a time is its bar's open or close.")] = "auto",
    day_first: Annotated[
        bool | None,
        typer.Option("--dayfirst/--monthfirst", help="How dates such as 02/03/2020 are read."),
    ] = None,
    instrument: Annotated[
        str | None, typer.Option(help="Which instrument of the file to take, as its own column names it.")
    ] = None,
    columns: Annotated[
        str, typer.Option(help="Our names for the file's: open=o,volume=vol; for ticks bid, ask, price.")
    ] = "",
    delimiter: Annotated[str | None, typer.Option(help="Detected by default.")] = None,
    ask: Annotated[Path | None, typer.Option(help="SOURCE holds bid prices, this file the ask: mid is stored.")] = None,
    unit: Annotated[
        float | None, typer.Option(help="What 1 in a price is: 0.00001 for points. Detected by default.")
    ] = None,
    volume: Annotated[Volume, typer.Option(help="none: the volume column reports no volume.")] = "auto",
    volume_unit: Annotated[float | None, typer.Option(help="What 1 in a volume is, such as 100000 for lots.")] = None,
    table: Annotated[str | None, typer.Option(help="For a database: the table to read.")] = None,
    query: Annotated[str | None, typer.Option(help="For a database: the query; may use :start and :end.")] = None,
    start: Annotated[
        str | None, typer.Option(help="First open time, for a database or an exchange; naive is UTC.")
    ] = None,
    end: Annotated[str | None, typer.Option(help="Last open time; a date alone means that whole day.")] = None,
    exchange_url: Annotated[str | None, typer.Option(help="Another host of the exchange, as https://host.")] = None,
    final: Annotated[
        bool | None, typer.Option("--final/--no-final", help="Whether the newest bar is finished.")
    ] = None,
    max_bad_share: Annotated[
        float | None,
        typer.Option(help="Share of bad rows up to which the good ones are stored.", min=0.0, max=0.999_999),
    ] = None,
    revise: Annotated[
        bool, typer.Option("--revise", help="Store the source even if it changes many stored bars.")
    ] = False,
    as_is: Annotated[
        bool, typer.Option("--as-is", help="Accept prices whose unit differs from that of the bars beside them.")
    ] = False,
    restore: Annotated[
        bool, typer.Option("--restore", help="Store bars even if they were withdrawn, or corrected later.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Load bars from files, a database or an exchange, through the quality gate, into the offline store."""
    from flows.sources import SourceError, SourceOptions, read_bars

    spec, frame = catalog.symbol(symbol), catalog.timeframe(timeframe)
    first = moment(start, "--start")
    check_range(first, moment(end, "--end", end=True))
    try:
        options = SourceOptions(
            format=file_format,
            tz=tz,
            stamp=stamp,
            day_first=day_first,
            instrument=instrument,
            columns=_mapping(columns),
            delimiter=delimiter,
            unit=unit,
            volume=volume,
            volume_unit=volume_unit,
            table=table,
            query=query,
            start=first,
            end=_first_not_wanted(end, frame),
            exchange_url=exchange_url,
        )
    except SourceError as error:  # an option, not yet a file
        raise InvalidRequestError(str(error)) from None
    bars = read_bars(source, symbol=spec, timeframe=frame, options=options, ask=ask)
    report = ingested(
        bars,
        symbol,
        timeframe,
        load_settings(),
        final=final,
        max_bad_share=max_bad_share,
        revise=revise,
        as_is=as_is,
        restore=restore,
    )
    if as_json:
        show.dump(_report_row(report) | {"gaps": report.gaps.as_frame().to_dict("records")})
    else:
        print_reports([report], {report.symbol: bars})
    if report.stopped:
        raise typer.Exit(1)


def ingested(
    bars: SourceBars,
    symbol: str,
    timeframe: str,
    settings: Settings,
    *,
    final: bool | None = None,
    max_bad_share: float | None = None,
    revise: bool = False,
    as_is: bool = False,
    restore: bool = False,
) -> IngestReport:
    """Ingests what was read, under a spinner; the settings' ``max_bad_share`` applies where none is stated."""
    from flows.ingest.ingest import ingest as run

    with show.err.status(f"checking {symbol} {timeframe}"):
        return run(
            bars,
            series=series(symbol, timeframe),
            tables=settings.tables(),
            ledger=settings.ledger(),
            now=datetime.now(UTC),
            max_bad_share=settings.max_bad_share if max_bad_share is None else max_bad_share,
            max_revised_share=settings.max_revised_share,
            final=final,
            revise=revise,
            as_is=as_is,
            restore=restore,
        )


_BREAKS: dict[GapKind, str] = {
    "missing": "gaps in open hours",
    "across_close": "gaps beside a market close",
    "closed": "breaks while the market was closed",
}


_MANY = 0.005
"""The share of bars out of trading hours from which on it is said what becomes of them; brokers quote a little late."""


def _report_row(report: IngestReport) -> dict[str, Any]:
    row = {f.name: getattr(report, f.name) for f in fields(report)}
    gaps = len(report.gaps) - report.gaps.by_kind.get("closed", 0)
    return row | {"gaps": gaps, "missing": report.gaps.missing_total}


def print_reports(reports: Sequence[IngestReport], sources: Mapping[str, SourceBars] | None = None) -> None:
    """Prints what became of the bars of sources, and what was detected about the sources."""
    rows = [
        _report_row(r) | {"span": f"{r.first_open:%Y-%m-%d} to {r.last_open:%Y-%m-%d}" if r.first_open else "-"}
        for r in reports
    ]
    columns = {"name": "symbol", "span": "open time (UTC)", "read": "read",
               "stored": "stored", "unchanged": "unchanged", "revised": "revised",
               "quarantined": "quarantined", "gaps": "gaps", "missing": "missing"}  # fmt: skip
    show.table("Ingested and checked", [show.named(row) for row in rows], columns)
    for r in reports:
        seen = {
            "not finished, held back": r.unfinished,
            "of an older download, corrected since": r.superseded,
            "withdrawn, and not brought back (--restore does)": r.withdrawn,
            **{f"quarantined, {rule}": n for rule, n in r.quarantined_by_rule.items()},
            **{what: r.gaps.by_kind[kind] for kind, what in _BREAKS.items()},
            "bars out of trading hours": r.off_session,
            "flat bars": r.flat,
            "bars with zero volume": r.zero_volume,
            "rows out of order": r.out_of_order,
        }
        notes = "; ".join(f"{what}: {n:,}" for what, n in seen.items() if n)
        if notes:
            show.line(f"{r.symbol} {r.timeframe}  {notes}")
        if r.off_session > _MANY * r.read:
            show.line((f"{r.symbol} {r.timeframe}  longer bars are made without those out of trading hours", "dim"))
        if sources and (hint := sources[r.symbol].notes.zone_hint):
            show.line((f"{r.symbol} {r.timeframe}  {hint}", "yellow"))
        if sources and (detected := _detected(sources[r.symbol])):
            show.line((detected, "dim"))
        if r.stopped:
            show.problem(r.symbol, r.timeframe, f"{r.stopped}; nothing of it was stored")
            for refusal in r.refusal:
                show.line(f"  {refusal}", to=show.err)
    show.out.print()


def _detected(source: SourceBars) -> str:
    """What was detected about a source that changes what its numbers mean, leaving out what is usual."""
    notes = source.notes
    zone, unit = notes.detected.get("time_zone", ""), notes.detected.get("unit", "")
    usual = not zone or zone.startswith(("UTC ", "stated in every time"))
    parts = [] if usual else [f"times in {zone}"]
    parts += [f"prices in {unit}"] if unit else []
    parts += [f"bars that are incomplete in it, held back: {notes.unfinished:,}"] if notes.unfinished else []
    return "; ".join(parts)


def _first_not_wanted(text: str | None, timeframe: Timeframe) -> datetime | None:
    """The end of a range that does not include it, of a last open time as it was typed: a date alone is that day."""
    last = moment(text, "--end", end=True)
    if last is None:
        return None
    is_day = last != moment(text, "--end")
    return last + (timedelta(microseconds=1) if is_day else timedelta(seconds=timeframe.seconds))


def _mapping(columns: str) -> dict[str, str] | None:
    pairs = [pair.partition("=") for pair in show.split(columns)]
    bad = next((left for left, sign, right in pairs if not (sign and right)), None)
    if bad is not None:
        raise typer.BadParameter(f"{bad!r} is no pair; write ours=theirs, such as open=o", param_hint="--columns")
    return {left.strip(): right.strip() for left, _, right in pairs} or None
