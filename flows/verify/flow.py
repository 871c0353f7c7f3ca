"""The parity run in Prefect: every symbol that has bars, or a sample of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from pydantic import Field

from feature_repo.stores.redis.connection import connect, online_url
from flows.engine.names import flow_run_id, name_run
from flows.engine.parameters import Symbols, Timeframes, symbols_asked, timeframes_asked
from flows.engine.states import final_state
from flows.runs.plan import known_symbols
from flows.settings import load_settings
from flows.verify.symbol import Parity, choose, problems_of, unsettled, verify_symbol

_log = logging.getLogger("fstore")
_STATES = ("same", "differs", "due", "unsettled", "failed")
_LAST_WAIT_S = 180.0  # in all; longer than the lease of a run that has died


@flow(name="verify", flow_run_name=lambda: name_run("verify"))
def verify(
    symbols: Symbols = None,
    timeframes: Timeframes = None,
    sample: Annotated[int, Field(ge=1)] | None = None,
    seed: int | None = None,
) -> State[list[Parity]]:
    """Compares what is online, stored and recomputed; what differs is in doubt until it proves right.

    One symbol is in memory at a time.

    Args:
        symbols: only these; by default every symbol with stored bars.
        timeframes: only these; by default every timeframe that a symbol has.
        sample: how many of the symbols to verify; by default all.
        seed: chooses the sample, the same one for the same seed; by default a new one every day.

    Returns:
        ``Completed`` or ``Stopped``, with one result per symbol and timeframe, symbols by name, timeframes from the
        shortest.

    Raises:
        CatalogError: a symbol or timeframe is not in the catalog.
    """
    settings, now = load_settings(), datetime.now(UTC)
    ledger, tables, repo = settings.ledger(), settings.tables(), settings.repo()
    asked, frames = symbols_asked(symbols), timeframes_asked(timeframes)
    seed = now.toordinal() if seed is None else seed
    names = choose(sorted(asked) or list(known_symbols(tables, ledger)), sample, seed)
    parameters = {"symbols": symbols, "timeframes": timeframes, "sample": sample, "seed": seed}
    results: list[Parity] = []
    with ledger.run("verify", tables=tables, now=now, parameters=parameters, flow_run=flow_run_id()) as run:
        with connect(online_url(repo), repo.redis_type) as client:
            for done, name in enumerate(names, 1):
                results += verify_symbol(run, name, frames, settings, client)
                run.touch()
                _log.info("%d of %d symbols", done, len(names), extra={"done": done, "total": len(names)})
            for name in (left := unsettled(results)):  # until the runs that worked on them have ended
                results = [result for result in results if result.symbol != name]
                results += verify_symbol(run, name, frames, settings, client, wait_s=_LAST_WAIT_S / len(left))
        answered = {result.symbol for result in results}
        nothing = f"no stored bars make {', '.join(frames)}: there is nothing to compare"
        results += [Parity.failed(name, "", nothing) for name in names if asked and name not in answered]
        results.sort(key=lambda result: result.symbol)
        problems = problems_of(results)
        for problem in problems:
            _log.error("in doubt %s", problem)
        run.problems.extend(problems)
        run.counts.update({state: sum(result.state == state for result in results) for state in _STATES})
        run.counts["rows"] = sum(result.rows for result in results)
    _show(results)
    return final_state(f"{len(results)} views compared", problems, results)


def _show(results: Sequence[Parity]) -> None:
    if results:
        create_table_artifact(
            key="verify",
            table=[
                asdict(result) | {"by_rule": ", ".join(f"{rule}: {n}" for rule, n in result.by_rule.items())}
                for result in results
            ],
            description="Online, offline and recomputed compared; what differs is in doubt until it proves right",
        )
