"""The batch flow: new bars to published features. This module and the stream flow alone know the order of stages."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.futures import as_completed
from prefect.task_runners import ThreadPoolTaskRunner
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_repo import catalog
from feature_repo.stores.connection import connect, online_url
from flows import shard
from flows.settings import Settings, load_settings
from flows.shard import Outcome

log = logging.getLogger("fstore")


def materialize_symbols(
    symbols: Sequence[str], timeframes: Sequence[str], settings: Settings, now: datetime
) -> list[Outcome]:
    """Derives, computes, checks, stores and publishes some symbols; a symbol that fails leaves the others alone.

    Everything that changed is stored in one commit a table, then published symbol by symbol.
    """
    tables, repo = settings.tables(), settings.repo()
    outcomes: list[Outcome] = []
    ready: list[shard.Computed] = []
    for name in symbols:
        try:
            symbol = catalog.symbol(name)
            stored = shard.bars_of(symbol, tables)
            plan = shard.plan(stored)
        except Exception as error:  # one bad symbol never stops the others; it is reported by name
            outcomes.append(Outcome(symbol=name, timeframe="", problem=_describe(error)))
            continue
        for tf in (tf for tf in timeframes if tf in plan):
            source = plan[tf]
            try:
                computed = shard.compute(
                    symbol,
                    catalog.timeframe(tf),
                    catalog.timeframe(source) if source else None,
                    stored,
                    tables,
                    now=now,
                    max_bad_share=settings.max_bad_share,
                )
            except Exception as error:  # as above
                outcomes.append(Outcome(symbol=name, timeframe=tf, problem=_describe(error)))
                continue
            if computed is None:
                outcomes.append(Outcome(symbol=name, timeframe=tf))
            else:
                ready.append(computed)
    if ready:
        shard.store(ready, tables)
        with connect(online_url(repo), repo.redis_type) as client:
            outcomes += [_published(one, client, repo.project, now) for one in ready]
    return outcomes


def _published(one: shard.Computed, client: Any, project: str, now: datetime) -> Outcome:
    try:
        return shard.publish(one, client, project, now=now)
    except (RedisConnectionError, RedisTimeoutError):
        raise  # no symbol's fault: the whole shard is tried again
    except Exception as error:  # as above
        return Outcome(symbol=one.symbol.name, timeframe=one.timeframe.name, problem=_describe(error))


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, shard.Stopped) else f"{type(error).__name__}: {error}"


@task(name="materialize-shard", task_run_name="{label}", retries=2, retry_delay_seconds=[2, 10])
def materialize_shard(label: str, symbols: list[str], timeframes: list[str], now: datetime) -> list[Outcome]:  # noqa: ARG001
    """One shard of symbols, wherever the task runner puts it; settings are read there."""
    return materialize_symbols(symbols, timeframes, load_settings(), now)


@flow(name="materialize", task_runner=ThreadPoolTaskRunner(max_workers=4))  # type: ignore[arg-type]
def materialize(symbols: list[str] | None = None, timeframes: list[str] | None = None) -> list[Outcome]:
    """Computes, checks, stores and publishes every symbol that has bars.

    Args:
        symbols: only these; every symbol with stored bars when not given.
        timeframes: only these; all that can be had when not given.

    Returns:
        One outcome a symbol and timeframe, symbols by name, timeframes from the shortest. A symbol that was asked for
        and has no bars has one without a timeframe, which says so.

    Raises:
        CatalogError: a symbol or timeframe is not in the catalog; nothing has been written then.
    """
    settings, now = load_settings(), datetime.now(UTC)
    asked = list(dict.fromkeys(catalog.symbol(name).name for name in symbols or ()))
    names = asked or list(settings.tables().symbols())
    frames = [catalog.timeframe(tf).name for tf in timeframes] if timeframes else list(catalog.TIMEFRAMES)
    shards = [names[i : i + settings.shard_size] for i in range(0, len(names), settings.shard_size)]
    futures = {materialize_shard.submit(_label(part), part, frames, now): part for part in shards}
    outcomes: list[Outcome] = []
    done = 0
    for future in as_completed(list(futures)):
        part = futures[future]
        try:
            outcomes += future.result()
        except Exception as error:  # the other shards go on
            outcomes += [Outcome(symbol=name, timeframe="", problem=_describe(error)) for name in part]
        done += len(part)
        log.info("%d of %d symbols", done, len(names), extra={"done": done, "total": len(names)})
    answered = {outcome.symbol for outcome in outcomes}
    nothing = f"no stored bars give {', '.join(frames)}: ingest some first"
    outcomes += [Outcome(symbol=name, timeframe="", problem=nothing) for name in asked if name not in answered]
    order = {tf: i for i, tf in enumerate(["", *catalog.TIMEFRAMES])}
    outcomes.sort(key=lambda o: (o.symbol, order[o.timeframe]))
    for outcome in outcomes:
        if outcome.problem:
            log.error("%s %s stopped: %s", outcome.symbol, outcome.timeframe, outcome.problem)
    if outcomes:
        create_table_artifact(
            key="materialize",
            table=[{k: str(v) if isinstance(v, datetime) else v for k, v in asdict(o).items()} for o in outcomes],
            description="Rows in, stored, quarantined and published, and each symbol's freshness in bars",
        )
    return outcomes


def _label(symbols: Sequence[str]) -> str:
    return symbols[0] if len(symbols) == 1 else f"{symbols[0]} to {symbols[-1]} ({len(symbols)})"
