"""Another instrument's file is refused; the spellings of the symbol's own name are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from feature_repo.catalog import symbol
from flows.sources import SourceBars, SourceError
from flows.sources.instruments import may_be

Read = Callable[..., SourceBars]
BAR = "2020-01-01,1,4,0.5,2"


def text(*names: str, column: str = "symbol") -> str:
    return f"{column},time,open,high,low,close\n" + "".join(f"{name},{BAR}\n" for name in names)


@pytest.mark.parametrize(
    ("name", "spellings"),
    [
        (
            "EUR/USD",
            "EURUSD EUR_USD EUR/USD eurusd FX:EURUSD C:EURUSD EURUSD=X EURUSDm EURUSD.r EURUSDpro EUR.USD EUR 7",
        ),
        ("BTC/USD", "BTCUSD BTC-USD XBTUSD XBT/USD XXBTZUSD X:BTCUSD BTC"),
        ("BTC/USDT", "BTCUSDT BTC/USDT:USDT BINANCE:BTCUSDT BTCUSDT.P"),
        ("AAPL", "AAPL AAPL.US NASDAQ:AAPL aapl"),
        ("BRK.B", "BRK.B BRK-B BRK/B BRKB BRK.B.US"),
        ("XAU/USD", "XAUUSD GOLD"),
        ("AUD/USD.MT", "AUDUSD AUDUSD.MT"),
    ],
)
def test_spellings_of_a_symbol(name: str, spellings: str) -> None:
    assert [s for s in spellings.split() if not may_be(s, symbol(name))] == []


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("EUR/USD", "EURGBP GBPUSD USDEUR EURUSDT USD"),
        ("BTC/USD", "BTCUSDT BTC/USDT ETHUSD BTCEUR ETH"),
        ("BTC/USDT", "ETHUSDT BTCUSD BTC/USD"),
        ("AAPL", "MSFT MSFT.US AAPLE"),
        ("BRK.B", "BRK.A BRK"),
        ("XAU/USD", "XAGUSD SILVER"),
    ],
)
def test_names_of_other_instruments(name: str, others: str) -> None:
    assert [s for s in others.split() if may_be(s, symbol(name))] == []


@pytest.mark.parametrize("column", ["symbol", "<TICKER>", "Pair", "instrument"])
def test_another_instruments_file_is_refused(read: Read, column: str) -> None:
    with pytest.raises(SourceError) as caught:
        read(text("GBPUSD", column=column))
    assert str(caught.value) == (
        "bars.csv, line 2: bars of 'GBPUSD', which is not how EUR/USD is written. "
        "Give the file of EUR/USD, or use --instrument GBPUSD if this is its name there."
    )


def test_a_name_of_ones_own_can_be_stated(read: Read) -> None:
    source = read(text("6E"), instrument="6E")
    assert len(source.frame) == 1
    assert source.notes.detected["instrument"] == "6E"


def test_one_of_several_is_taken_by_its_name(read: Read) -> None:
    several = text("GBPUSD", "EURUSD", "GBPUSD").replace("EURUSD,2020-01-01,1,", "EURUSD,2020-01-01,3,")
    with pytest.raises(SourceError, match=r"line 3: bars of 'GBPUSD' and of 'EURUSD' in one file.*--instrument EURUSD"):
        read(several)
    source = read(several, instrument="EURUSD")
    assert source.frame[["open", "line"]].to_numpy().tolist() == [[3, 3]]
    assert source.notes.rows_read == 1


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (text("EURUSD"), "no instrument 'EUR'. Its instruments are 'EURUSD'"),
        (text("EURUSD").replace("symbol", "id"), "no column names the instruments. Omit --instrument"),
    ],
)
def test_an_instrument_that_is_not_there(read: Read, content: str, why: str) -> None:
    with pytest.raises(SourceError) as caught:
        read(content, instrument="EUR")
    assert why in str(caught.value)
