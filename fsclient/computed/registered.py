"""What a user registers with ``@feature``."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from feature_repo.catalog import BAR_FIELDS, PRODUCER
from fsclient.computed.computable import Computable, Values
from fsclient.computed.kinds import templates
from fsclient.computed.talib_functions import talib_names
from fsclient.errors import InvalidRequestError

F = TypeVar("F", bound=Callable[..., Any])

registered: dict[str, Computable] = {}
"""By name, in the order in which they were registered."""


def feature(
    name: str, *, inputs: Sequence[str] = ("close",), lookback: int | None = None, **parameters: Any
) -> Callable[[F], F]:
    """Registers a function as a feature of this process, for ``compute_feature``.

    The function takes one float64 array per input, oldest bar first, and the parameters by name; it returns one array
    of the same length, or a mapping of several. It must not look ahead: its value at a bar may depend on that bar and
    earlier ones only, NaN where it has none.

    Args:
        inputs: bar columns: ``open, high, low, close, volume``.
        lookback: bars that must precede a bar for its value to be right, whatever the parameters; None for all
            of history.
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
    if name in templates() or name in PRODUCER or name.upper() in talib_names():
        raise InvalidRequestError(f"@feature {name!r}: the catalog or TA-Lib has that name; choose another")

    def register(function: F) -> F:
        def run(columns: Values, arguments: Mapping[str, Any]) -> Values:
            try:
                outputs = function(*(columns[c] for c in inputs), **arguments)
            except Exception as error:  # the user's own, whatever it is: no outage of a store
                raise InvalidRequestError(f"@feature {name!r} failed: {type(error).__name__}: {error}") from error
            return _checked(name, outputs if isinstance(outputs, Mapping) else {name: outputs}, len(columns["close"]))

        identity = f"{name}#{secrets.token_hex(8)}"
        registered[name] = Computable(
            name=name,
            identity=identity,
            parameters=dict(parameters),
            run=run,
            warm_up=lambda _: lookback,
            is_own=True,
        )
        return function

    return register


def _checked(name: str, results: Mapping[str, Any], bars: int) -> Values:
    try:
        outputs = {key: np.asarray(values, dtype=np.float64) for key, values in results.items()}
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"@feature {name!r} returned no numbers: {error}") from None
    for key, values in outputs.items():
        if values.shape != (bars,):
            raise InvalidRequestError(f"@feature {name!r} returned {key} of shape {values.shape} for {bars} bars")
    return outputs
