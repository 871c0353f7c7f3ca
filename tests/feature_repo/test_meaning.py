"""What a definition means: what changes its digest, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from feature_repo import kernels, meaning
from feature_repo.catalog import INDICATORS
from feature_repo.kernels import FloatArray
from feature_repo.kinds import KINDS
from feature_repo.meaning import definitions_digest, kernel_version, meaning_of

SMA = INDICATORS["sma_20"]
SCALE = 1.0


def scaled(values: FloatArray) -> FloatArray:
    return values * SCALE


def average(close: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
    """The mean of the last ``window`` closes."""
    total = np.cumsum(close)  # a running sum
    return (scaled(total) / window,)


def version(kernel: Callable[..., Any]) -> str:
    kernel_version.cache_clear()
    return kernel_version(kernel)


def test_every_indicator_means_something_of_its_own() -> None:
    assert len({meaning_of(indicator).digest for indicator in INDICATORS.values()}) == len(INDICATORS)


@pytest.mark.parametrize(
    "changed",
    [
        replace(SMA, kind=replace(KINDS["sma"], inputs=("high",))),
        replace(SMA, parameters={"window": 21}),
        replace(SMA, outputs=("sma_20_again",)),
        replace(SMA, kind=replace(KINDS["sma"], name="mean")),
        replace(SMA, kind=replace(KINDS["sma"], lookback=lambda p: p["window"])),
        replace(SMA, kind=replace(KINDS["sma"], memory="recursive", settled=lambda p: 9 * p["window"])),
        replace(SMA, kind=replace(KINDS["sma"], kernel=average)),
    ],
    ids=["inputs", "parameters", "outputs", "kind", "lookback", "warm-up", "kernel"],
)
def test_a_change_of_meaning_changes_the_digest(changed: Any) -> None:
    assert meaning_of(changed).digest != meaning_of(SMA).digest
    others = [i for i in INDICATORS.values() if i is not SMA]
    assert definitions_digest([changed, *others]) != definitions_digest()


def test_bounds_and_panes_mean_nothing() -> None:
    changed = replace(SMA, low=None, high=7.0, kind=replace(KINDS["sma"], panes=("own",), reads_whole_window=True))
    assert meaning_of(changed).digest == meaning_of(SMA).digest


def test_the_order_of_the_catalog_means_nothing() -> None:
    assert definitions_digest([*reversed(INDICATORS.values())]) == definitions_digest()


# ---------------------------------------------------------------------------------------------------- kernels


def test_comments_names_of_variables_and_annotations_are_not_seen() -> None:
    def reworded(prices, *, window):  # type: ignore[no-untyped-def]
        summed: Any = np.cumsum(prices)

        return (scaled(summed) / window,)

    assert version(reworded) == version(average)


def test_an_edited_line_is_seen() -> None:
    def edited(close: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
        total = np.cumsum(close)
        return (scaled(total) / (window + 1),)

    assert version(edited) != version(average)


def test_two_variables_that_change_places_are_seen() -> None:
    def spread(high: FloatArray, low: FloatArray) -> FloatArray:
        return high - low

    def swapped(high: FloatArray, low: FloatArray) -> FloatArray:
        return low - high

    assert version(spread) != version(swapped)


def test_an_edited_helper_and_a_changed_constant_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    before = version(average)
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    with_constant = version(average)
    monkeypatch.setitem(globals(), "scaled", lambda values: values * SCALE + 1)
    assert len({before, with_constant, version(average)}) == 3


def test_a_helper_of_the_kernels_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    before = version(kernels.zscore), version(kernels.sma)
    real = kernels._spread

    def edited(close: FloatArray, window: int) -> tuple[FloatArray, FloatArray]:
        distance, deviation = real(close, window)
        return distance, deviation + 1

    monkeypatch.setattr(kernels, "_spread", edited)
    assert version(kernels.zscore) != before[0]
    assert version(kernels.sma) == before[1]


def test_another_talib_is_seen_by_the_kernels_that_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = version(kernels.sma), version(kernels.vwap)
    monkeypatch.setattr(meaning, "_talib_version", lambda: "9.9")
    assert version(kernels.sma) != before[0]
    assert version(kernels.vwap) == before[1]


@pytest.fixture(autouse=True)
def _forget() -> Any:
    yield
    kernel_version.cache_clear()
