"""Where the processes of a project keep their counts in Redis, so that any other process can show what they did.

For every minute of the last day and every hour of the last thirty there is one hash, with one field per process: the
whole of what that process counted then, written again and again until the time is over. Writing is idempotent, a
process that died leaves its fields behind, and Redis forgets all of them by itself. ::

    fstore:metrics:{project}:m:29000000   id -> counts, "v" -> number of writes, "*" -> the sum, and the v it is made of
    fstore:metrics:{project}:h:483333     the same by the hour
    fstore:metrics:{project}:processes    id -> which process it is, when it last wrote, in which state its breakers are
    fstore:metrics:{project}:unmerged     the minutes and hours whose sum is out of date

The sum over all processes is a convenience for readers, which would otherwise fetch a field of every process: any
publisher makes it when a time is over. A reader compares its ``v``; a late write makes it void, so a race
between the two can't leave a wrong sum. The braces keep a project's keys on one node of a cluster.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import orjson

from fsclient.metrics.history import SlotRows, merge, pack, unpack

Resolution = Literal["m", "h"]
SECONDS: Mapping[Resolution, int] = {"m": 60, "h": 3600}
KEPT_S: Mapping[Resolution, int] = {"m": 86_400, "h": 30 * 86_400}
"""How far back there is history by the minute and by the hour."""
MAX_PROCESSES = 1_000
"""How many processes are known by name; the history of longer gone ones stays in the sums."""

_MARGIN_S = 3_600
_GRACE_S = 15.0  # after a time's end its last writes arrive
_MERGING_S = 30
_MAX_MERGED = 10  # sums that one publisher makes in one go: after a long outage the others help
_COUNTED = "v"
_SUM = "*"

_SETTLE = """
if redis.call('hget', KEYS[1], 'v') == ARGV[1] then return redis.call('srem', KEYS[2], ARGV[2]) end
return 0
"""


class When(NamedTuple):
    """A minute or an hour: its resolution, and its number since 1970-01-01 UTC."""

    resolution: Resolution
    number: int

    @classmethod
    def of(cls, resolution: Resolution, now: float) -> When:
        """The one that contains a moment, seconds since 1970."""
        return cls(resolution, int(now // SECONDS[resolution]))

    @property
    def start_s(self) -> int:
        """Seconds since 1970 at which it begins."""
        return self.number * SECONDS[self.resolution]

    @property
    def end_s(self) -> int:
        """Seconds since 1970 at which it is over."""
        return self.start_s + SECONDS[self.resolution]

    def __str__(self) -> str:
        return f"{self.resolution}:{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process that counts.

    Attributes:
        start_s, seen_s: when it began to publish and when it last did, seconds since 1970.
        states: name -> state when it was last seen, such as ``{"breaker.online": "closed"}``.
    """

    host: str
    pid: int
    start_s: float
    seen_s: float = 0.0
    states: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def own(cls, now: float) -> Process:
        """This process, starting to publish now."""
        return cls(host=socket.gethostname(), pid=os.getpid(), start_s=round(now, 3), seen_s=now)

    @property
    def name(self) -> str:
        """``host:pid:start``."""
        return f"{self.host}:{self.pid}:{self.start_s:.0f}"

    @property
    def id(self) -> str:
        """A short name of it, which is what its many fields cost."""
        return hashlib.blake2s(f"{self.host}:{self.pid}:{self.start_s}".encode(), digest_size=6).hexdigest()


def key(project: str, name: object) -> str:
    """The Redis key of one of a project's hashes."""
    return f"fstore:metrics:{{{project}}}:{name}"


def write(client: Any, project: str, process: Process, counts: Mapping[When, bytes]) -> None:
    """Puts a process's packed counts in place of what it wrote before for those times, all or nothing.

    Args:
        client: a synchronous redis-py client.
    """
    pipe = client.pipeline(transaction=True)
    pipe.hset(key(project, "processes"), process.id, orjson.dumps(asdict(process)))
    pipe.expire(key(project, "processes"), KEPT_S["h"])
    for when, packed in counts.items():
        name = key(project, when)
        pipe.hset(name, process.id, packed)
        pipe.hincrby(name, _COUNTED, 1)
        pipe.expireat(name, when.end_s + KEPT_S[when.resolution] + _MARGIN_S)
        pipe.sadd(key(project, "unmerged"), str(when))
    pipe.execute()


