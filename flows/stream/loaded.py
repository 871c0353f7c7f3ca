"""The symbols that a session holds: leased, up to date, and their series in memory as they are stored."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

from feature_repo import catalog
from feature_repo.catalog import TIMEFRAMES
from flows.ledger import Holder, Ledger
from flows.materialize import materialize_symbols
from flows.runs.plan import pending
from flows.settings import Settings
from flows.stream.leases import StreamLeases
from flows.stream.load import load
from flows.stream.series import Series
from flows.stream.writer import Writer

_log = logging.getLogger("fstore")


class LoadedSymbols:
    """Series by symbol and timeframe; the symbols that were needed last are kept."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        holding: StreamLeases,
        writer: Writer,
        *,
        run: str,
        now: Callable[[], datetime],
    ) -> None:
        self._settings, self._tables, self._ledger = settings, settings.tables(), ledger
        self._holding, self._writer, self._run, self._now = holding, writer, run, now
        self._symbols: OrderedDict[str, dict[str, Series]] = OrderedDict()

    def of(self, symbol: str) -> Mapping[str, Series]:
        """A symbol's series by timeframe; none when it is not in memory."""
        return self._symbols.get(symbol, {})

    def forget(self, symbol: str) -> None:
        """A symbol's series are not what is stored, or will not be."""
        self._symbols.pop(symbol, None)

    def shrink(self, most: int, *, busy: Collection[str]) -> None:
        """Forgets the symbols that were needed longest ago, but those that are ``busy``."""
        while len(self._symbols) > most:
            oldest = next((name for name in self._symbols if name not in busy), None)
            if oldest is None:
                break
            del self._symbols[oldest]

    def hold(self, names: Sequence[str]) -> Mapping[str, Holder]:
        """Leases symbols and has them in memory, as the batch flow leaves them. Those that another run holds are told;
        of one that can't be had now for another reason there are no series.
        """
        now = self._now()
        if all(name in self._holding.leases and name in self._symbols for name in names):
            for name in names:
                self._symbols.move_to_end(name)
            return {}
        self._writer.settle(wait=True)
        refused = self._lease(names)
        lacking = [n for n in names if n not in self._symbols and n not in refused]
        if lacking:
            behind = self._behind(lacking, now)
            if behind:
                self._writer.store_all()
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
        return refused

    def _lease(self, names: Sequence[str]) -> Mapping[str, Holder]:
        refused = self._holding.take(names, self._now())
        for name in self._holding.changed([*self._symbols], self._now()):
            self._symbols.pop(name, None)
        return refused

    def _behind(self, names: Sequence[str], now: datetime) -> list[str]:
        """Symbols for which the batch flow has something to do."""
        symbols = [catalog.symbol(name) for name in names]
        work = pending(symbols, list(TIMEFRAMES), self._tables, self._ledger, now=now) if symbols else None
        return sorted({job.symbol.name for job in work.jobs}) if work else []
