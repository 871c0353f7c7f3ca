"""How fresh every view is, offline and online."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow.compute as pc

from feature_repo import catalog
from feature_repo.freshness import bars_behind
from feature_repo.stores.codec import decode_timestamp, entity_key, timestamp_key
from feature_repo.stores.connection import connect, online_url
from flows.settings import Settings


def freshness(settings: Settings, now: datetime) -> list[dict[str, Any]]:
    """A row a symbol and timeframe that has bars: how many, the newest close offline and online, its age in bars."""
    repo = settings.repo()
    keys = settings.tables().read("bars", columns=[])
    if not keys.num_rows:
        return []
    groups = keys.group_by(["symbol", "timeframe"]).aggregate([("open_time", "count"), ("event_timestamp", "max")])
    names = sorted(set(keys["symbol"].to_pylist()))
    stamps = {tf: timestamp_key(catalog.view("ohlcv", tf).name) for tf in catalog.TIMEFRAMES}
    with connect(online_url(repo), repo.redis_type) as client:
        held = {name: client.hmget(entity_key(name, repo.project), list(stamps.values())) for name in names}
    rows = []
    for name in names:
        for tf, stamp in zip(stamps, held[name], strict=True):
            found = groups.filter((pc.field("symbol") == name) & (pc.field("timeframe") == tf))
            if not found.num_rows:
                continue
            online_us = decode_timestamp(stamp) if stamp else None
            symbol = catalog.SYMBOLS.get(name)  # one that the catalog has lost still has its bars
            now_us = int(now.timestamp() * 1e6)
            rows.append(
                {
                    "symbol": name,
                    "timeframe": tf,
                    "bars": found["open_time_count"][0].as_py(),
                    "offline": found["event_timestamp_max"][0].as_py(),
                    "online": None if online_us is None else datetime.fromtimestamp(online_us / 1e6, now.tzinfo),
                    "age_bars": None
                    if online_us is None or symbol is None
                    else bars_behind(symbol.session, catalog.timeframe(tf), online_us, now_us),
                }
            )
    return rows
