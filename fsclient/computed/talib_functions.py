"""TA-Lib's functions, each with parameters of the caller's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from feature_repo import kernels
from feature_repo.catalog import BAR_FIELDS
from feature_repo.convergence import is_settled
from feature_repo.indicators import runs
from feature_repo.kernels import FloatArray
from fsclient.computed.computable import FORGET, Computable, Values
from fsclient.errors import InvalidRequestError

_REMEMBERS = frozenset(
    {
        *("KAMA", "MAMA"),  # they adapt to the prices, so how long they remember depends on these
        *("HT_DCPERIOD", "HT_DCPHASE", "HT_PHASOR", "HT_SINE", "HT_TRENDLINE", "HT_TRENDMODE"),  # and so do these
        "HA",  # its lookback of 0 says nothing about its recursion
        *("MAXINDEX", "MININDEX", "MINMAXINDEX"),  # they count from the first bar
    }
)
NO_FEATURE = "MAVP"
"""The one function that takes a period for each bar, which no bar has."""
BAD_PARAMETER = "TA_BAD_PARAM"
_ADAPTIVE = (6, 7)  # the average types KAMA and MAMA, of a function that takes its average's type
_QUOTIENTS = frozenset(
    {
        *("ADX", "ADXR", "CMO", "DX", "MINUS_DI", "PLUS_DI", "RSI", "RVI", "STOCHRSI", "TSI", "SMI"),
        *("CVI", "MASSI"),
        *("PPO", "PVO"),  # of exponential averages
    }
)
"""Those that divide one decaying average by another: what came before fades only while the market moves."""
_REREADS = frozenset({"AVGDEV", "CCI", "IMI", "PERCENTILE", "PERCENTRANK", "VHF"})
"""Those whose time was measured to grow with their period."""


def refusal(name: str, arguments: Mapping[str, Any], error: object) -> str:
    """Why TA-Lib does not compute it, in the caller's words."""
    why = str(error)
    if BAD_PARAMETER in why:
        why = "a parameter is out of its range (of most windows, 2 to 100,000 bars)"
    return f"{name} with {dict(arguments)}: {why}"


@cache
def talib_names() -> frozenset[str]:
    """The functions that can be computed from bars."""
    import talib

    return frozenset(talib.get_functions()) - {NO_FEATURE}  # type: ignore[no-untyped-call]


def _columns(input_names: Mapping[str, str | list[str]]) -> tuple[str, ...]:
    """The bar columns that a function reads."""
    return tuple(c for names in input_names.values() for c in ([names] if isinstance(names, str) else names))


def _check_window(timeperiod: int, least: int) -> None:
    if not least <= timeperiod <= 100_000:
        raise ValueError(BAD_PARAMETER)


def _vwma(columns: Values, *, timeperiod: int) -> FloatArray:
    import talib

    _check_window(timeperiod, 1)
    close, volume = columns["close"], columns["volume"]
    mean = kernels.weighted_mean(close, volume, timeperiod)
    if timeperiod == 1:
        return np.where(volume > 0, close, np.nan)
    return np.clip(mean, talib.MIN(close, timeperiod), talib.MAX(close, timeperiod))


def _cmf(columns: Values, *, timeperiod: int) -> FloatArray:
    _check_window(timeperiod, 1)
    high, low, close = (columns[name] for name in ("high", "low", "close"))
    place = np.divide((close - low) - (high - close), high - low, out=np.zeros_like(close), where=high != low)
    return np.clip(kernels.weighted_mean(place, columns["volume"], timeperiod), -1.0, 1.0)


def _mfi(columns: Values, *, timeperiod: int) -> FloatArray:
    _check_window(timeperiod, 2)
    return kernels.mfi(*(columns[name] for name in ("high", "low", "close", "volume")), window=timeperiod)[0]


