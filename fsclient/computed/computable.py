"""What can be computed from bars when it is asked for: how, with which parameters, from how much history."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

from feature_repo.stores.redis.codec import FloatArray
from fsclient.errors import InvalidRequestError

Values = Mapping[str, FloatArray]

FORGET = 30
"""After this many times its lookback, a recursive average weighs what came before by less than 1e-12."""
MOST_STEPS = 500_000_000
"""Bars times window of what reads its window again for each bar: about a second's work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Computable:
    """Something that can be computed from bars.

    Attributes:
        name: what it is asked for by.
        identity: distinguishes it from another of the same name: a function registered again is another feature.
        parameters: its parameters with their defaults.
        run: bar columns and parameters to output arrays.
        warm_up: from parameters, how many bars must precede the first bar asked for; None for all history.
        forgets: from columns and parameters, whether what preceded these bars (at least ``warm_up`` of them) is of no
            matter to the values that follow them.
        revisits: from parameters, how many bars are read again for each value; 0 when a running sum or the like does.
        is_own: whether only this process knows it.
    """

    name: str
    identity: str
    parameters: Mapping[str, Any]
    run: Callable[[Values, Mapping[str, Any]], Values]
    warm_up: Callable[[Mapping[str, Any]], int | None]
    forgets: Callable[[Values, Mapping[str, Any]], bool] = lambda _columns, _parameters: True
    revisits: Callable[[Mapping[str, Any]], int] = lambda _: 0
    is_own: bool = False

    def compute(self, columns: Values, arguments: Mapping[str, Any]) -> Values:
        """The outputs over bar columns.

        Raises:
            InvalidRequestError: a parameter is out of its range, or this would keep a thread busy for seconds, which
                no deadline can end.
        """
        bars = len(columns["close"])
        if bars * min(self.revisits(arguments), bars) > MOST_STEPS:
            raise InvalidRequestError(
                f"{self.name} with {dict(arguments)} over {bars:,} bars (its warm-up included) takes more than "
                f"{MOST_STEPS:,} steps, one for each bar of each window; ask for a shorter range or window"
            )
        return self.run(columns, arguments)

    def with_parameters(self, arguments: Mapping[str, Any] | None) -> dict[str, Any]:
        """The defaults, replaced by the caller's ``arguments`` where these name a value.

        Raises:
            InvalidRequestError: a name that it does not take, or a value that is not of the default's kind.
        """
        try:
            arguments = dict(arguments or {})
        except (TypeError, ValueError):
            raise InvalidRequestError(f"{self.name}: parameters must be a dict, not {arguments!r}") from None
        return {**self.parameters, **{name: self._checked(name, value) for name, value in arguments.items()}}

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
