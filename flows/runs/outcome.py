"""What a run did, by symbol and timeframe, and how a symbol that fails is isolated."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_repo.catalog import TIMEFRAMES
from feature_repo.series import Series
from flows.ledger import Holder, Run

_log = logging.getLogger("fstore")
_COUNTS = ("bars", "stored", "revised", "quarantined", "published")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run did for one symbol and timeframe.

    Attributes:
        bars: bars that the run made or recomputed: those that are new, were corrected, or depend on a correction.
        stored, revised, unchanged: what became of their indicator rows, as in ``flows.compute.changes``.
        quarantined: rows that a gate rejected.
        published: whether the online store took the symbol's views.
        as_of: close of the newest bar.
        age_bars: closed bars that an open market has made since.
        problem: why the symbol was stopped; empty when all went well.
    """

    symbol: str
    timeframe: str
    bars: int = 0
    stored: int = 0
    revised: int = 0
    unchanged: int = 0
    quarantined: int = 0
    published: bool = False
    as_of: datetime | None = None
    age_bars: int | None = None
    problem: str = ""

    @classmethod
    def stopped(cls, series: Series | str, problem: Exception | str) -> Outcome:
        """The outcome of a series, or of all of a symbol (by its name), that was stopped: by an error, or why."""
        symbol, timeframe = (series, "") if isinstance(series, str) else series.key
        reason = describe(problem) if isinstance(problem, Exception) else problem
        return cls(symbol=symbol, timeframe=timeframe, problem=reason)


def busy(holder: Holder) -> str:
    """Why a symbol was left alone, as an outcome reports it."""
    return f"{holder.owner} is working on it, until {holder.until:%H:%M:%S} UTC at least; run again then"


def describe(error: Exception) -> str:
    """An error as an outcome reports it."""
    return f"{type(error).__name__}: {error}"


@contextmanager
def isolated(stopped: Callable[[Exception], object]) -> Iterator[None]:
    """One bad symbol never stops the others: an error inside is handed to ``stopped``, which reports it by name.

    Raises:
        RedisError: the online store does not answer, which is no symbol's fault: the caller tries all of it again.
    """
    try:
        yield
    except (RedisConnectionError, RedisTimeoutError):
        raise
    except Exception as error:  # whatever is wrong with one symbol
        stopped(error)


def problems_of(outcomes: Iterable[Outcome]) -> list[str]:
    """What stopped each series, one line each."""
    return [
        f"{outcome.symbol} {outcome.timeframe}".strip() + f": {outcome.problem}"
        for outcome in outcomes
        if outcome.problem
    ]


def conclude(run: Run, outcomes: Sequence[Outcome]) -> None:
    """Counts what a run did, and reports what stopped each series, to the log and with the run's end."""
    problems = problems_of(outcomes)
    for problem in problems:
        _log.error("stopped %s", problem)
    run.problems.extend(problems)
    run.counts.update({name: sum(getattr(outcome, name) for outcome in outcomes) for name in _COUNTS})


def in_order(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Symbols by name, timeframes from the shortest; one that is of no timeframe comes before them."""
    order = {tf: i for i, tf in enumerate(["", *TIMEFRAMES])}
    return sorted(outcomes, key=lambda outcome: (outcome.symbol, order[outcome.timeframe]))
