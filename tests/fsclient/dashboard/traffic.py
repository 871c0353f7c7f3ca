"""Real-like client traffic of many processes, written as their publishers write it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from fsclient.metrics.calls import CallRecord
from fsclient.metrics.history import Slot, SlotRows, merge, pack, unpack
from fsclient.metrics.store import Process, Resolution, When, key, write

MEDIAN_S = {"online": 1.1e-3, "cache": 2.2e-5, "offline": 9e-3, "last_good": 8e-5}


def records(rng: random.Random, calls: int, symbols: Sequence[str], *, outage: bool = False) -> list[CallRecord]:
    """Calls as strategies make them: mostly answered by the cache, some online; in an outage by neither."""
    records = []
    for _ in range(calls):
        method = rng.choices(["get_latest", "get_ohlcv", "get_indicators", "compute_feature"], [8, 1, 1, 1])[0]
        symbol = None if method == "get_latest" and rng.random() < 0.3 else rng.choice(symbols)
        fate = rng.random()
        source, error = ("cache" if fate < 0.72 else "online" if fate < 0.97 else "offline"), None
        if method == "compute_feature" and source != "cache":
            source = "recomputed"
        if outage:
            source, error = (
                ("last_good" if fate < 0.6 else "recomputed", None)
                if fate < 0.7
                else (None, "CircuitOpenError" if fate < 0.9 else "RequestTimeout")
            )
        elif fate > 0.9992:
            source, error = None, "UnknownSymbolError"
        median = MEDIAN_S.get(source or "", 0.02)
        records.append(
            CallRecord(
                method,
                symbol,
                "1h",
                source,
                rng.lognormvariate(math.log(median), 0.45),
                error,
                None if error else source == "cache",
                source == "last_good",
                0 if source == "cache" else 1,
                1,
            )
        )
    return records


def rows_of(calls: Sequence[CallRecord]) -> SlotRows:
    """The calls as a slot's rows."""
    slot = Slot()
    for call in calls:
        slot.count(call)
    return slot.rows()


def scaled(rows: SlotRows, factor: int) -> SlotRows:
    """The rows as if every call had been made ``factor`` times."""
    total = Slot()
    for _ in range(factor):
        total.add(rows)
    return total.rows()


def processes(count: int, now: float, *, dead: int = 0) -> list[Process]:
    """Processes of a few machines; the last ``dead`` of them have not published for an hour."""
    return [
        Process(
            host=f"trader-{n % 8 + 1}",
            pid=2000 + 17 * n,
            start_s=now - 86_400 - 60 * n,
            seen_s=now - (3600 if n >= count - dead else 2),
            states={"breaker.online": "closed"},
        )
        for n in range(count)
    ]


def fill(
    client: Any, project: str, owners: Sequence[Process], times: Sequence[When], slots: Sequence[Sequence[bytes]]
) -> None:
    """Writes a history at once, sums included.

    Args:
        slots: kinds of a time: each a packed slot for each process; they follow each other, one per time.
    """
    sums = [pack(merge(kind)) for kind in slots]
    for owner in owners:
        write(client, project, owner, {})
    for first in range(0, len(times), 50):
        pipe = client.pipeline(transaction=False)
        for n, when in enumerate(times[first : first + 50], first):
            kind = n % len(slots)
            name = key(project, when)
            fields = {owner.id: packed for owner, packed in zip(owners, slots[kind], strict=True)}
            pipe.hset(name, mapping={**fields, "v": len(owners), "*": b"%d:" % len(owners) + sums[kind]})
            pipe.expireat(name, when.end_s + 40 * 86_400)
        pipe.execute()


def times_back(resolution: Resolution, now: float, count: int) -> list[When]:
    """The last ``count`` minutes or hours, the running one included, ascending."""
    last = When.of(resolution, now).number
    return [When(resolution, number) for number in range(last - count + 1, last + 1)]


def calls_in(packed: bytes) -> int:
    """How many calls a packed slot counts."""
    return sum(row[2] for row in unpack(packed).series)
