"""What is known of the platform at one moment: everything that the rules look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from redis.exceptions import RedisError

from feature_repo import catalog
from feature_repo.freshness import bars_behind
from feature_repo.moments import to_us
from feature_repo.stores.redis.connection import connect, online_url
from feature_repo.stores.redis.embedded import EmbeddedServerError
from feature_repo.stores.tables import OFFLINE_OUTAGE
from flows.inspect.status import freshness
from flows.ledger import Doubt, LastEnd, Ledger, Verdict
from flows.settings import Settings
from fsclient.metrics.store import Process, read_processes

MATERIALIZE = "materialize"
"""The kind under which the ledger keeps the runs that publish."""
_MAX_VERDICTS = 20_000
_VERDICTS_WITHIN = timedelta(days=14)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A symbol and timeframe that has bars, and what is online of it.

    Attributes:
        age_bars: bars that an open market has closed since the one online; None: nothing is online.
        newest: close of the newest stored bar, UTC.
        is_watched: whether the catalog still has the symbol.
    """

    symbol: str
    timeframe: str
    age_bars: int | None
    newest: datetime
    is_watched: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LastRun:
    """The last completed run that covers a timeframe.

    Attributes:
        ended: UTC.
        bars_since: bars that an open market has closed since then.
    """

    ended: datetime
    bars_since: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything known at the moment ``now`` (UTC). What is unknown is None.

    Attributes:
        verdicts: newest first; the first of each symbol, timeframe and kind counts. A gate that is not among them has
            said nothing new.
        doubts: all of them, by symbol and timeframe.
        processes: what clients have published of themselves.
        runs: timeframe -> its last completed run.
        unreachable: store -> why it did not answer.
    """

    now: datetime
    views: Sequence[View] | None = ()
    verdicts: Sequence[Verdict] = ()
    doubts: Mapping[tuple[str, str], Doubt] = field(default_factory=dict)
    processes: Sequence[Process] | None = ()
    runs: Mapping[str, LastRun] | None = field(default_factory=dict)
    unreachable: Mapping[str, str] = field(default_factory=dict)


def gather_facts(settings: Settings, ledger: Ledger, now: datetime) -> Facts:
    """Asks the stores and the ledger. A store that does not answer is itself a fact.

    Raises:
        LedgerUnavailable: the ledger does not answer.
    """
    repo = settings.repo()
    views: list[View] | None = None
    processes: list[Process] | None = None
    unreachable: dict[str, str] = {}
    try:
        with connect(online_url(repo), repo.redis_type) as client:
            processes = read_processes(client, repo.project)
        views = [
            View(
                symbol=row["symbol"],
                timeframe=row["timeframe"],
                age_bars=row["age_bars"],
                newest=row["offline"],
                is_watched=row["symbol"] in catalog.SYMBOLS,
            )
            for row in freshness(settings, now)
            if row["offline"] is not None  # else no bar of it has closed yet
        ]
    except (RedisError, EmbeddedServerError) as error:
        unreachable["online"] = str(error)
    except OFFLINE_OUTAGE as error:
        unreachable["offline"] = str(error)
    return Facts(
        now=now,
        views=views,
        verdicts=ledger.verdicts(since_us=to_us(now - _VERDICTS_WITHIN), limit=_MAX_VERDICTS),
        doubts=ledger.doubts(),
        processes=processes,
        runs=None if views is None else _last_runs(ledger.last_ends(MATERIALIZE), views, now),
        unreachable=unreachable,
    )


def _last_runs(ends: Sequence[LastEnd], views: Sequence[View], now: datetime) -> dict[str, LastRun]:
    """The last run of each timeframe that has views; the sessions of its symbols say how many bars have closed since.

    A run that stopped some symbols has done the others; the gate's own rule reports the stopped ones.
    """
    runs: dict[str, LastRun] = {}
    for timeframe in catalog.TIMEFRAMES.values():
        sessions = {
            catalog.symbol(view.symbol).session
            for view in views
            if view.timeframe == timeframe.name and view.is_watched
        }
        ended = max((end.ended for end in ends if _covers(end, timeframe.name)), default=None)
        if not sessions or ended is None:
            continue
        bars = max(bars_behind(session, timeframe, to_us(ended), to_us(now)) for session in sessions)
        runs[timeframe.name] = LastRun(ended=ended, bars_since=bars)
    return runs


def _covers(end: LastEnd, timeframe: str) -> bool:
    timeframes = end.parameters.get("timeframes")
    return not timeframes or timeframe in timeframes
