"""Features that are computed when asked for: the catalog's kinds and TA-Lib's functions with parameters of the
caller's own, and what a user registers with ``@feature``."""

from __future__ import annotations

import difflib
import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Real
from typing import Any, TypeVar

import numpy as np

from feature_repo.catalog import BAR_FIELDS, INDICATORS, PRODUCER, Indicator
from feature_repo.indicators import compute
from feature_repo.stores.codec import FloatArray
from fsclient.errors import InvalidRequestError, UnknownFeatureError

Values = Mapping[str, FloatArray]
F = TypeVar("F", bound=Callable[..., Any])

_FORGET = 30  # times its lookback, a recursive average weighs what came before by less than 1e-12
_REMEMBERS = frozenset(
    {
        *("KAMA", "MAMA"),  # they adapt to the prices, so how long they remember depends on these
        *("HT_DCPERIOD", "HT_DCPHASE", "HT_PHASOR", "HT_SINE", "HT_TRENDLINE", "HT_TRENDMODE"),  # and so do these
        "HA",  # its lookback of 0 tells nothing of its recursion
        *("MAXINDEX", "MININDEX", "MINMAXINDEX"),  # they count from the first bar
    }
)
_ADAPTIVE = (6, 7)  # the average types KAMA and MAMA, of a function that takes its average's type


@dataclass(frozen=True, slots=True, kw_only=True)
class Computable:
    """Something that can be computed from bars.

    Attributes:
        name: what it is asked for by.
        identity: tells it from another of the same name: a function that is registered anew is another feature.
        parameters: its parameters with their defaults.
        run: bar columns and parameters to output arrays.
        warm_up: from parameters, how many bars must precede the first bar asked for; None for all history.
    """

    name: str
    identity: str
    parameters: Mapping[str, Any]
    run: Callable[[Values, Mapping[str, Any]], Values]
    warm_up: Callable[[Mapping[str, Any]], int | None]

    def with_parameters(self, given: Mapping[str, Any] | None) -> dict[str, Any]:
        """The defaults with ``given`` put in.

        Raises:
            InvalidRequestError: a name that it does not take, or a value that is not of the default's kind.
        """
        try:
            given = dict(given or {})
        except (TypeError, ValueError):
            raise InvalidRequestError(f"{self.name}: parameters must be a dict, not {given!r}") from None
        return {**self.parameters, **{name: self._checked(name, value) for name, value in given.items()}}

    def _checked(self, name: str, value: Any) -> Any:
        if name not in self.parameters:
            takes = ", ".join(f"{k}={v}" for k, v in self.parameters.items()) or "none"
            raise InvalidRequestError(f"{self.name} has no parameter {name!r}; it takes {takes}")
        default = self.parameters[name]
        if isinstance(default, bool) or not isinstance(default, Real):
            if value is None or isinstance(value, bool | int | float | str):  # plain, so that a key can hold it
                return value
            raise InvalidRequestError(f"{self.name}: {name} must be a number, a text, a bool or None, not {value!r}")
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise InvalidRequestError(f"{self.name}: {name} must be a number, not {value!r}")
        if not isinstance(default, int):
            return float(value)
        if value != int(value):
            raise InvalidRequestError(f"{self.name}: {name} must be a whole number, not {value!r}")
        return int(value)


_registered: dict[str, Computable] = {}


def feature(
    name: str, *, inputs: Sequence[str] = ("close",), lookback: int | None = None, **parameters: Any
) -> Callable[[F], F]:
    """Registers a function as a feature of this process, for ``compute_feature``.

    The function takes one float64 array an input, oldest bar first, and the parameters by name; it returns one array
    of the same length, or a mapping of several. It must not look ahead: its value at a bar may depend on that bar and
    earlier ones only, NaN where it has none.

    Args:
        inputs: bar columns: ``open, high, low, close, volume``.
        lookback: bars that must precede a bar for its value to be right, whatever the parameters; all history when
            not given.
        parameters: the function's parameters with their defaults.

    Raises:
        InvalidRequestError: an unknown input, a negative lookback, or a name that the catalog or TA-Lib has.
    """
    inputs = (inputs,) if isinstance(inputs, str) else tuple(inputs)
    for column in inputs:
        if column not in BAR_FIELDS:
            raise InvalidRequestError(f"@feature {name!r}: unknown input {column!r}; bars have {', '.join(BAR_FIELDS)}")
    if lookback is not None and lookback < 0:
        raise InvalidRequestError(f"@feature {name!r}: lookback must be 0 or more bars, not {lookback}")
    if name in _templates() or name in PRODUCER or name.upper() in _talib_names():
        raise InvalidRequestError(f"@feature {name!r}: the catalog or TA-Lib has that name; choose another")

    def register(function: F) -> F:
        def run(columns: Values, given: Mapping[str, Any]) -> Values:
            try:
                found = function(*(columns[c] for c in inputs), **given)
            except Exception as error:  # the user's own, whatever it is: no outage of a store
                raise InvalidRequestError(f"@feature {name!r} failed: {type(error).__name__}: {error}") from error
            return _checked(name, found if isinstance(found, Mapping) else {name: found}, len(columns["close"]))

        identity = f"{name}#{secrets.token_hex(8)}"
        _registered[name] = Computable(
            name=name, identity=identity, parameters=dict(parameters), run=run, warm_up=lambda _: lookback
        )
        return function

    return register


