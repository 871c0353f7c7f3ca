"""A series: one symbol at one timeframe."""

from __future__ import annotations

import pytest

from feature_repo.catalog import SYMBOLS, TIMEFRAMES, CatalogError
from feature_repo.series import Series, series


def test_a_series_of_two_names() -> None:
    eurusd = series("EUR/USD", "1h")
    assert eurusd == Series(symbol=SYMBOLS["EUR/USD"], timeframe=TIMEFRAMES["1h"])
    assert eurusd.key == ("EUR/USD", "1h")
    assert str(eurusd) == "EUR/USD 1h"
    assert eurusd.session is SYMBOLS["EUR/USD"].session
    assert eurusd != series("EUR/USD", "4h")


@pytest.mark.parametrize(("symbol", "timeframe", "word"), [("EUR/XXX", "1h", "EUR/XXX"), ("EUR/USD", "7h", "7h")])
def test_a_name_that_the_catalog_lacks_is_named(symbol: str, timeframe: str, word: str) -> None:
    with pytest.raises(CatalogError, match=word):
        series(symbol, timeframe)
