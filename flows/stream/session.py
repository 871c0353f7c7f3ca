"""One owner of some shards at work: reads bars, publishes what they give at once, stores it in batches.

Whatever goes wrong ends the session with an error, and the next one (``service``) begins from what is durable: every
entry whose bar is not, is still pending and is read again. So there is one way back from every fault, a kill included.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from feature_repo import catalog
from feature_repo.catalog import TIMEFRAMES
from feature_repo.stores.fence import FencedOutError
from flows.ledger import LeaseLost, Ledger
from flows.materialize import materialize_symbols
from flows.notes import at_stage
from flows.pending import pending
from flows.publication import publish_window
from flows.settings import Settings
from flows.stream import cold, hot
from flows.stream.bar import BadEntryError, LiveBar, as_text, from_fields
from flows.stream.batch import Batch, store
from flows.stream.feed import shard_of
from flows.stream.holding import Holding
from flows.stream.load import load
from flows.stream.meter import Meter
from flows.stream.reader import Entry, Reader
from flows.stream.series import Series

_log = logging.getLogger("fstore")
_RETRY_S = (0.5, 1.0, 2.0, 5.0)
_POLL_S = 0.02
Item = tuple[Entry, LiveBar]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a stream takes its time.

    Attributes:
        flush_s: bars are stored offline at most so long after they are online.
        flush_bars: or as soon as so many wait.
        idle_s: leases are given back when no bar has come for so long.
        ttl_s: leases of one that died run out after so long; another can only then take over.
        early_s: a bar that arrives so long before it closes (clocks differ) waits for its close; earlier it is none.
        most_symbols: how many symbols are kept in memory, about 5 MB each; more are read again and again.
        read_bars: entries that are read at once, a shard.
    """

    flush_s: float = 2.0
    flush_bars: int = 5_000
    idle_s: float = 10.0
    ttl_s: float = 15.0
    early_s: float = 2.0
    most_symbols: int = 500
    read_bars: int = 500


@dataclass(slots=True)
class _Waiting:
    """A symbol that another run works on."""

    items: list[Item] = field(default_factory=list)
    tries: int = 0
    due_s: float = 0.0