def computable(name: str) -> Computable:
    """What ``name`` stands for: a registered feature, a kind of the catalog, a TA-Lib function, or a catalog field.

    Raises:
        UnknownFeatureError: none of them; names the nearest.
    """
    name = str(name)
    if name in _registered:
        return _registered[name]
    if name in _templates():
        return _of_kind(_templates()[name])
    if name in PRODUCER:
        return _of_field(name)
    if name.upper() in _talib_names():
        return _of_talib(name.upper())
    known = [*_registered, *_templates(), *PRODUCER, *_talib_names()]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f" Did you mean {', '.join(near)}?" if near else ""
    raise UnknownFeatureError(
        f"unknown feature {name!a}.{hint} compute_feature takes the catalog's kinds, TA-Lib's functions and @feature's"
    )


@cache
def _templates() -> Mapping[str, Indicator]:
    """The first indicator of each kind: its parameters are the kind's defaults."""
    return {i.kind: i for i in tuple(INDICATORS.values())[::-1]}


def _of_kind(template: Indicator) -> Computable:
    single = len(template.outputs) == 1
    recursive = template.warm_up is not None and template.warm_up > template.lookback

    def run(columns: Values, given: Mapping[str, Any]) -> Values:
        outputs = (template.kind,) if single else template.outputs
        spec = Indicator(
            name=template.kind,
            kind=template.kind,
            parameters=given,
            inputs=template.inputs,
            outputs=outputs,
            lookback=template.lookback,
            warm_up=template.warm_up,
        )
        try:
            return compute(spec, columns)
        except ValueError as error:
            raise InvalidRequestError(str(error)) from None

    def warm_up(given: Mapping[str, Any]) -> int | None:
        if template.warm_up is None or not given:
            return template.warm_up
        bars = sum(max(0, v) for v in given.values() if isinstance(v, int)) + 1
        return bars * _FORGET if recursive else bars

    return Computable(
        name=template.kind, identity=template.kind, parameters=template.parameters, run=run, warm_up=warm_up
    )


def _of_field(name: str) -> Computable:
    indicator = PRODUCER[name]
    return Computable(
        name=name,
        identity=name,
        parameters={},
        run=lambda columns, _: {name: compute(indicator, columns)[name]},
        warm_up=lambda _: indicator.warm_up,
    )


@cache
def _talib_names() -> frozenset[str]:
    import talib

    return frozenset(talib.get_functions()) - {"MAVP"}  # type: ignore[no-untyped-call]  # MAVP takes a period for each bar, which no bar has


def _of_talib(name: str) -> Computable:
    from talib import abstract

    function_of: Callable[[str], Any] = vars(abstract)["Function"]  # made at import; type checkers don't see it
    about = function_of(name)
    flags = about.info["function_flags"] or []

    def run(columns: Values, given: Mapping[str, Any]) -> Values:
        try:
            found = function_of(name)({c: columns[c] for c in BAR_FIELDS}, **given)
        except Exception as error:  # TA-Lib raises nothing more specific
            raise InvalidRequestError(f"{name} with {dict(given)}: {error}") from None
        arrays = found if isinstance(found, list) else [found]
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
            raise InvalidRequestError(f"{name} with {dict(given)}: {error}") from None
        if lookback < 0:  # how TA-Lib says so
            raise InvalidRequestError(f"{name} with {dict(given)}: a parameter is out of its range")
        return lookback * _FORGET + 1

    return Computable(
        name=name.lower(), identity=f"talib {name}", parameters=dict(about.parameters), run=run, warm_up=warm_up
    )


def _checked(name: str, found: Mapping[str, Any], bars: int) -> Values:
    try:
        outputs = {key: np.asarray(values, dtype=np.float64) for key, values in found.items()}
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"@feature {name!r} gave no numbers: {error}") from None
    for key, values in outputs.items():
        if values.shape != (bars,):
            raise InvalidRequestError(f"@feature {name!r} gave {key} of shape {values.shape} for {bars} bars")
    return outputs
