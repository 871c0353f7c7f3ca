"""The flows as they are deployed: what their forms ask for, how long they may take, and how they end.

Each is a shell around a flow of the platform, shaped by Prefect's own needs; `prefect.yaml` beside it names them.
None tries again: tasks do, where it helps, and the next run on schedule makes good what this one left.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from pydantic import Field

from flows import maintain as upkeep
from flows.alerts.channels import ChannelError, channels_of
from flows.alerts.check import check_alerts
from flows.backfill import flow as backfills
from flows.deployed.ingest import ingest_symbols
from flows.deployed.parameters import SymbolName, TimeframeName
from flows.engine.names import name_run, rename_run, run_name
from flows.engine.states import final_state
from flows.materialize import flow as batch
from flows.settings import load_settings
from flows.sources import SourceOptions
from flows.verify import flow as parity

_MINUTE_S, _HOUR_S = 60, 3600
Symbols = Annotated[list[SymbolName] | None, Field(title="Symbols")]
Timeframes = Annotated[list[TimeframeName] | None, Field(title="Timeframes")]


@flow(name="ingest", flow_run_name=lambda: name_run("ingest"), timeout_seconds=2 * _HOUR_S)
def ingest(
    source: str,
    symbols: list[SymbolName],
    timeframe: TimeframeName,
    format: Literal["auto", "csv", "parquet", "excel", "mt5", "mt4", "histdata", "sql", "ccxt"] = "auto",  # noqa: A002
    tz: str | None = None,
    stamp: Literal["auto", "open", "close"] = "auto",
    columns: dict[str, str] | None = None,
    query: str | None = None,
    table: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> State[Any]:
    """Takes bars from a source, through the quality gate, into the offline store.

    Args:
        source: a file or folder, a database's URL, or exchange://NAME. {symbol} and {timeframe} in it are filled in, as
            /data/{symbol}_{timeframe}.csv. Parameters are seen by all who see a run: an address with a password is
            kept in a Secret block and given as secret://BLOCK.
        symbols: as the catalog names them.
        timeframe: of the bars in the source.
        format: of a file; told by its content when auto.
        tz: zone of times that name none, such as America/New_York; UTC, or what the file declares, when not given.
        stamp: which end of its bar a time is.
        columns: our names to theirs, such as close to Last, where they are not recognised.
        query: SQL for a database; may use :symbol, :timeframe, :start and :end.
        table: a database's table, in place of a query.
        start: first moment wanted; an exchange is asked from the newest stored bar on when not given.
        end: first moment no longer wanted.
    """
    options = SourceOptions(
        format=format, tz=tz, stamp=stamp, columns=columns, query=query, table=table, start=start, end=end
    )
    reports, problems = ingest_symbols(source, symbols, timeframe, options)
    newest = max((one.last_open for one in reports if one.last_open), default=None)
    rename_run(run_name("ingest", symbols, [timeframe], newest))
    return final_state(
        f"{sum(r.stored for r in reports)} bars stored, {sum(r.revised for r in reports)} revised", problems
    )


@flow(name="materialize", flow_run_name=lambda: name_run("materialize"), timeout_seconds=2 * _HOUR_S)
def materialize(symbols: Symbols = None, timeframes: Timeframes = None) -> State[Any]:
    """Computes, checks, stores and publishes what is new. What a run did not get to, the next one does.

    Args:
        symbols: only these; every symbol with stored bars when not given.
        timeframes: only these; all that can be had when not given.
    """
    return batch.materialize.fn(symbols=symbols, timeframes=timeframes)


@flow(name="backfill", flow_run_name=lambda: name_run("backfill"), timeout_seconds=48 * _HOUR_S)
def backfill(
    start: datetime | None = None,
    end: datetime | None = None,
    symbols: Symbols = None,
    timeframes: Timeframes = None,
    restart: bool = False,
) -> State[Any]:
    """Computes and stores the bars and indicators of a range anew; run again after a break, it goes on from there.

    Args:
        start: open time of the first bar; the beginning of history when not given.
        end: open time of the last bar; the newest one when not given.
        symbols: only these; every symbol with stored bars when not given.
        timeframes: only these; all that can be had when not given.
        restart: forget what an unfinished backfill with the same parameters has done.
    """
    return backfills.backfill.fn(start=start, end=end, symbols=symbols, timeframes=timeframes, restart=restart)


@flow(name="verify", flow_run_name=lambda: name_run("verify"), timeout_seconds=6 * _HOUR_S)
def verify(
    symbols: Symbols = None, timeframes: Timeframes = None, sample: Annotated[int, Field(ge=1)] | None = None
) -> State[Any]:
    """Compares what is online, stored and recomputed; what differs is in doubt until it proves right.

    Args:
        symbols: only these; every symbol with stored bars when not given.
        timeframes: only these; all that a symbol has when not given.
        sample: so many of the symbols, others every day; all when not given.
    """
    seed = datetime.now(UTC).toordinal()
    return parity.verify.fn(symbols=symbols, timeframes=timeframes, sample=sample, seed=seed)


@flow(name="maintain", timeout_seconds=6 * _HOUR_S)
def maintain(
    file_days: Annotated[float, Field(gt=0)] = 7,
    quarantine_days: Annotated[float, Field(gt=0)] = 365,
    history_days: Annotated[float, Field(gt=0)] = 90,
) -> State[Any]:
    """Compacts and vacuums the offline tables and prunes quarantine and ledger; runs and readers go on meanwhile.

    Args:
        file_days: how long data files that no current version needs are kept; readers of older versions need them.
        quarantine_days: how long rejected rows are kept.
        history_days: how long ended runs, verdicts and closed alerts are kept in the ledger.
    """
    done = upkeep.maintain.fn(file_days=file_days, quarantine_days=quarantine_days, history_days=history_days)
    return final_state(
        f"{sum(d.deleted_files for d in done)} files, {sum(d.deleted_rows for d in done)} rows deleted", []
    )


@flow(name="alerts", timeout_seconds=5 * _MINUTE_S)
def alerts() -> State[Any]:
    """Looks once at everything that is watched, and reports to the channels what has begun and what has ended."""
    checked = check_alerts(load_settings(), datetime.now(UTC))
    if checked.begun or checked.ended or checked.unknown:
        rows = [{"rule": f.rule, "subject": f.subject, "detail": f.detail} for f in checked.findings]
        rows += [
            {"rule": rule, "subject": subject, "detail": f"open, facts unknown: {why}"}
            for (rule, subject), why in checked.unknown.items()
        ]
        create_table_artifact(key="alerts", table=rows, description="What is wrong now")
    failures = [f"{channel}: {why}" for channel, why in checked.failures.items()]
    unknown = f", {len(checked.unknown)} open without known facts" if checked.unknown else ""
    return final_state(f"{len(checked.findings)} findings{unknown}, {checked.accepted} notices sent", failures)


@flow(name="notify", timeout_seconds=5 * _MINUTE_S)
def notify(title: str, body: str = "") -> State[Any]:
    """Sends one message to the channels of FSTORE_ALERT_URLS; automations have it say what became of a run.

    Args:
        title: one line.
        body: more of it.
    """
    channels, failures = channels_of(load_settings().alert_urls.split()), list[str]()
    for channel in channels:
        try:
            channel.send(title, body)
        except ChannelError as error:
            failures.append(str(error))
    return final_state(f"{len(channels) - len(failures)} of {len(channels)} channels told: {title}", failures)
