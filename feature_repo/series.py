"""A series: the bars of one symbol at one timeframe, the thing that everything is stored, computed and published by."""

from __future__ import annotations

from dataclasses import dataclass

from feature_repo import catalog
from feature_repo.catalog import Session, Symbol, Timeframe


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One symbol at one timeframe. As text: ``EUR/USD 1h``."""

    symbol: Symbol
    timeframe: Timeframe

    @property
    def session(self) -> Session:
        """When the symbol's market is open."""
        return self.symbol.session

    @property
    def key(self) -> tuple[str, str]:
        """The names of symbol and timeframe, by which the ledger and the stores know the series."""
        return self.symbol.name, self.timeframe.name

    def __str__(self) -> str:
        return " ".join(self.key)


def series(symbol: str, timeframe: str) -> Series:
    """The series of two names of the catalog.

    Raises:
        CatalogError: one of them is not in it.
    """
    return Series(symbol=catalog.symbol(symbol), timeframe=catalog.timeframe(timeframe))
