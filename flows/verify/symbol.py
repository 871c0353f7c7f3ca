"""The parity of one symbol: online = offline = recomputed; what does not prove right is in doubt until it does.

Nothing is locked while a symbol is compared. Only when something differs is it compared once more under its lease,
when no run can be half way through it: so what differs then is never a run's own footprint.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from feature_repo import catalog
from feature_repo.series import Series
from flows.ledger import Run, Verdict
from flows.runs.doubts import cast_doubt, end_doubt
from flows.runs.outcome import describe, isolated
from flows.runs.plan import every_job, pending
from flows.settings import Settings
from flows.verify.comparison import compare_stores
from flows.verify.findings import Comparison

_WAIT_S = 20.0

ParityState = Literal["same", "differs", "due", "unsettled", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """The result for one symbol and timeframe.

    Attributes:
        state: ``same``; ``differs``: it is in doubt now, unless the online store merely lost it; ``due``: all of it
            waits for a run, so nothing was compared; ``unsettled``: it seems to differ, but a run was at work on it
            throughout, so nobody can say yet; ``failed``: it could not be compared.
        rows: how many stored indicator rows were compared with a recomputation.
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

    @classmethod
    def failed(cls, symbol: str, timeframe: str, reason: str) -> Parity:
        """A series, or all of a symbol when ``timeframe`` is empty, that could not be compared."""
        return cls(symbol=symbol, timeframe=timeframe, state="failed", by_rule={}, reason=reason)


def choose(names: Sequence[str], sample: int | None, seed: int) -> list[str]:
    """The symbols to verify: all, or ``sample`` of them by chance; the same seed chooses the same."""
    if sample is None or sample >= len(names):
        return list(names)
    return sorted(random.Random(seed).sample(sorted(names), sample))  # noqa: S311  # a choice, no secret


def verify_symbol(
    run: Run,
    name: str,
    timeframes: Sequence[str],
    settings: Settings,
    client: Any,
    *,
    wait_s: float = _WAIT_S,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Parity]:
    """Compares what one symbol has of these timeframes, casts doubt on what differs and ends it where all is proven.

    A timeframe that cannot be compared leaves the others alone.

    Args:
        wait_s: how long to wait for a run that works on the symbol, when something differs.

    Raises:
        RedisError: the online store is unavailable, which is no symbol's fault.
    """
    results: list[Parity] = []
    with isolated(lambda error: results.append(Parity.failed(name, "", describe(error)))):
        work = _Verification(run=run, symbol=catalog.symbol(name), settings=settings, client=client)
        compared = work.compare(timeframes)
        suspects = [tf for tf, result in compared.items() if isinstance(result, Comparison) and result.findings]
        unsettled: set[str] = set()
        if suspects:
            with run.lease_of(name, wait_s=wait_s, sleep=sleep) as lease:
                if lease.symbols:
                    compared |= work.compare(suspects)
                else:
                    unsettled = set(suspects)
        return [work.conclude(tf, result, unsettled=tf in unsettled) for tf, result in compared.items()]
    return results


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verification:
    """One symbol on its way through a comparison."""

    run: Run
    symbol: catalog.Symbol
    settings: Settings
    client: Any

    def compare(self, timeframes: Sequence[str]) -> dict[str, Comparison | Exception]:
        """Each timeframe that the symbol has, compared, or the error that kept it from that."""
        run = self.run
        work = pending([self.symbol], timeframes, run.tables, run.ledger, now=run.now)
        due_us = {job.timeframe.name: job.since_us or 0 for job in work.jobs}
        compared: dict[str, Comparison | Exception] = {}
        for job in every_job(self.symbol, timeframes, run.ledger):
            tf = job.timeframe.name
            with isolated(partial(compared.__setitem__, tf)):
                compared[tf] = compare_stores(
                    job,
                    due_us=due_us.get(tf),
                    tables=run.tables,
                    client=self.client,
                    project=self.settings.repo().project,
                    now=run.now,
                    min_completeness=self.settings.min_completeness,
                )
        return compared

    def conclude(self, timeframe: str, result: Comparison | Exception, *, unsettled: bool) -> Parity:
        """Acts on a comparison: doubt, the end of one, and the ledger's verdict."""
        if isinstance(result, Exception):
            return Parity.failed(self.symbol.name, timeframe, describe(result))
        run, project = self.run, self.settings.repo().project
        series = Series(symbol=self.symbol, timeframe=catalog.timeframe(timeframe))
        parity = Parity(
            symbol=self.symbol.name,
            timeframe=timeframe,
            state="unsettled" if unsettled else _state(result),
            rows=result.rows,
            online=result.online,
            due=result.due,
            by_rule={str(finding.rule): finding.rows for finding in result.findings},
            reason=result.reason,
        )
        if parity.state in ("unsettled", "due"):
            return parity
        cleared = False
        if result.is_wrong:
            cast_doubt(self.client, project, run.ledger, series, result.reason)
        elif result.is_proof:
            cleared = end_doubt(self.client, project, run.ledger, series)
        verdict = Verdict(
            run=run.id,
            symbol=parity.symbol,
            timeframe=timeframe,
            kind="parity",
            passed=not result.findings,
            reason=result.reason,
            rows=result.rows,
            bad_rows=sum(parity.by_rule.values()),
            by_rule=parity.by_rule,
            at_us=run.now_us,
        )
        run.record(verdicts=[verdict])
        return replace(parity, cleared=cleared)


def _state(result: Comparison) -> ParityState:
    if result.findings:
        return "differs"
    return "due" if result.due and not result.rows else "same"


def unproven(results: Sequence[Parity]) -> list[Parity]:
    """Those that differ, or could not be compared."""
    return [result for result in results if result.state in ("differs", "failed")]


def unsettled(results: Sequence[Parity]) -> list[str]:
    """The symbols of which something seems to differ while a run is at work on them."""
    return list(dict.fromkeys(result.symbol for result in results if result.state == "unsettled"))


def problems_of(results: Sequence[Parity]) -> list[str]:
    """What differs or could not be compared, one line each."""
    return [f"{result.symbol} {result.timeframe}".strip() + f": {result.reason}" for result in unproven(results)]
