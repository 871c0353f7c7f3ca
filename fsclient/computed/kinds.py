"""The catalog's kinds of indicators with parameters of the caller's own, and its fields as they are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from feature_repo.catalog import INDICATORS, PRODUCER, Indicator
from feature_repo.indicators import compute
from fsclient.computed.computable import FORGET, Computable, Values
from fsclient.computed.talib_functions import refusal
from fsclient.errors import InvalidRequestError

_REREADS = frozenset({"bollinger", "cci", "zscore"})
"""Kinds whose time grows with their window."""
_USUAL = ("sma_20", "ema_20", "rsi_14")
"""Of the kinds that have several indicators, the usual ones."""


@cache
def templates() -> Mapping[str, Indicator]:
    """Of each kind the indicator whose parameters are the kind's defaults."""
    return {i.kind: i for i in (*INDICATORS.values(), *(INDICATORS[name] for name in _USUAL))}


def of_kind(template: Indicator) -> Computable:
    """A kind, its template's parameters the defaults."""
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
            raise InvalidRequestError(refusal(template.kind, given, error.__cause__ or error)) from None

    def warm_up(given: Mapping[str, Any]) -> int | None:
        if template.warm_up is None or not given:
            return template.warm_up
        bars = sum(max(0, v) for v in given.values() if isinstance(v, int)) + 1
        return bars * FORGET if recursive else bars

    return Computable(
        name=template.kind,
        identity=template.kind,
        parameters=template.parameters,
        run=run,
        warm_up=warm_up,
        revisits=lambda given: int(given["window"]) if template.kind in _REREADS else 0,
    )


def of_field(name: str) -> Computable:
    """A field of the catalog, which has no parameters."""
    indicator = PRODUCER[name]
    return Computable(
        name=name,
        identity=name,
        parameters={},
        run=lambda columns, _: {name: compute(indicator, columns)[name]},
        warm_up=lambda _: indicator.warm_up,
    )
