"""The catalog: its names are unique, known to the kernels, and safe to look up with whatever a caller sends."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable

import mmh3
import pytest

from feature_repo import catalog
from feature_repo.catalog import CatalogError, Indicator, symbols

INDICATOR = pytest.mark.parametrize("indicator", catalog.INDICATORS.values(), ids=lambda i: i.name)


@INDICATOR
def test_a_kernel_takes_what_the_catalog_gives_it(indicator: Indicator) -> None:
    parameters = inspect.signature(indicator.kind.kernel).parameters.values()
    assert tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD) == indicator.inputs
    assert {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} == set(indicator.parameters)


@INDICATOR
def test_an_indicators_numbers_agree(indicator: Indicator) -> None:
    assert indicator.lookback >= 0
    assert indicator.warm_up is None or indicator.warm_up >= indicator.lookback
    if indicator.low is not None and indicator.high is not None:
        assert indicator.low < indicator.high


def test_names_are_unique() -> None:
    fields = Counter(catalog.BAR_FIELDS + catalog.INDICATOR_FIELDS)
    assert fields.most_common(1)[0][1] == 1
    assert tuple(catalog.PRODUCER) == catalog.INDICATOR_FIELDS

    rows = [name for *_, names in symbols._SYMBOL_ROWS for name in names.split()]
    assert len(rows) == len(catalog.SYMBOLS), "a symbol listed twice would silently take its last row"

    names = Counter([*catalog.VIEWS, *catalog.VIEW_OF_SOURCE, *catalog.SERVICES])
    assert names.most_common(1)[0][1] == 1, "a view, a source and a service must not share a name"


def test_services_serve_known_views() -> None:
    assert {view for views in catalog.SERVICES.values() for view in views} == set(catalog.VIEWS)


def test_no_two_fields_of_a_redis_hash_collide() -> None:
    """Feast names a field in a symbol's hash by the 32-bit mmh3 of view:field; a collision would mix two features."""
    keys = [f"{view.name}:{name}" for view in catalog.VIEWS.values() for name in view.fields]
    hashes = Counter(mmh3.hash(key, signed=False) for key in keys)
    assert len(hashes) == len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("look_up", "wrong", "nearest"),
    [
        (catalog.symbol, "EURUSD", "EUR/USD"),
        (catalog.symbol, "BTC-USD", "BTC/USD"),
        (catalog.symbol, "eur/usd", "EUR/USD"),
        (catalog.timeframe, "1hr", "1h"),
        (lambda name: catalog.field_names([name]), "rsi14", "rsi_14"),
        (lambda name: catalog.field_names([name]), "bolinger_20_2", "bollinger_20_2"),
        (lambda name: catalog.field_names([name]), "volum", "volume"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(
    look_up: Callable[[str], object], wrong: str, nearest: str
) -> None:
    with pytest.raises(CatalogError, match="Did you mean") as caught:
        look_up(wrong)
    assert nearest in str(caught.value)
    assert caught.value.name == wrong


WEIRD = (
    "",
    " EUR/USD",
    "eur/usd",
    "../EUR/USD",
    "EUR/../USD",
    "..",
    "EUR%2FUSD",
    "EUR%2fUSD",
    "EUR/USD\x00",
    "EUR/USD\n",
    "EUR/USD\r\nSET x 1",
    "\x1b[31mEUR/USD",
    "\u0415UR/USD",  # Cyrillic capital IE in place of the E
    "EUR\u2215USD",  # division slash
    "EUR/USD\u202e",  # right-to-left override
    "\uff25\uff35\uff32/USD",  # full-width letters
    "EUR/USD\ud800",  # lone surrogate
    "EUR/USD*",
    "EUR/USD" * 1000,
)
NO_NAME: tuple[object, ...] = (None, [], ["EUR/USD"], {}, b"EUR/USD", 1, float("nan"))


@pytest.mark.parametrize("name", [*WEIRD, *NO_NAME], ids=ascii)
@pytest.mark.parametrize("look_up", [catalog.symbol, catalog.timeframe], ids=["symbol", "timeframe"])
def test_a_weird_name_is_refused_in_plain_text(look_up: Callable[[object], object], name: object) -> None:
    with pytest.raises(CatalogError) as caught:
        look_up(name)
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", WEIRD, ids=ascii)
def test_a_weird_feature_is_refused_in_plain_text(name: str) -> None:
    with pytest.raises(CatalogError) as caught:
        catalog.field_names([name])
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


def test_an_indicators_name_stands_for_its_outputs() -> None:
    assert catalog.field_names(["close", "macd_12_26_9", "macd"]) == ("close", "macd", "macd_signal", "macd_hist")
