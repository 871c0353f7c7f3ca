"""What is known of the platform at one moment: all that the rules look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from redis.exceptions import RedisError

from feature_repo import catalog
from feature_repo.freshness import bars_behind
from feature_repo.stores.redis.connection import connect, online_url
from feature_repo.stores.redis.embedded import EmbeddedServerError
from flows.inspect.status import freshness
from flows.ledger import Doubt, Ledger, Run, Verdict
from flows.settings import Settings
from fsclient.metrics.store import Process, read_processes

MATERIALIZE = "materialize"
"""The kind under which the ledger keeps the runs that publish."""

_MAX_VERDICTS = 20_000
_MAX_RUNS = 1_000
_VERDICTS_WITHIN = timedelta(days=14)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What is online of a symbol and timeframe that has bars.

    Attributes:
        age_bars: bars that an open market has closed since the one online; None: nothing is online.
        newest: close of the newest bar that is stored, UTC.
    """

    symbol: str
    timeframe: str
    age_bars: int | None
    newest: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LastRun:
    """The last completed run that covers a timeframe; ``bars_since``: those an open market has closed meanwhile."""

    ended: datetime
    bars_since: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything, at the moment ``now`` (UTC).

    Attributes:
        verdicts: newest first; of each symbol, timeframe and kind the first counts.
        doubts: by symbol and timeframe.
        processes: what clients have published of themselves.
        runs: timeframe -> its last completed run.
        unreachable: store -> why it did not answer; what only it knows is None then.
    """

    now: datetime
    views: Sequence[View] | None = ()
    verdicts: Sequence[Verdict] = ()
    doubts: Mapping[tuple[str, str], Doubt] = field(default_factory=dict)
    processes: Sequence[Process] | None = ()
    runs: Mapping[str, LastRun] | None = field(default_factory=dict)
    unreachable: Mapping[str, str] = field(default_factory=dict)


def gather_facts(settings: Settings, ledger: Ledger, now: datetime) -> Facts:
    """Asks the stores and the ledger. An online store that does not answer is itself a fact.

    Raises:
        LedgerUnavailable: the ledger does not answer.
    """
    repo = settings.repo()
    views: list[View] | None = None
    processes: list[Process] | None = None
    unreachable: dict[str, str] = {}
    try:
        views = [
            View(symbol=row["symbol"], timeframe=row["timeframe"], age_bars=row["age_bars"], newest=row["offline"])
            for row in freshness(settings, now)
            if row["symbol"] in catalog.SYMBOLS and row["offline"] is not None  # no bar of it has closed yet
        ]
        with connect(online_url(repo), repo.redis_type) as client:
            processes = read_processes(client, repo.project)
    except (RedisError, EmbeddedServerError) as error:
        unreachable["online"] = str(error)
    since_us = int((now - _VERDICTS_WITHIN).timestamp() * 1e6)
    return Facts(
        now=now,
        views=views,
        verdicts=ledger.verdicts(since_us=since_us, limit=_MAX_VERDICTS),
        doubts=ledger.doubts(),
        processes=processes,
        runs=None if views is None else _last_runs(ledger.runs(kind=MATERIALIZE, limit=_MAX_RUNS), views, now),
        unreachable=unreachable,
    )


def _last_runs(runs: Sequence[Run], views: Sequence[View], now: datetime) -> dict[str, LastRun]:
    """Of each timeframe that has views; the sessions of its symbols say how many bars have closed since."""
    found: dict[str, LastRun] = {}
    for timeframe in catalog.TIMEFRAMES.values():
        sessions = {catalog.symbol(view.symbol).session for view in views if view.timeframe == timeframe.name}
        # A run that stopped some symbols has done the others; the gate's own rule tells of those.
        done = (run for run in runs if run.state in ("completed", "stopped") and _covers(run, timeframe.name))
        ended = max((run.ended for run in done if run.ended), default=None)
        if not sessions or ended is None:
            continue
        ended_us, now_us = (int(moment.timestamp() * 1e6) for moment in (ended, now))
        bars = max(bars_behind(session, timeframe, ended_us, now_us) for session in sessions)
        found[timeframe.name] = LastRun(ended=ended, bars_since=bars)
    return found


def _covers(run: Run, timeframe: str) -> bool:
    asked = run.parameters.get("timeframes")
    return not asked or timeframe in asked
