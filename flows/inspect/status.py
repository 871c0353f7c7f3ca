"""How fresh every view is, offline and online."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from feature_repo import catalog
from feature_repo.catalog import Symbol
from feature_repo.freshness import bars_behind, freshness_of
from feature_repo.sessions import calendar_end
from feature_repo.stores.redis.codec import decode_timestamp, entity_key, timestamp_key
from feature_repo.stores.redis.connection import connect, online_url
from flows.runs.plan import ingested_series, plan
from flows.settings import Settings


def freshness(settings: Settings, now: datetime) -> list[dict[str, Any]]:
    """The newest close offline and online and its age in bars, one row per series that has or can have bars.

    It reads the ledger and the online store: its cost grows with the number of symbols, not with their history. What
    can't be read of one symbol is the ``problem`` of its rows (empty otherwise) and never hides the others.
    ``freshness`` is None of a symbol that the catalog has lost, where no bar has closed yet, and once the symbol's
    exchange calendar has ended: no bar is expected from then on, so a dead feed would look fresh.
    """
    repo, ledger = settings.repo(), settings.ledger()
    series, marks = ingested_series(settings.tables(), ledger), ledger.watermarks()
    names = sorted({symbol for symbol, _ in series})
    if not names:
        return []
    stamps = {tf: timestamp_key(catalog.view("ohlcv", tf).name) for tf in catalog.TIMEFRAMES}
    with connect(online_url(repo), repo.redis_type) as client, client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hmget(entity_key(name, repo.project), list(stamps.values()))
        replies = dict(zip(names, pipe.execute(raise_on_error=False), strict=True))
    now_us = int(now.timestamp() * 1e6)
    rows = []
    for name in names:
        reply, unreadable = replies[name], ""
        if isinstance(reply, Exception):  # a key of another type; a lost connection raises
            unreadable = f"its key in the online store can't be read ({type(reply).__name__})"
            reply = [None] * len(stamps)
        online = dict(zip(stamps, reply, strict=True))
        for tf, source in plan(tf for symbol, tf in series if symbol == name).items():
            mark, own = marks.get((name, tf)), series.get((name, tf))
            closes = [mark.event_us if mark else 0, own.last_us + catalog.timeframe(tf).microseconds if own else 0]
            online_us, age_bars, problem = None, None, unreadable
            symbol = catalog.SYMBOLS.get(name)  # a symbol that is no longer in the catalog still has its bars
            known = symbol is not None and max(closes) > 0
            if symbol is not None and (limit := _calendar_limit(symbol, now_us)):
                problem, known = problem or limit, False
            try:
                online_us = decode_timestamp(stamp) if (stamp := online[tf]) else None
                if online_us is not None and symbol is not None:
                    age_bars = bars_behind(symbol.session, catalog.timeframe(tf), online_us, now_us)
            except ValueError as error:
                problem = str(error)
            rows.append(
                {
                    "symbol": name,
                    "timeframe": tf,
                    "source": source or "ingested",
                    "offline": _moment(max(closes)),
                    "online": _moment(online_us or 0),
                    "age_bars": age_bars,
                    "freshness": freshness_of(tf, age_bars) if known else None,
                    "problem": problem,
                }
            )
    return rows


def _calendar_limit(symbol: Symbol, now_us: int) -> str:
    """Why the age of a symbol's bars is not known: its exchange calendar ends before now; empty otherwise."""
    try:
        end_us = calendar_end(symbol.session)
    except ValueError as error:
        return str(error)
    if end_us is None or now_us < end_us:
        return ""
    end = datetime.fromtimestamp(end_us / 1e6, UTC)
    return f"calendar {symbol.session.calendar} is known to {end:%Y-%m-%d} only: update exchange_calendars"


def _moment(us: int) -> datetime | None:
    return datetime.fromtimestamp(us / 1e6, UTC) if us else None
