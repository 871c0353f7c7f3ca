"""Ingestion as Prefect runs it: one or several symbols from one kind of source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

from prefect.artifacts import create_table_artifact
from prefect.assets import add_asset_metadata
from prefect.assets import materialize as materializing
from prefect.blocks.system import Secret

from feature_repo.series import Series, series
from flows.engine.assets import BARS
from flows.ingest.ingest import IngestReport, SymbolBusyError, ingest
from flows.settings import Settings, load_settings
from flows.sources import SourceBars, SourceError, SourceOptions, read_bars

_SECRET = "secret://"  # noqa: S105  # the scheme of a name, no secret
_EXCHANGES = ("exchange://", "ccxt://")


@materializing(BARS, by="fstore", name="ingest-symbol", task_run_name="{symbol} {timeframe}")
def ingest_symbol(
    source: str,
    symbol: str,
    timeframe: str,
    options: SourceOptions,
    *,
    revise: bool = False,
    as_is: bool = False,
) -> IngestReport:
    """Reads one symbol's bars and stores them; the source's errors end it, and are reported by symbol."""
    settings = load_settings()
    each = series(symbol, timeframe)
    if source.startswith(_EXCHANGES) and options.start is None:
        options = replace(options, start=newest_open(settings, symbol, timeframe))
    report = ingest(
        _read(source, each, options),
        series=each,
        tables=settings.tables(),
        ledger=settings.ledger(),
        now=datetime.now(UTC),
        max_bad_share=settings.max_bad_share,
        max_revised_share=settings.max_revised_share,
        revise=revise,
        as_is=as_is,
    )
    add_asset_metadata(BARS, {"symbol": symbol, "timeframe": timeframe, "stored": report.stored})
    return report


def ingest_symbols(
    source: str,
    symbols: Sequence[str],
    timeframe: str,
    options: SourceOptions,
    *,
    revise: bool = False,
    as_is: bool = False,
) -> tuple[list[IngestReport], list[str]]:
    """Ingests symbol by symbol; one that fails leaves the others alone. Returns reports and problems.

    Args:
        revise, as_is: as ``flows.ingest.ingest.ingest`` takes them.
    """
    reports: list[IngestReport] = []
    problems: list[str] = []
    for name in dict.fromkeys(symbols):
        try:
            instrument = options.instrument and locate(options.instrument, name, timeframe)
            its_options = replace(options, instrument=instrument)
            report = ingest_symbol(
                locate(source, name, timeframe), name, timeframe, its_options, revise=revise, as_is=as_is
            )
        except (SourceError, SymbolBusyError, OSError) as error:
            problems.append(f"{name} {timeframe}: {error}")
            continue
        reports.append(report)
        if report.stopped:
            why = "; ".join((report.stopped, "nothing of it was stored", *report.refusal))
            problems.append(f"{name} {timeframe}: {why}")
    if reports:
        create_table_artifact(
            key="ingest", table=[_row(report) for report in reports], description="Bars read, stored and quarantined"
        )
    return reports, problems


def locate(source: str, symbol: str, timeframe: str) -> str:
    """The address with ``{symbol}`` (its slash left out, as files are named) and ``{timeframe}`` filled in."""
    return source.replace("{symbol}", symbol.replace("/", "")).replace("{timeframe}", timeframe)


def newest_open(settings: Settings, symbol: str, timeframe: str) -> datetime | None:
    """Open of the newest stored bar, from which on an exchange is asked again."""
    rows = settings.tables().read("bars", symbols=[symbol], timeframe=timeframe, columns=[])
    newest: datetime | None = rows["open_time"][-1].as_py() if rows.num_rows else None
    return newest


def _read(source: str, series: Series, options: SourceOptions) -> SourceBars:
    if source.startswith(_SECRET):
        block: Any = Secret.load(source.removeprefix(_SECRET))
        source = str(block.get())
    return read_bars(source, symbol=series.symbol, timeframe=series.timeframe, options=options)


def _row(report: IngestReport) -> dict[str, Any]:
    row = {f.name: getattr(report, f.name) for f in fields(report)}
    return row | {
        "quarantined_by_rule": ", ".join(f"{rule}: {n}" for rule, n in report.quarantined_by_rule.items()),
        "refusal": "; ".join(report.refusal),
        "gaps": len(report.gaps),
        "missing": report.gaps.missing_total,
        "first_open": str(report.first_open or ""),
        "last_open": str(report.last_open or ""),
    }
