"""A definition's trial: every shipped one passes, and each way to break its row is found at its first bar."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import talib

from feature_repo.catalog import INDICATORS, Indicator
from feature_repo.kernels import FloatArray
from flows.compute.trial import trial_problem

SMA = INDICATORS["sma_20"]
_noise = np.random.default_rng(0)


@pytest.mark.parametrize("indicator", INDICATORS.values(), ids=lambda i: i.name)
def test_what_is_shipped_passes(indicator: Indicator) -> None:
    assert trial_problem(indicator) == ""


def ahead(close: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
    return (np.append(talib.SMA(close, window)[1:], np.nan),)


def repaints(close: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
    values = talib.SMA(close, window)
    return (values * close[-1],)


def random(close: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
    return (talib.SMA(close, window) + _noise.random(),)


def early(close: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
    return (talib.SMA(close, window - 1),)


def late(close: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
    return (talib.SMA(close, window + 1),)


def negative(close: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
    return (-talib.SMA(close, window),)


def endless(close: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
    return (np.where(close > 1.2, np.inf, talib.SMA(close, window)),)


def remembers(close: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
    return (talib.EMA(close, window),)


def writes(close: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
    close[0] = 1.0
    return (talib.SMA(close, window),)


@pytest.mark.parametrize(
    ("kernel", "problem"),
    [
        (ahead, r"sma_20 looks ahead: its value at bar 19 changes when the bars from 20 on are cut off"),
        (repaints, r"sma_20 looks ahead: its value at bar 19 changes when the bars from 20 on are cut off"),
        (random, r"sma_20 is not the same when it is computed twice, first at bar 19"),
        (early, r"it has values from bar 18 on; its lookback is 19"),
        (late, r"sma_20 has no value at bar 19; its lookback is 19"),
        (negative, r"sma_20 is -.* at bar 19, beyond its bound of 0"),
        (endless, r"sma_20 is infinite at bar \d+"),
        (remembers, r"sma_20 is .* at bar 239, and .* when it is computed from its warm-up of 19 bars"),
        (writes, r"its kernel fails: ValueError: .*read-only"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_kernel_that_breaks_its_row_is_found(kernel: Callable[..., Any], problem: str) -> None:
    report = trial_problem(replace(SMA, kind=replace(SMA.kind, kernel=kernel)))
    assert re.search(problem, report), report
