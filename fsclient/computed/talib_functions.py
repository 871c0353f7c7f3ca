"""TA-Lib's functions, each with parameters of the caller's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from feature_repo.catalog import BAR_FIELDS
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
_REREADS = frozenset({"AVGDEV", "CCI", "IMI", "PERCENTILE", "PERCENTRANK", "VHF"})
"""Those whose time was measured to grow with their period."""


def refusal(name: str, given: Mapping[str, Any], error: object) -> str:
    """Why TA-Lib does not compute it, in the caller's words."""
    why = str(error)
    if BAD_PARAMETER in why:
        why = "a parameter is out of its range (of most windows, 2 to 100,000 bars)"
    return f"{name} with {dict(given)}: {why}"


@cache
def talib_names() -> frozenset[str]:
    """The functions that can be computed from bars."""
    import talib

    return frozenset(talib.get_functions()) - {NO_FEATURE}  # type: ignore[no-untyped-call]


def of_talib(name: str) -> Computable:
    """A function by its name in capitals."""
    from talib import abstract

    function_of: Callable[[str], Any] = vars(abstract)["Function"]  # made at import; type checkers don't see it
    about = function_of(name)
    flags = about.info["function_flags"] or []

    def run(columns: Values, given: Mapping[str, Any]) -> Values:
        try:
            outputs = function_of(name)({c: columns[c] for c in BAR_FIELDS}, **given)
        except Exception as error:  # TA-Lib raises nothing more specific
            raise InvalidRequestError(refusal(name, given, error)) from None
        arrays = outputs if isinstance(outputs, list) else [outputs]
        names = about.output_names if len(arrays) > 1 else [name.lower()]
        return {key: np.asarray(a, dtype=np.float64) for key, a in zip(names, arrays, strict=True)}

    def warm_up(given: Mapping[str, Any]) -> int | None:
        if "Output is path-dependent" in flags or name in _REMEMBERS:
            return None  # OBV, AD, SAR and the like never forget where they began
        if any(key.endswith("matype") and value in _ADAPTIVE for key, value in given.items()):
            return None
        function = function_of(name)
        try:
            function.parameters = dict(given)
            lookback = int(function.lookback)
        except Exception as error:  # TA-Lib raises nothing more specific
            raise InvalidRequestError(refusal(name, given, error)) from None
        if lookback < 0:  # how TA-Lib says so
            raise InvalidRequestError(refusal(name, given, BAD_PARAMETER))
        return lookback * FORGET + 1

    return Computable(
        name=name.lower(),
        identity=f"talib {name}",
        parameters=dict(about.parameters),
        run=run,
        warm_up=warm_up,
        revisits=lambda given: int(given["timeperiod"]) if name in _REREADS else 0,
    )