def merge_ended(client: Any, project: str, now: float) -> int:
    """Adds up the minutes and hours that are over, unless another process does so now. Returns how many."""
    if not client.set(key(project, "merging"), 1, nx=True, ex=_MERGING_S):
        return 0
    try:
        waiting = (_parse(name) for name in client.smembers(key(project, "unmerged")))
        ended = sorted((when for when in waiting if when.end_s + _GRACE_S <= now), key=lambda w: -w.end_s)
        for when in ended[:_MAX_MERGED]:
            _merge(client, project, when)
        _forget_processes(client, project, now)
        return len(ended[:_MAX_MERGED])
    finally:
        client.delete(key(project, "merging"))


def _merge(client: Any, project: str, when: When) -> None:
    name, unmerged = key(project, when), key(project, "unmerged")
    fields = client.hgetall(name)
    counted = fields.pop(_COUNTED.encode(), None)
    fields.pop(_SUM.encode(), None)
    if counted is None:  # forgotten meanwhile
        client.srem(unmerged, str(when))
        return
    client.hset(name, _SUM, counted + b":" + pack(merge(fields.values())))
    client.eval(_SETTLE, 2, name, unmerged, counted, str(when))


def _forget_processes(client: Any, project: str, now: float) -> None:
    processes = key(project, "processes")
    if client.hlen(processes) > MAX_PROCESSES:
        known = sorted(read_processes(client, project), key=lambda p: p.seen_s, reverse=True)
        client.hdel(processes, *(p.id for p in known[MAX_PROCESSES:]))
    expired = [p.id for p in read_processes(client, project) if p.seen_s < now - KEPT_S["h"]]
    if expired:
        client.hdel(processes, *expired)


def read_processes(client: Any, project: str) -> list[Process]:
    """Every process that published within the last thirty days, dead or alive, in no order."""
    return [Process(**orjson.loads(process)) for process in client.hvals(key(project, "processes"))]


def read_versions(client: Any, project: str, times: Sequence[When]) -> dict[When, int]:
    """How often each of ``times`` has been written; one in which nothing was counted is left out."""
    pipe = client.pipeline(transaction=False)
    for when in times:
        pipe.hget(key(project, when), _COUNTED)
    return {when: int(reply) for when, reply in zip(times, pipe.execute(), strict=True) if reply}


def read_counts(
    client: Any, project: str, times: Sequence[When], *, process_id: str | None = None
) -> dict[When, SlotRows]:
    """What was counted in each of ``times``; one in which nothing was is left out.

    Args:
        process_id: of one process only; by default of all.
    """
    wanted = [_SUM, _COUNTED] if process_id is None else [process_id]
    pipe = client.pipeline(transaction=False)
    for when in times:
        pipe.hmget(key(project, when), wanted)
    slots: dict[When, SlotRows] = {}
    unmerged: list[When] = []
    for when, reply in zip(times, pipe.execute(), strict=True):
        packed = reply[0]
        if process_id is None:
            if reply[1] is None:
                continue
            counted, _, packed = (reply[0] or b"").partition(b":")
            if counted != reply[1]:
                unmerged.append(when)
                continue
        if packed:
            slots |= _readable(when, packed)
    pipe = client.pipeline(transaction=False)
    for when in unmerged:
        pipe.hgetall(key(project, when))
    for when, fields in zip(unmerged, pipe.execute(), strict=True):
        rows = merge(packed for name, packed in fields.items() if name.decode() not in (_COUNTED, _SUM))
        if rows.series or rows.states:
            slots[when] = rows
    return slots


def _readable(when: When, packed: bytes) -> dict[When, SlotRows]:
    try:
        return {when: unpack(packed)}
    except ValueError:  # of another release
        return {}


def _parse(name: bytes) -> When:
    resolution, _, number = name.decode().partition(":")
    return When("m" if resolution == "m" else "h", int(number))


def times_between(resolution: Resolution, start_s: float, end_s: float) -> Iterable[When]:
    """The minutes or hours that overlap ``[start_s, end_s)``, ascending."""
    step = SECONDS[resolution]
    return (When(resolution, number) for number in range(int(start_s // step), int(-(-end_s // step))))
