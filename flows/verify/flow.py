"""The parity run: online = offline = recomputed, symbol by symbol; what does not prove right is in doubt until it does.

Nothing is locked while a symbol is compared. Only when something differs is it compared once more under its lease,
when no run can be half way through it: so what is found is never a run's own footprint.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_repo import catalog
from feature_repo.stores.redis.connection import connect, online_url
from flows.engine.names import flow_run_id
from flows.engine.states import final_state
from flows.ledger import Ledger
from flows.ledger import Verdict as NotedVerdict
from flows.runs.doubts import cast_doubt, end_doubt
from flows.runs.lease import lease_symbol
from flows.runs.outcome import describe
from flows.runs.plan import every_job, known_symbols, pending
from flows.settings import Settings, load_settings
from flows.verify import Comparison, compare_stores

log = logging.getLogger("fstore")
_WAIT_S = 20.0

ParityState = Literal["same", "differs", "unsettled", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """What was found of one symbol and timeframe.

    Attributes:
        state: ``same``; ``differs``: it is in doubt now; ``unsettled``: it seems to differ, but a run was at work on it
            all the while, so nobody can say yet; ``failed``: it could not be compared.
        rows: stored indicator rows that were held against a recomputation.
        online: whether the online store held something to compare.
        due: whether bars wait for the next run; what depends on them was not looked at.
        by_rule: how often it differs, by ``flows.verify.RULES``.
        reason: what differs, or why it could not be compared; empty when all is well.
        cleared: whether this ended an earlier doubt.
    """

    symbol: str
    timeframe: str
    state: ParityState
    rows: int = 0
    online: bool = False
    due: bool = False
    by_rule: dict[str, int]
    reason: str = ""
    cleared: bool = False


def choose(names: Sequence[str], sample: int | None, seed: int) -> list[str]:
    """The symbols to verify: all, or ``sample`` of them by chance; the same seed chooses the same."""
    if sample is None or sample >= len(names):
        return list(names)
    return sorted(random.Random(seed).sample(sorted(names), sample))  # noqa: S311  # a choice, no secret


def verify_symbol(
    name: str,
    timeframes: Sequence[str],
    settings: Settings,
    ledger: Ledger,
    client: Any,
    now: datetime,
    *,
    run: str = "",
    sleep: Callable[[float], None] = time.sleep,
) -> list[Parity]:
    """Compares what one symbol has of these timeframes, casts doubt on what differs and ends it where all is well.

    A timeframe that cannot be compared leaves the others alone.

    Raises:
        RedisConnectionError: the online store is away, which is no symbol's fault.
    """
    try:
        work = _Verification(symbol=catalog.symbol(name), settings=settings, ledger=ledger, client=client, now=now)
        found = work.compare(timeframes)
        suspects = [tf for tf, one in found.items() if isinstance(one, Comparison) and one.findings]
        unsettled: set[str] = set()
        if suspects:
            with lease_symbol(ledger, name, run, wait_s=_WAIT_S, sleep=sleep) as lease:
                if lease.symbols:
                    found |= work.compare(suspects)
                else:
                    unsettled = set(suspects)
        return [work.conclude(tf, one, unsettled=tf in unsettled, run=run) for tf, one in found.items()]
    except (RedisConnectionError, RedisTimeoutError):
        raise
    except Exception as error:  # one bad symbol never stops the others
        return [Parity(symbol=name, timeframe="", state="failed", by_rule={}, reason=describe(error))]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verification:
    """One symbol on its way through a comparison."""

    symbol: catalog.Symbol
    settings: Settings
    ledger: Ledger
    client: Any
    now: datetime

    def compare(self, timeframes: Sequence[str]) -> dict[str, Comparison | Exception]:
        """Each timeframe that the symbol has, compared, or the error that kept it from that."""
        tables = self.settings.tables()
        jobs = {
            job.timeframe.name: job
            for job in pending([self.symbol], timeframes, tables, self.ledger, now=self.now).jobs
        }
        found: dict[str, Comparison | Exception] = {}
        for job in every_job(self.symbol, timeframes, self.ledger):
            tf, due = job.timeframe.name, jobs.get(job.timeframe.name)
            try:
                found[tf] = compare_stores(
                    job, due_us=None if due is None else due.since_us or 0, tables=tables, client=self.client,
                    project=self.settings.repo().project, now=self.now,
                    min_completeness=self.settings.min_completeness,
                )  # fmt: skip
            except (RedisConnectionError, RedisTimeoutError):
                raise
            except Exception as error:  # one bad timeframe never stops the others
                found[tf] = error
        return found

    def conclude(self, timeframe: str, one: Comparison | Exception, *, unsettled: bool, run: str) -> Parity:
        """Acts on a comparison: doubt, the end of one, and the ledger's verdict."""
        key: dict[str, Any] = {"symbol": self.symbol.name, "timeframe": timeframe}
        if isinstance(one, Exception):
            return Parity(**key, state="failed", by_rule={}, reason=describe(one))
        by_rule = {str(finding.rule): finding.rows for finding in one.findings}
        told: dict[str, Any] = {
            "rows": one.rows,
            "online": one.online,
            "by_rule": by_rule,
            "reason": one.reason,
            "due": one.due,
        }
        if unsettled:
            return Parity(**key, state="unsettled", **told)
        project, cleared = self.settings.repo().project, False
        if one.findings:
            cast_doubt(self.client, project, self.ledger, self.symbol.name, timeframe, one.reason)
        else:
            cleared = end_doubt(self.client, project, self.ledger, self.symbol.name, timeframe)
        if run:
            said = NotedVerdict(
                run=run, **key, kind="parity", passed=not one.findings, reason=one.reason, rows=one.rows,
                bad_rows=sum(by_rule.values()), by_rule=by_rule, at_us=int(self.now.timestamp() * 1e6),
            )  # fmt: skip
            self.ledger.record(verdicts=[said])
        return Parity(**key, state="differs" if one.findings else "same", cleared=cleared, **told)


