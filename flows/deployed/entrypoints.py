"""The flows as they are deployed: what their forms ask for, how long they may take, and how they end.

Each is a shell around a flow of the platform, shaped by Prefect's own needs; `prefect.yaml` beside it names them.
None tries again: tasks do, where it helps, and the next run on schedule makes good what this one left.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State

from flows.alerts.channels import ChannelError, channels_of
from flows.alerts.check import check_alerts
from flows.backfill.flow import backfill as backfill_flow
from flows.deployed.ingest import ingest_symbols
from flows.engine.names import name_run, rename_run, run_name
from flows.engine.parameters import SymbolName, TimeframeName
from flows.engine.states import final_state
from flows.maintain import maintain as maintain_flow
from flows.materialize.flow import materialize as materialize_flow
from flows.settings import load_settings
from flows.sources import SourceOptions
from flows.verify.flow import verify as verify_flow

_MINUTE_S, _HOUR_S = 60, 3600


@flow(name="ingest", flow_run_name=lambda: name_run("ingest"), timeout_seconds=2 * _HOUR_S)
def ingest(
    source: str,
    symbols: list[SymbolName],
    timeframe: TimeframeName,
    format: Literal["auto", "csv", "parquet", "excel", "mt5", "mt4", "histdata", "sql", "ccxt"] = "auto",  # noqa: A002
    tz: str | None = None,
    stamp: Literal["auto", "open", "close"] = "auto",
    day_first: bool | None = None,
    instrument: str | None = None,
    volume: Literal["auto", "none"] = "auto",
    columns: dict[str, str] | None = None,
    query: str | None = None,
    table: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    revise: bool = False,
    as_is: bool = False,
) -> State[Any]:
    """Takes bars from a source, through the quality gate, into the offline store.

    Args:
        source: a file or folder, a database's URL, or exchange://NAME. {symbol} and {timeframe} in it are filled in, as
            /data/{symbol}_{timeframe}.csv. Everyone who can see a run can see its parameters: keep an address with a
            password in a Secret block, and write secret://BLOCK here.
        symbols: as the catalog names them.
        timeframe: of the bars in the source.
        format: of a file; detected from its content when auto.
        tz: zone of times that name none, such as America/New_York; by default UTC, or what the file declares.
        stamp: which end of its bar a time is.
        day_first: whether 02/03/2020 is the second of March, where the dates of the source do not show it.
        instrument: the source's own name for the instrument; {symbol} in it is filled in, as in {symbol}.US.
        volume: none when the volume column reports no volume.
        columns: our names to theirs, such as close to Last, where they are not recognised.
        query: SQL for a database; may use :symbol, :timeframe, :start and :end.
        table: a database's table, in place of a query.
        start: the first moment; by default an exchange is asked from the newest stored bar on.
        end: the first moment after the range.
        revise: store bars even if they change many of those that are stored. For one run, not for a schedule: it would
            take a vendor's mistake without asking.
        as_is: take prices in whatever unit they are beside their neighbours.
    """
    options = SourceOptions(
        format=format,
        tz=tz,
        stamp=stamp,
        day_first=day_first,
        instrument=instrument,
        volume=volume,
        columns=columns,
        query=query,
        table=table,
        start=start,
        end=end,
    )
    reports, problems = ingest_symbols(source, symbols, timeframe, options, revise=revise, as_is=as_is)
    newest = max((report.last_open for report in reports if report.last_open), default=None)
    rename_run(run_name("ingest", symbols, [timeframe], newest))
    return final_state(
        f"{sum(r.stored for r in reports)} bars stored, {sum(r.revised for r in reports)} revised", problems
    )


materialize = materialize_flow.with_options(timeout_seconds=2 * _HOUR_S)
backfill = backfill_flow.with_options(timeout_seconds=48 * _HOUR_S)
verify = verify_flow.with_options(timeout_seconds=6 * _HOUR_S)
maintain = maintain_flow.with_options(timeout_seconds=6 * _HOUR_S)


@flow(name="alerts", timeout_seconds=5 * _MINUTE_S)
def alerts() -> State[Any]:
    """Checks everything that is watched once, and reports to the channels what has begun and what has ended."""
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
    return final_state(f"{len(channels) - len(failures)} of {len(channels)} channels notified: {title}", failures)