def _vwap(columns: Values) -> FloatArray:
    typical = (columns["high"] + columns["low"] + columns["close"]) / 3
    turnover, total = np.cumsum(typical * columns["volume"]), np.cumsum(columns["volume"])
    mean = np.divide(turnover, total, out=np.full_like(typical, np.nan), where=total > 0)
    return np.clip(mean, np.minimum.accumulate(typical), np.maximum.accumulate(typical))


_WITHOUT_RESIDUE: Mapping[str, Callable[..., FloatArray]] = {"VWMA": _vwma, "CMF": _cmf, "MFI": _mfi, "VWAP": _vwap}
"""Means weighted by volume, as TA-Lib has them but for two things: they keep no residue of the bars that have left
their window, which TA-Lib serves as a price when volume dries up, and without any volume they have no value (MFI: 0).
A mean lies between the extremes of what it is a mean of."""


def of_talib(name: str) -> Computable:
    """A function by its name in capitals."""
    from talib import abstract

    function_of: Callable[[str], Any] = vars(abstract)["Function"]  # made at import; type checkers don't see it
    about = function_of(name)
    flags = about.info["function_flags"] or []
    names = about.output_names if len(about.output_names) > 1 else [name.lower()]
    inputs = _columns(about.input_names)

    def run_known(columns: Values, arguments: Mapping[str, Any]) -> list[FloatArray]:
        """Over bars without unknown inputs. TA-Lib's integers are 0 in its lookback, where there is no value."""
        try:
            if name in _WITHOUT_RESIDUE:
                return [_WITHOUT_RESIDUE[name](columns, **arguments)]
            function = function_of(name)
            function.parameters = dict(arguments)
            outputs, lookback = function(columns), int(function.lookback)
        except Exception as error:  # TA-Lib raises nothing more specific
            raise InvalidRequestError(refusal(name, arguments, error)) from None
        arrays = [np.array(a, dtype=np.float64) for a in (outputs if isinstance(outputs, list) else [outputs])]
        for values in arrays:
            values[:lookback] = np.nan
            if "volume" in inputs:  # it was divided by a volume of zero
                values[np.isinf(values)] = np.nan
        return arrays

    def run(columns: Values, arguments: Mapping[str, Any]) -> Values:
        bars = {column: columns[column] for column in BAR_FIELDS}
        results = {key: np.full(len(bars["close"]), np.nan) for key in names}
        unknown = np.logical_or.reduce([np.isnan(bars[column]) for column in inputs])
        for rows in runs(~unknown):  # it begins again after an unknown bar, as the catalog's kinds do
            known = run_known({column: values[rows] for column, values in bars.items()}, arguments)
            for key, values in zip(names, known, strict=True):
                results[key][rows] = values
        return results

    def forgets(columns: Values, arguments: Mapping[str, Any]) -> bool:
        if name not in _QUOTIENTS or any(np.isnan(columns[column]).any() for column in inputs):
            return True
        function = function_of(name)
        function.parameters = dict(arguments)
        bars = {column: columns[column] for column in BAR_FIELDS}
        return is_settled(lambda past: run(past, arguments), bars, int(function.lookback))

    def warm_up(arguments: Mapping[str, Any]) -> int | None:
        if "Output is path-dependent" in flags or name in _REMEMBERS:
            return None  # OBV, AD, SAR and the like never forget where they began
        if any(key.endswith("matype") and value in _ADAPTIVE for key, value in arguments.items()):
            return None
        function = function_of(name)
        try:
            function.parameters = dict(arguments)
            lookback = int(function.lookback)
        except Exception as error:  # TA-Lib raises nothing more specific
            raise InvalidRequestError(refusal(name, arguments, error)) from None
        if lookback < 0:  # how TA-Lib says so
            raise InvalidRequestError(refusal(name, arguments, BAD_PARAMETER))
        return lookback * FORGET + 1

    return Computable(
        name=name.lower(),
        identity=f"talib {name}",
        parameters=dict(about.parameters),
        run=run,
        warm_up=warm_up,
        forgets=forgets,
        revisits=lambda arguments: int(arguments["timeperiod"]) if name in _REREADS else 0,
    )