@flow(name="verify")
def verify(
    symbols: list[str] | None = None,
    timeframes: list[str] | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> State[list[Parity]]:
    """Compares online, offline and recomputed of every symbol that has bars, one symbol in memory at a time.

    Args:
        symbols: only these; every symbol with stored bars when not given.
        timeframes: only these; all that a symbol has when not given.
        sample: so many of the symbols, chosen by chance; all when not given.
        seed: what chance goes by.

    Returns:
        ``Completed`` or ``Stopped``, with one a symbol and timeframe, symbols by name, timeframes from the shortest.

    Raises:
        CatalogError: a symbol or timeframe is not in the catalog.
    """
    settings, now = load_settings(), datetime.now(UTC)
    ledger, repo = settings.ledger(), settings.repo()
    asked = [catalog.symbol(name).name for name in symbols or ()]
    frames = [
        tf for tf in catalog.TIMEFRAMES if tf in {catalog.timeframe(tf).name for tf in timeframes or catalog.TIMEFRAMES}
    ]
    names = choose(sorted(set(asked)) or list(known_symbols(settings.tables(), ledger)), sample, seed)
    given = {"symbols": symbols, "timeframes": timeframes, "sample": sample, "seed": seed}
    run = ledger.begin("verify", parameters=given, flow_run=flow_run_id())
    found: list[Parity] = []
    try:
        with connect(online_url(repo), repo.redis_type) as client:
            for done, name in enumerate(names, 1):
                found += verify_symbol(name, frames, settings, ledger, client, now, run=run)
                ledger.touch(run)
                log.info("%d of %d symbols", done, len(names), extra={"done": done, "total": len(names)})
    except BaseException as error:
        ledger.end(run, state="failed", counts={}, problems=[f"{type(error).__name__}: {error}"])
        raise
    answered = {one.symbol for one in found}
    nothing = f"no stored bars give {', '.join(frames)}: there is nothing to compare"
    found += [
        Parity(symbol=name, timeframe="", state="failed", by_rule={}, reason=nothing)
        for name in names
        if asked and name not in answered
    ]
    found.sort(key=lambda one: one.symbol)
    _report(found, ledger, run)
    return final_state(f"{len(found)} views compared", problems_of(found), found)


def failed(found: Sequence[Parity]) -> list[Parity]:
    """Those that did not prove right, or could not be compared."""
    return [one for one in found if one.state in ("differs", "failed")]


def problems_of(found: Sequence[Parity]) -> list[str]:
    """What did not prove right, a line each."""
    return [f"{one.symbol} {one.timeframe}".strip() + f": {one.reason}" for one in failed(found)]


def _report(found: Sequence[Parity], ledger: Ledger, run: str) -> None:
    problems = problems_of(found)
    for problem in problems:
        log.error("in doubt %s", problem)
    counts = {state: sum(one.state == state for one in found) for state in ("same", "differs", "unsettled", "failed")}
    counts["rows"] = sum(one.rows for one in found)
    ledger.end(run, state="stopped" if problems else "completed", counts=counts, problems=problems)
    if found:
        create_table_artifact(
            key="verify",
            table=[asdict(one) | {"by_rule": ", ".join(f"{k}: {n}" for k, n in one.by_rule.items())} for one in found],
            description="Online, offline and recomputed compared; what differs is in doubt until it proves right",
        )