class Session:
    """From ``begin`` to ``end``, ``step`` by step; not thread-safe.

    Args:
        client: a synchronous redis-py client of the online store.
        now: the clock, aware UTC.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        client: Any,
        reader: Reader,
        *,
        shards: Sequence[int],
        owner: str,
        run: str,
        pace: Pace,
        meter: Meter,
        stop: threading.Event,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._ledger, self._client, self._reader = settings, ledger, client, reader
        self._shards, self._run, self._pace, self._meter, self._stop = frozenset(shards), run, pace, meter, stop
        self._now, self._monotonic = now, monotonic
        self._tables, self._project = settings.tables(), settings.repo().project
        self._holding = Holding(ledger, self._tables, owner=owner, ttl_s=pace.ttl_s)
        self._symbols: OrderedDict[str, dict[str, Series]] = OrderedDict()
        self._batch, self._storing = Batch(), Batch()
        self._future: Future[None] | None = None
        self._store_thread = ThreadPoolExecutor(1, "fstore-stream-store")
        self._waiting: dict[str, _Waiting] = {}
        self._aside: dict[str, list[Item]] = {}
        self._early: list[Item] = []
        self._over = threading.Event()
        self._last_bar_s = self._since_s = monotonic()

    # ------------------------------------------------------------------------------------------ from the outside

    def begin(self) -> None:
        """Brings the known symbols of the shards up to date and into memory, and works off what is pending."""
        names = [
            name for name, _ in self._ledger.series() if name in catalog.SYMBOLS and shard_of(name) in self._shards
        ]
        known = list(dict.fromkeys(names))[: self._pace.most_symbols]
        if known:
            self._hold(known)
        self.step(self._reader.begin())

    def read(self, *, block_s: float) -> list[Entry]:
        """The next entries; none when so much is unstored that more has to wait."""
        if self._batch.bars >= 4 * self._pace.flush_bars:
            self._settle_store(wait=True)
            return []
        now_s = self._now().timestamp()
        due = [_close_s(bar) - now_s for _, bar in self._early]
        due += [waiting.due_s - self._monotonic() for waiting in self._waiting.values()]
        if self._future is not None:
            due.append(_POLL_S)
        elif self._batch:
            due.append(self._since_s + self._pace.flush_s - self._monotonic())
        wait_s = min([block_s, *due])
        return self._reader.read(count=self._pace.read_bars, block_ms=max(1, round(wait_s * 1e3)))

    def step(self, entries: Sequence[Entry]) -> None:
        """Takes entries, and stores what is due to be."""
        self._settle_store(wait=False)
        groups = self._sort(entries)
        if groups:
            self._last_bar_s = self._monotonic()
            self._process(groups)
        waited_s = self._monotonic() - self._since_s
        is_due = waited_s >= self._pace.flush_s or self._batch.bars >= self._pace.flush_bars
        if self._batch and is_due and self._future is None:
            self._begin_store()
        if self._aside:
            self._do_aside()
        if not (self._batch or self._future) and self._monotonic() - self._last_bar_s > self._pace.idle_s:
            self._holding.release()

    def end(self) -> None:
        """Stores and acknowledges everything that was taken."""
        self._store_all()
        if self._aside:
            self._do_aside()
        self._reader.end()

    def close(self) -> None:
        """Gives back leases and threads; after ``end``, or after an error."""
        self._over.set()
        self._store_thread.shutdown(wait=True, cancel_futures=True)
        self._holding.release()

    # ---------------------------------------------------------------------------------------------------- taking

    def _sort(self, entries: Sequence[Entry]) -> dict[str, list[Item]]:
        """Bars by symbol, in the order that they came; what is no bar goes to the quarantine."""
        now_s = self._now().timestamp()
        groups: dict[str, list[Item]] = defaultdict(list)
        items, self._early = self._early, []
        for symbol, held in list(self._waiting.items()):
            if held.due_s <= self._monotonic():
                groups[symbol] += held.items
                held.items = []
        for entry in entries:
            try:
                items.append((entry, from_fields(entry.fields)))
            except BadEntryError as error:
                self._batch.unreadable.append((error.rule, str(error), as_text(entry.fields)))
                self._batch.entries.append(entry)
                self._touch_clock()
                self._meter.bad += 1
        for entry, bar in items:
            if 0 < _close_s(bar) - now_s <= self._pace.early_s:
                self._early.append((entry, bar))
            elif bar.symbol in self._waiting and bar.symbol not in groups:
                self._waiting[bar.symbol].items.append((entry, bar))
            else:
                groups[bar.symbol].append((entry, bar))
        return groups

    def _process(self, groups: dict[str, list[Item]]) -> None:
        for symbol in self._hold(list(groups)):
            self._wait(symbol, groups.pop(symbol))
        for symbol in groups:
            self._waiting.pop(symbol, None)
        now = self._now()
        sources: list[Series] = []
        for symbol, items in groups.items():
            for timeframe in dict.fromkeys(bar.timeframe for _, bar in items):
                some = [item for item in items if item[1].timeframe == timeframe]
                if symbol in self._aside:
                    self._aside[symbol] += some
                elif (series := self._take(symbol, timeframe, some, now)) is not None:
                    sources.append(series)
        for source in sources:  # when every symbol's own bar is online
            if source.symbol.name not in self._aside:
                self._derive(source, now)

    def _take(self, symbol: str, timeframe: str, items: list[Item], now: datetime) -> Series | None:
        """Publishes a series' new bars; returns it if there were any."""
        series = self._symbols.get(symbol, {}).get(timeframe)
        spec, frame = catalog.symbol(symbol), catalog.timeframe(timeframe)
        opens, bars = _arrays([bar for _, bar in items])
        bad = hot.bad_bars(spec, frame, opens, bars, int(now.timestamp() * 1e6))
        good = [item for item, is_bad in zip(items, bad, strict=True) if not is_bad]
        rejected = [item for item, is_bad in zip(items, bad, strict=True) if is_bad]
        if rejected:
            self._batch.bad += [bar for _, bar in rejected]
            self._keep(rejected)
            self._meter.bad += len(rejected)
        if not good:
            return None
        if series is None or series.source is not None:
            self._set_aside(symbol, good)
            return None
        try:
            new = hot.unknown_to(series, [bar for _, bar in good])
            if new:
                self._publish(hot.take(series, *_arrays(new), self._holding.stamp(symbol, now)))
        except hot.NotOrdinary:
            self._set_aside(symbol, good)
            return None
        self._meter.took(good, len(new), self._now().timestamp())
        self._keep(good)
        return series if new else None

    def _derive(self, source: Series, now: datetime) -> None:
        symbol, created_us = source.symbol.name, self._holding.stamp(source.symbol.name, now)
        targets = [s for s in self._symbols[symbol].values() if s.source == source.timeframe]
        try:
            for target in targets:
                fresh, short = hot.derive(
                    source, target, created_us, min_completeness=self._settings.min_completeness, now=now
                )  # fmt: skip
                if short is not None:
                    self._batch.short.append(((symbol, target.timeframe.name), short))
                if fresh is not None:
                    self._publish(fresh)
        except hot.NotOrdinary:
            self._set_aside(symbol, [])
            return
        seen_us = created_us
        for series in (source, *targets):
            was = self._batch.touched.get((symbol, series.timeframe.name), (0, 0))
            close_us = series.end_us + series.timeframe.microseconds if series.end_us >= 0 else 0
            self._batch.touched[symbol, series.timeframe.name] = max(was[0], close_us), seen_us

    def _publish(self, fresh: hot.Fresh) -> None:
        name = fresh.symbol.name
        at_stage(f"stream publish {name} {fresh.timeframe.name}")
        fence = self._holding.leases[name].token
        publish_window(self._client, self._project, name, fresh.timeframe, fresh.window, fence=fence)
        self._batch.fresh.append(fresh)

    def _keep(self, items: list[Item]) -> None:
        self._touch_clock()
        self._batch.entries += [entry for entry, _ in items]

    def _touch_clock(self) -> None:
        if not self._batch:
            self._since_s = self._monotonic()

    # -------------------------------------------------------------------------------------------------- holding

    def _hold(self, names: list[str]) -> list[str]:
        """Leases symbols and has them in memory; those that another run works on are told."""
        now = self._now()
        if all(name in self._holding.leases and name in self._symbols for name in names):
            for name in names:
                self._symbols.move_to_end(name)
            return []
        self._settle_store(wait=True)
        refused = self._lease(names)
        lacking = [n for n in names if n not in self._symbols and n not in refused]
        if lacking:
            behind = self._behind(lacking, now)
            if behind:
                self._store_all()
                self._holding.release()
                for outcome in materialize_symbols(
                    behind, list(TIMEFRAMES), self._settings, self._ledger, now, run=self._run
                ):
                    if outcome.problem:
                        _log.warning("%s %s: %s", outcome.symbol, outcome.timeframe, outcome.problem)
                refused = self._lease(names)
                lacking = [n for n in names if n not in self._symbols and n not in refused]
                behind = self._behind(lacking, now)
            loadable = [catalog.symbol(n) for n in lacking if n not in behind]
            found = load(loadable, self._tables, self._ledger, now)
            for name in lacking:
                self._symbols[name] = {tf: series for (n, tf), series in found.items() if n == name}
        return [*refused]

    def _lease(self, names: Sequence[str]) -> list[str]:
        refused = self._holding.take(names, self._now())
        for name in self._holding.changed([*self._symbols], self._now()):
            self._symbols.pop(name, None)
        for name, holder in refused.items():
            if name not in self._waiting:
                _log.warning("%s waits: %s is working on it, until %s", name, holder.owner, holder.until)
        return [*refused]

    def _behind(self, names: Sequence[str], now: datetime) -> list[str]:
        """Symbols for which the batch flow has something to do."""
        symbols = [catalog.symbol(name) for name in names]
        work = pending(symbols, list(TIMEFRAMES), self._tables, self._ledger, now=now) if symbols else None
        return sorted({job.symbol.name for job in work.jobs}) if work else []

    def _wait(self, symbol: str, items: list[Item]) -> None:
        waiting = self._waiting.setdefault(symbol, _Waiting())
        waiting.items = [*items, *waiting.items]
        waiting.due_s = self._monotonic() + _RETRY_S[min(waiting.tries, len(_RETRY_S) - 1)]
        waiting.tries += 1

    # --------------------------------------------------------------------------------------------- what is aside

    def _set_aside(self, symbol: str, items: list[Item]) -> None:
        """Leaves a symbol to the batch flow: what it is in memory counts no more."""
        self._symbols.pop(symbol, None)
        self._aside.setdefault(symbol, []).extend(items)
        for key in [key for key in self._batch.touched if key[0] == symbol]:
            del self._batch.touched[key]  # so that the batch flow finds it to be behind

    def _do_aside(self) -> None:
        self._store_all()
        self._holding.release()
        aside, self._aside = self._aside, {}
        bars = {symbol: [bar for _, bar in items] for symbol, items in aside.items()}
        problems = cold.settle(bars, self._settings, self._tables, self._ledger, run=self._run, now=self._now())
        for symbol, items in aside.items():
            self._symbols.pop(symbol, None)
            if symbol in problems:
                _log.warning("%s waits: %s", symbol, problems[symbol])
                self._wait(symbol, items)
            else:
                self._meter.settled(items, self._now().timestamp())
                self._reader.acknowledge([entry for entry, _ in items])

    # -------------------------------------------------------------------------------------------------- storing

    def _begin_store(self) -> None:
        self._storing, self._batch = self._batch, Batch()
        self._future = self._store_thread.submit(self._store, self._storing, dict(self._holding.leases))

    def _store(self, batch: Batch, leases: dict[str, Any]) -> None:
        """In a thread of its own: publishing goes on meanwhile, and while the offline store can't be reached."""
        for tries in itertools.count():
            try:
                store(
                    batch, leases, self._tables, self._ledger, self._holding.versions, run=self._run,
                    now=self._now(),
                )  # fmt: skip
                return
            except (FencedOutError, LeaseLost):
                raise
            except Exception as error:
                if self._stop.is_set() or self._over.is_set():
                    raise
                _log.warning("bars could not be stored, trying again: %s: %s", type(error).__name__, error)
                self._over.wait(_RETRY_S[min(tries, len(_RETRY_S) - 1)])

    def _settle_store(self, *, wait: bool) -> None:
        """Acknowledges what is stored."""
        if self._future is None or not (wait or self._future.done()):
            return
        self._future.result()
        self._future = None
        self._reader.acknowledge(self._storing.entries)
        at_stage("stream acknowledged")
        while len(self._symbols) > self._pace.most_symbols:
            busy = {one.symbol.name for one in self._batch.fresh}
            oldest = next((name for name in self._symbols if name not in busy), None)
            if oldest is None:
                break
            del self._symbols[oldest]

    def _store_all(self) -> None:
        self._settle_store(wait=True)
        if self._batch:
            self._begin_store()
            self._settle_store(wait=True)


def _arrays(bars: Sequence[LiveBar]) -> tuple[Any, Any]:
    opens = np.array([bar.open_us for bar in bars], np.int64)
    return opens, np.array([bar.values for bar in bars], np.float64).T


def _close_s(bar: LiveBar) -> float:
    return bar.open_us / 1e6 + catalog.timeframe(bar.timeframe).seconds
