"""How runs are called in Prefect: what they do, of which symbols, up to which bar."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import httpx
import numpy as np

from feature_repo import catalog
from feature_repo.sessions import grid_open

log = logging.getLogger("fstore")
_MAX_NAMED = 2


def run_name(kind: str, symbols: Sequence[str], timeframes: Sequence[str], bar: datetime | None) -> str:
    """Such as ``materialize 1h EUR/USD +108 2026-11-22 22:00``: the first symbol, how many others, the bar's close."""
    frames = list(timeframes) if len(timeframes) <= _MAX_NAMED else [f"{timeframes[0]}..{timeframes[-1]}"]
    named = ([symbols[0]] + [f"+{len(symbols) - 1}"] * (len(symbols) > 1)) if symbols else ["all"]
    return " ".join([kind, ",".join(frames), *named, f"{bar:%Y-%m-%d %H:%M}" if bar else ""]).strip()


def shard_name(symbols: Sequence[str]) -> str:
    """How the task run of some symbols is called."""
    return symbols[0] if len(symbols) == 1 else f"{symbols[0]} to {symbols[-1]} ({len(symbols)})"


def flow_run_id() -> str:
    """Prefect's id of the current run; empty outside of one."""
    from prefect.runtime import flow_run

    return str(flow_run.id or "")


def name_run(kind: str) -> str:
    """The name of the run that is about to begin, by its parameters and the clock: its last bar is the newest closed.

    A parameter that the flow will refuse is no reason to fail here.
    """
    from prefect.runtime import flow_run

    parameters = flow_run.parameters
    symbols = list(parameters.get("symbols") or ())
    timeframes = (
        [parameters["timeframe"]]
        if "timeframe" in parameters
        else list(parameters.get("timeframes") or catalog.TIMEFRAMES)
    )
    try:
        session = (catalog.symbol(symbols[0]) if symbols else next(iter(catalog.SYMBOLS.values()))).session
        shortest = min((catalog.timeframe(tf) for tf in timeframes), key=lambda tf: tf.seconds)
    except catalog.CatalogError:
        return kind
    now_us = int(datetime.now(UTC).timestamp() * 1e6)
    close_us = int(grid_open(session, shortest, np.array([now_us]))[0])
    return run_name(kind, symbols, timeframes, datetime.fromtimestamp(close_us / 1e6, UTC))


def rename_run(name: str) -> None:
    """Renames the current run; a server that refuses the name is no reason to fail."""
    from prefect.client.orchestration import get_client
    from prefect.runtime import flow_run

    if not flow_run.id:
        return
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(UUID(str(flow_run.id)), name=name)
    except httpx.HTTPError as error:
        log.warning("the run keeps its name: %s", error)
